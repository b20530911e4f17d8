// How far away lies what the open head looks at, and what moves the model's output: columns of weight, a line of
// influence, numbers. Where the page shows influence alone, the columns are influence.

const influence = look.influence?.profile.length ? look.influence : null; // drawn beside weights
const WITHIN = ["50%", "90%", "99%"];
const LIMITS = influenceOnly
  ? "Influence is squared change per small change: it says what moves an encoding, not why, and nothing of changes "
    + "that are large."
  : "Weight is not cause: it says where a head looks, not what the model's answer depends on.";
const LINE = " The line comes nearer to that: how far away lie the inputs whose small changes move the output, through "
  + "all layers and heads, in this text.";
const INFLUENCE = "Influence: squared change of an output row by a change of an input, as its part of all that moves "
  + "that row. ";

function profilePart() {
  const host = html("div", { class: "plot" });
  const name = html("small", {});
  const numbers = html("div", {});
  let last = null;
  const redraw = () => {
    if (last && host.clientWidth) host.replaceChildren(histogram(host.clientWidth, profileOf(last)));
  };
  onWidth(host, redraw);
  const share = influenceOnly
    ? "Share of the influence by how many pieces lie between an encoding and what moves it"
    : "Share of the weight by how many pieces lie between, over all that look";
  const omitted = look.special.length ? "; what falls on special tokens is not in it" : "";
  const about = look.influence && html("p", { class: "quiet hint", id: "influence" },
    influence ? INFLUENCE + influence.about : look.influence.about);
  return {
    node: html("section", { id: "profile" }, html("h2", {}, "Distance ", name), influence ? legend() : null, host,
      html("p", { class: "quiet hint" }, `${share}${omitted}.`), numbers,
      html("p", { class: "limits" }, LIMITS, influence ? LINE : null), about),
    draw() {
      [last] = state.shown;
      name.textContent = influenceOnly ? "" : `of ${nameOf(last)}`;
      const rows = knownStatistics().map((name) => {
        const [title, write, unit] = STATISTICS[name];
        return [title, write(statistic(name, last)) + unit];
      });
      numbers.replaceChildren(look.within ? withinTable(look.within[last]) : "", definitions("numbers", rows));
      redraw();
    },
  };
}

function legend() {
  const key = (kind, text) => html("span", { class: "sign" }, html("i", { class: kind }), text);
  return html("p", { class: "quiet", id: "legend" }, key("weight", "weight of this head"), " ",
    key("influence", "influence on the model's output"));
}

// Within how many pieces, to either side, these shares lie.
function withinTable(weight) {
  const rows = [[influenceOnly ? "influence" : "weight", weight]];
  if (influence) rows.push(["influence", influence.within]);
  const header = html("tr", { class: "quiet" }, html("td", {}, "within, in pieces"),
    WITHIN.map((share) => html("th", { scope: "col" }, share)));
  return html("table", { class: "within" }, html("tbody", {}, header, rows.map(([name, distances]) =>
    html("tr", {}, html("th", { class: "quiet", scope: "row" }, name),
      distances.map((distance) => html("td", {}, distance === null ? NONE : String(distance)))))));
}

function binText([low, high]) {
  const [near, far] = [Math.abs(low), Math.abs(high)].sort((a, b) => a - b);
  return near === far ? String(near) : `${near}–${far}`;
}

function histogram(width, shares) {
  const box = { left: 34, right: width - 4, top: 18, bottom: 190 };
  const most = Math.max(0.1, ...shares, ...(influence ? influence.profile : []));
  const pitch = (box.right - box.left) / shares.length;
  const x = (i) => box.left + pitch * i;
  const y = (share) => box.bottom - (share / most) * (box.bottom - box.top);
  const bins = look.bins.map(binText);
  const skip = Math.ceil((8 + 7 * Math.max(...bins.map((bin) => bin.length))) / pitch);
  const middle = look.bins.findIndex(([low, high]) => low === 0 && high === 0);
  const describe = (i) => {
    const side = i === middle ? "itself" : i < middle ? "back" : "ahead";
    const beside = influence ? `; influence ${tenths(influence.profile[i])}` : "";
    return `${bins[i]} ${side}: ${tenths(shares[i])}${beside}`;
  };
  const column = (share, i) => {
    const size = { width: Math.max(pitch - 3, 1), height: box.bottom - y(share) };
    const place = Math.min(x(i + 0.5), width - 3.6 * bins[i].length); // so that the last one stays whole
    return [
      svg("rect", { class: "column", x: x(i) + 1.5, y: y(share), ...size, rx: 2, "data-share": share },
        svg("title", {}, describe(i))),
      (i - middle) % skip ? null : svg("text", { x: place, y: box.bottom + 16, "text-anchor": "middle" },
        i === middle ? "itself" : bins[i]),
    ];
  };
  const name = `share of the ${influenceOnly ? "influence" : "weight"} by distance`;
  return svg("svg", { viewBox: `0 0 ${width} 236`, height: 236, role: "img", "aria-label": name },
    gridRows(box, [0, most / 2, most], y, percent),
    shares.map(column),
    influence ? svg("path", { class: "influence", d: outline(influence.profile, x, y, box.bottom) }) : null,
    svg("text", { x: box.left, y: box.bottom + 38 }, "← back"),
    svg("text", { x: box.right, y: box.bottom + 38, "text-anchor": "end" }, "ahead →"));
}

// A line over the columns, level over each.
function outline(shares, x, y, bottom) {
  const steps = shares.map((share, i) => `L${x(i).toFixed(1)} ${y(share).toFixed(1)}H${x(i + 1).toFixed(1)}`);
  return `M${x(0)} ${bottom}${steps.join("")}V${bottom}`;
}

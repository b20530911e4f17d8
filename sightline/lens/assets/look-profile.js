// How far away lies what the open head looks at, and what moves the model's output: columns of weight, a line of influence, numbers.
// Where the page shows influence alone, the columns are influence.

const moving = look.influence && look.influence.profile.length ? look.influence : null; // beside weights, where it could be had
const NUMBERS = {
  entropy: ["entropy", (x) => `${rounded(x)} nats`], distance: ["mean distance", (x) => `${rounded(x)} pieces`],
  previous: ["on the piece before", percent], next: ["on the next piece", percent], first: ["on the first piece", percent],
  special: ["on special tokens", percent], binding: ["on the binding, from a use", percent],
};
const WITHIN = ["50%", "90%", "99%"];
const HONEST = alone
  ? "Influence is squared change per small change: it says what moves an encoding, not why, and nothing of changes that are large."
  : "Weight is not cause: it says where a head looks, not what the model's answer depends on.";
const PAIR = " The line comes nearer to that: how far away lie the inputs whose small changes move the output, through all layers and heads, in this text.";

function profile() {
  const host = html("div", { class: "plot" });
  const name = html("small", {});
  const table = html("dl", { class: "numbers" });
  const reach = html("div", {});
  let last = null;
  const redraw = () => { if (last && host.clientWidth) host.replaceChildren(histogram(host.clientWidth, profileOf(last))); };
  new ResizeObserver(redraw).observe(host);
  const left = look.special.length ? "; what falls on special tokens is not in it" : "";
  const share = alone ? "Share of the influence by how many pieces lie between an encoding and what moves it" : "Share of the weight by how many pieces lie between, over all that look";
  return {
    node: html("section", { id: "profile" }, html("h2", {}, "Distance ", name), moving ? legend() : null, host,
      html("p", { class: "quiet hint" }, `${share}${left}.`), reach, table,
      html("p", { class: "honest" }, HONEST, moving ? PAIR : null),
      look.influence ? html("p", { class: "quiet hint", id: "asked" }, moving ? `Influence: squared change of an output row by a change of an input, as its part of all that moves that row. ${look.influence.about}` : look.influence.about) : null),
    draw() {
      [last] = state.shown;
      name.textContent = alone ? "" : `of ${nameOf(last)}`;
      reach.replaceChildren(...(look.within ? [within(look.within[last])] : []));
      table.replaceChildren(...Object.entries(NUMBERS).filter(([key]) => look.statistics[key] && (key !== "special" || look.special.length))
        .flatMap(([key, [words, write]]) => [html("dt", {}, words), html("dd", {}, write(statistic(key, last)))]));
      redraw();
    },
  };
}

const key = (style, ...words) => html("span", { style: "margin-right:1.1rem;white-space:nowrap" },
  html("i", { style: `display:inline-block;width:1.1em;height:.7em;margin-right:.4em;border-radius:2px;${style}` }), words);
const legend = () => html("p", { class: "quiet", id: "legend", style: "margin-bottom:.5rem" },
  key("background:var(--blue)", "weight of this head"), " ", key("border:2px solid var(--under);border-bottom:0;border-radius:0", "influence on the model's output"));

// Within how many pieces, to either side, so much of it lies.
function within(weight) {
  const rows = [[alone ? "influence" : "weight", weight], ...(moving ? [["influence", moving.within]] : [])];
  const cell = "padding:.1rem 1.2rem .1rem 0;text-align:right;font-weight:400";
  const head = html("tr", { class: "quiet" }, html("td", { style: cell }, "within, in pieces"), WITHIN.map((share) => html("th", { scope: "col", style: cell }, share)));
  return html("table", { class: "within", style: "border-collapse:collapse;margin-top:1.1rem;font-size:.875rem;font-variant-numeric:tabular-nums" },
    html("tbody", {}, head, rows.map(([name, found]) => html("tr", {}, html("th", { class: "quiet", scope: "row", style: `${cell};text-align:left` }, name),
      found.map((far) => html("td", { style: cell }, far === null ? "–" : String(far)))))));
}

const binned = ([low, high]) => {
  const [near, far] = [Math.min(Math.abs(low), Math.abs(high)), Math.max(Math.abs(low), Math.abs(high))];
  return near === far ? String(near) : `${near}–${far}`;
};

function histogram(width, shares) {
  const box = { left: 34, right: width - 4, top: 18, bottom: 190 };
  const most = Math.max(0.1, ...shares, ...(moving ? moving.profile : []));
  const pitch = (box.right - box.left) / shares.length;
  const y = (share) => box.bottom - (share / most) * (box.bottom - box.top);
  const skip = Math.ceil((8 + 7 * Math.max(...look.bins.map((bin) => binned(bin).length))) / pitch);
  const middle = look.bins.findIndex(([low, high]) => low === 0 && high === 0);
  const ticks = [0, most / 2, most];
  const tick = (i) => Math.min(box.left + pitch * (i + 0.5), width - 3.6 * binned(look.bins[i]).length); // whole at the edge
  const told = (i) => [`${binned(look.bins[i])} ${i === middle ? "itself" : i < middle ? "back" : "ahead"}: ${(100 * shares[i]).toFixed(1)}%`,
    moving ? `; influence ${(100 * moving.profile[i]).toFixed(1)}%` : ""].join("");
  return svg("svg", { viewBox: `0 0 ${width} 236`, height: 236, role: "img", "aria-label": `share of the ${alone ? "influence" : "weight"} by distance` },
    ticks.map((t) => [svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(t), y2: y(t) }),
      svg("text", { x: box.left - 6, y: y(t) + 4, "text-anchor": "end" }, percent(t))]),
    shares.map((share, i) => [
      svg("rect", { class: "column", x: box.left + pitch * i + 1.5, y: y(share), width: Math.max(pitch - 3, 1), height: box.bottom - y(share), rx: 2, "data-share": share },
        svg("title", {}, told(i))),
      (i - middle) % skip === 0 ? svg("text", { x: tick(i), y: box.bottom + 16, "text-anchor": "middle" }, i === middle ? "itself" : binned(look.bins[i])) : null,
    ]),
    moving ? svg("path", { class: "influence", d: steps(moving.profile, (i) => box.left + pitch * i, y, box.bottom), style: "fill:none;stroke:var(--under);stroke-width:2;stroke-linejoin:round;pointer-events:none" }) : null,
    svg("text", { x: box.left, y: box.bottom + 38 }, "← back"), svg("text", { x: box.right, y: box.bottom + 38, "text-anchor": "end" }, "ahead →"));
}

// An outline over the columns: level over each bin.
const steps = (shares, x, y, bottom) => `M${x(0)} ${bottom}${shares.map((share, i) => `L${x(i).toFixed(1)} ${y(share).toFixed(1)}H${x(i + 1).toFixed(1)}`).join("")}V${bottom}`;

// The pictures of a claim: lines with the range of their seeds, and who hears whom as small maps.

// An encoder's colour goes to all that has its name: "rnn", "self-attention, window 16", "dilated convolution".
const ENCODERS = Object.keys(KINDS);
const family = (name) => ENCODERS.find((kind) => name === kind || name.startsWith(`${kind},`) || name.endsWith(` ${kind}`)) || "other";
const variants = {};
const variant = (name) => {
  const kind = family(name);
  if (name === kind) return 0;
  const some = (variants[kind] ||= []);
  if (!some.includes(name)) some.push(name);
  return some.indexOf(name) + 1;
};
const named = (name) => [dot(family(name), variant(name)), name];

const RAISED = { "-": "⁻", ...Object.fromEntries([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].map((letter, i) => [i, letter])) };
const power = (n) => `10${[...String(n)].map((letter) => RAISED[letter]).join("")}`;
// 4096 as 4,096, and 0.0000002 as 2·10⁻⁷.
function whole(x) {
  if (Number.isInteger(x) && Math.abs(x) < 1e6) return x.toLocaleString("en");
  if (x === 0 || (Math.abs(x) >= 1e-3 && Math.abs(x) < 1e6)) return digits(x);
  const [front, n] = x.toExponential(1).split("e");
  return `${+front === 1 ? "" : `${+front}·`}${power(+n)}`;
}

// ---- lines -------------------------------------------------------------------------------------------------------------
// A logarithmic axis has no place for 0; what is left out there is said below the picture.
function placed(picture) {
  const upLog = picture.y.scale === "log";
  const acrossLog = picture.x.scale === "log";
  const fits = ({ x, y }) => Number.isFinite(x) && Number.isFinite(y) && !(acrossLog && x <= 0) && !(upLog && y <= 0);
  const point = ([x, y, low, high]) => (low === undefined ? { x, y } : { x, y, low: upLog && low <= 0 ? y : low, high });
  const lines = picture.series.map(({ name, points }) => {
    const all = points.map(point);
    return { kind: family(name), label: name, variant: variant(name), marks: true, band: true, points: all.filter(fits), away: all.filter((p) => !fits(p)) };
  });
  const twins = new Map(); // those that lie on each other all the way are drawn in stripes
  for (const line of lines) {
    const way = JSON.stringify(line.points.map(({ x, y }) => [x, y]));
    twins.set(way, [...(twins.get(way) || []), line]);
  }
  for (const same of twins.values()) same.forEach((line, i) => { line.stripe = [i, same.length]; });
  return lines;
}

function spec(picture, lines) {
  const { x, y, levels = [], marks = [] } = picture;
  const some = lines.filter((line) => line.points.length).sort((a, b) => (a.label === "self-attention") - (b.label === "self-attention"));
  const stations = [...new Set(some.flatMap((line) => line.points.map((p) => p.x)))].sort((a, b) => a - b);
  const baselines = levels
    .map(({ name, y: height, points }) => ({ label: name, points: points ? points.map(([at, v]) => ({ x: at, y: v })) : stations.map((at) => ({ x: at, y: height })) }))
    .filter((level) => level.points.every((p) => Number.isFinite(p.y) && !(y.scale === "log" && p.y <= 0)));
  const [low, high] = extent([...some, ...baselines], "y", "low", "high");
  const [left, right] = extent([...some, { points: marks }], "x");
  const up = (steps) => (y.scale === "log" ? tall(low, high, steps)
    : y.percent ? linear(Math.min(0, low), Math.max(1, high), steps) : linear(low, high, steps));
  const across = (steps) => (x.ticks ? categories(x.ticks) : x.scale === "log" ? stepped(stations, left, right, steps) : linear(left, right, steps));
  const height = (v) => (y.percent ? `${(100 * v).toFixed(1)}%` : whole(v));
  const place = (v) => (x.ticks ? String(x.ticks[v]) : whole(v));
  return {
    lines: some, baselines, upright: marks.map((mark) => ({ label: mark.name, x: mark.x })), x: across, y: up,
    xname: x.name + (x.scale === "log" ? " (log scale)" : ""), yname: y.name + (y.percent ? ", %" : "") + (y.scale === "log" ? " (log scale)" : ""),
    xtick: place, ytick: (v) => (y.percent ? String(+(100 * v).toPrecision(3)) : whole(v)),
    xhover: (v) => (x.ticks ? place(v) : `${x.name}: ${place(v)}`), yhover: height,
  };
}

// What is less than so small a part of the largest stands on the bottom, and the rest can be told apart.
const FLOOR = 1e-12;
const sunk = (lines, { y }) => {
  const floor = FLOOR * extent(lines, "y", "high")[1];
  return y.scale === "log" ? lines.flatMap((line) => line.points.filter((p) => p.y < floor).map((p) => ({ ...p, label: line.label }))) : [];
};

function tall(low, high, steps) {
  const { ticks, at } = logarithmic(Math.max(low, FLOOR * high), high, steps, 1.3);
  const apart = Math.ceil(ticks.length / (steps + 1)); // of powers of ten, with 1 among them
  const some = apart > 1 ? ticks.filter((v) => Math.round(Math.log10(v)) % apart === 0) : ticks;
  return { ticks: some, at: (v) => Math.max(0, at(v)) };
}

const thinned = ({ ticks, at }, steps) => ({ ticks: ticks.filter((_, i) => i % Math.ceil(ticks.length / steps) === 0), at });

// Ticks where something was measured, as far as these places lie apart.
function stepped(stations, left, right, steps) {
  const scale = logarithmic(left, right, steps, 1.15);
  const apart = stations.every((v, i) => !i || v / stations[i - 1] >= 1.4);
  return apart && stations.length > 1 ? thinned({ ticks: stations, at: scale.at }, steps) : thinned(scale, steps);
}

const absent = (line) => `${line.label} at ${line.away.map((p) => whole(p.x)).join(", ")}`;

function linesOf(picture) {
  const lines = placed(picture);
  const away = lines.filter((line) => line.away.length);
  const notes = away.length ? [`Not drawn, since a logarithmic axis has no place for 0: ${away.map(absent).join("; ")}.`] : [];
  const low = sunk(lines, picture);
  if (low.length) notes.push(`On the bottom line stands what is smaller still: ${low.map(({ label, x, y }) => `${label} at ${whole(x)}, ${whole(y)}`).join("; ")}.`);
  if (!lines.some((line) => line.points.length)) return [html("p", { class: "nothing" }, "Nothing was measured that could be drawn."), ...notes];
  return [fitted(html("div", { class: "plot" }), spec(picture, lines)), ...notes];
}

// ---- maps --------------------------------------------------------------------------------------------------------------
const SCALE = 10; // units of a pixel, so that a thin line could stand between them

function map(name, rows, layer) {
  const width = Math.max(...rows.map((row) => row.length));
  const runs = rows.flatMap((row, down) => [...row.matchAll(/1+/g)].map((run) => `M${run.index * SCALE} ${down * SCALE}h${run[0].length * SCALE}v${SCALE}h${-run[0].length * SCALE}z`));
  const heard = rows.reduce((sum, row) => sum + row.replaceAll("0", "").length, 0);
  const part = `${((100 * heard) / (width * rows.length)).toFixed(0)}%`;
  const after = `${layer + 1} layer${layer ? "s" : ""}`;
  return html("div", { class: "map" },
    svg("svg", { viewBox: `0 0 ${width * SCALE} ${rows.length * SCALE}`, role: "img", "aria-label": `${name}, after ${after}: ${part} of all pairs are heard`, "data-layer": layer },
      svg("rect", { class: "unheard", width: width * SCALE, height: rows.length * SCALE }),
      svg("path", { d: runs.join(""), style: `fill:${color(family(name))}` })),
    html("div", { class: "under" }, html("span", {}, after), html("b", {}, part)));
}

function mapsOf(picture) {
  const key = html("p", { class: "mapkey" }, html("span", {}, "↓ the row that hears"), html("span", {}, "→ the input it hears of"), html("span", {}, "% of all pairs, after so many layers"));
  const cards = picture.maps.map(({ name, layers }) => html("div", { class: "card", "data-name": name },
    html("div", { class: "of" }, named(name)), html("div", { class: "layers" }, layers.filter((rows) => rows.length).map((rows, i) => pointed(map(name, rows, i), rows)))));
  return [key, html("div", { class: "maps" }, cards)];
}

// Under the pointer: which pair, and whether it is heard.
function pointed(host, rows) {
  const canvas = host.querySelector("svg");
  const tip = html("div", { class: "tip" });
  host.append(tip);
  const hide = () => { tip.style.visibility = "hidden"; };
  const show = (event) => {
    const frame = canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - frame.top) / frame.height) * rows.length);
    const input = Math.floor(((event.clientX - frame.left) / frame.width) * Math.max(...rows.map((one) => one.length)));
    if (!rows[row] || rows[row][input] === undefined) return hide();
    tip.textContent = `row ${row}, input ${input}: ${rows[row][input] === "1" ? "heard" : "not heard"}`;
    tip.style.visibility = "visible";
  };
  canvas.addEventListener("pointermove", show);
  canvas.addEventListener("pointerdown", show);
  canvas.addEventListener("pointerleave", hide);
  return host;
}

function picture(one) {
  const SHAPES = { lines: linesOf, maps: mapsOf };
  const drawn = Object.hasOwn(SHAPES, one.shape) ? SHAPES[one.shape](one) : [html("p", { class: "nothing" }, `This page cannot draw the shape ${one.shape}.`)];
  const note = drawn.filter((part) => typeof part === "string");
  return html("figure", { class: `picture of-${one.shape === "maps" ? "maps" : "lines"}` }, html("h3", {}, prose(one.title)),
    drawn.filter((part) => typeof part !== "string"), html("figcaption", {}, prose(one.caption), note.map((text) => ` ${text}`)));
}

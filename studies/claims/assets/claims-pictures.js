// The pictures of a claim: lines with the range of their seeds, and receptive fields as small maps.

// All variants of an encoder have its colour: "rnn", "self-attention, window 16", "dilated convolution".
const ENCODERS = Object.keys(KINDS);
const familyOf = (name) =>
  ENCODERS.find((kind) => name === kind || name.startsWith(`${kind},`) || name.endsWith(` ${kind}`)) || "other";
const variants = {}; // family -> names of its variants, in the order of their first use
function variantOf(name) {
  const family = familyOf(name);
  if (name === family) return 0;
  const names = (variants[family] ||= []);
  if (!names.includes(name)) names.push(name);
  return names.indexOf(name) + 1;
}
const encoderName = (name) => [dot(familyOf(name), variantOf(name)), name];

const RAISED = { "-": "⁻", ...Object.fromEntries([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].map((letter, i) => [i, letter])) };
// 4096 as 4,096, and 0.0000002 as 2·10⁻⁷.
function numberText(x) {
  if (Number.isInteger(x) && Math.abs(x) < 1e6) return grouped(x);
  if (x === 0 || (Math.abs(x) >= 1e-3 && Math.abs(x) < 1e6)) return digits(x);
  const [front, power] = x.toExponential(1).split("e");
  return `${+front === 1 ? "" : `${+front}·`}10${[...String(+power)].map((letter) => RAISED[letter]).join("")}`;
}
const nothing = (text) => html("p", { class: "nothing" }, text);

// ---- lines -----------------------------------------------------------------------------------------------------
// A logarithmic axis has no place for 0; the text below the picture lists what is omitted.
function plotLines({ x: across, y: up, series }) {
  const fits = ({ x, y }) => Number.isFinite(x) && Number.isFinite(y)
    && !(across.scale === "log" && x <= 0) && !(up.scale === "log" && y <= 0);
  const point = ([x, y, low, high]) =>
    (low === undefined ? { x, y } : { x, y, low: up.scale === "log" && low <= 0 ? y : low, high });
  const lines = series.map(({ name, points }) => {
    const all = points.map(point);
    return {
      kind: familyOf(name), label: name, variant: variantOf(name), marks: true, band: true,
      points: all.filter(fits), omitted: all.filter((p) => !fits(p)),
    };
  });
  const coincident = new Map(); // lines that coincide are drawn in stripes
  for (const line of lines) {
    const key = JSON.stringify(line.points.map(({ x, y }) => [x, y]));
    coincident.set(key, [...(coincident.get(key) || []), line]);
  }
  for (const same of coincident.values()) same.forEach((line, i) => { line.stripe = [i, same.length]; });
  return lines;
}

function plotSpec({ x, y, levels = [], marks = [] }, all) {
  const isLast = (line) => line.label === "self-attention"; // on top of the others
  const lines = all.filter((line) => line.points.length).sort((a, b) => isLast(a) - isLast(b));
  const stations = [...new Set(lines.flatMap((line) => line.points.map((p) => p.x)))].sort((a, b) => a - b);
  const level = ({ name, y: height, points = stations.map((at) => [at, height]) }) =>
    ({ label: name, points: points.map(([at, v]) => ({ x: at, y: v })) });
  const drawable = (p) => Number.isFinite(p.y) && !(y.scale === "log" && p.y <= 0);
  const baselines = levels.map(level).filter(({ points }) => points.every(drawable));
  const [low, high] = extent([...lines, ...baselines], "y", "low", "high");
  const [left, right] = extent([...lines, { points: marks }], "x");
  const up = (steps) => {
    if (y.scale === "log") return tall(low, high, steps);
    return y.percent ? linear(Math.min(0, low), Math.max(1, high), steps) : linear(low, high, steps);
  };
  const across = (steps) => {
    if (x.ticks) return categories(x.ticks);
    return x.scale === "log" ? stepped(stations, left, right, steps) : linear(left, right, steps);
  };
  const logNote = ({ scale }) => (scale === "log" ? " (log scale)" : "");
  const place = (v) => (x.ticks ? String(x.ticks[v]) : numberText(v));
  return {
    lines, baselines, upright: marks.map((mark) => ({ label: mark.name, x: mark.x })), x: across, y: up,
    xname: x.name + logNote(x), yname: y.name + (y.percent ? ", %" : "") + logNote(y),
    xtick: place, ytick: y.percent ? percentTick : numberText,
    xhover: (v) => (x.ticks ? place(v) : `${x.name}: ${place(v)}`), yhover: y.percent ? tenths : numberText,
  };
}

// What is less than so small a part of the largest stands on the bottom, so that the rest can be told apart.
const FLOOR = 1e-12;
function onFloor(lines, { y }) {
  const floor = FLOOR * extent(lines, "y", "high")[1];
  if (y.scale !== "log") return [];
  return lines.flatMap(({ label, points }) => points.filter((p) => p.y < floor).map((p) => ({ ...p, label })));
}

function tall(low, high, steps) {
  const { ticks, at } = logarithmic(Math.max(low, FLOOR * high), high, steps, 1.3);
  const apart = Math.ceil(ticks.length / (steps + 1)); // of powers of ten, with 1 among them
  const some = apart > 1 ? ticks.filter((v) => Math.round(Math.log10(v)) % apart === 0) : ticks;
  return { ticks: some, at: (v) => Math.max(0, at(v)) };
}

// Ticks where something was measured, if these places lie far enough apart.
function stepped(stations, left, right, steps) {
  const { ticks, at } = logarithmic(left, right, steps, 1.15);
  const apart = stations.length > 1 && stations.every((v, i) => !i || v / stations[i - 1] >= 1.4);
  const all = apart ? stations : ticks;
  return { ticks: all.filter((_, i) => i % Math.ceil(all.length / steps) === 0), at };
}

function linePlot(picture) {
  const lines = plotLines(picture);
  const omitted = lines.filter((line) => line.omitted.length)
    .map((line) => `${line.label} at ${line.omitted.map((p) => numberText(p.x)).join(", ")}`);
  const low = onFloor(lines, picture).map(({ label, x, y }) => `${label} at ${numberText(x)}, ${numberText(y)}`);
  const notes = [
    omitted.length ? `Not drawn, since a logarithmic axis has no place for 0: ${omitted.join("; ")}.` : "",
    low.length ? `On the bottom line stands what is smaller still: ${low.join("; ")}.` : "",
  ];
  if (!lines.some((line) => line.points.length)) {
    return { nodes: [nothing("Nothing was measured that could be drawn.")], notes };
  }
  const host = html("div", { class: "plot" });
  onWidth(host, () => plot(host, plotSpec(picture, lines)));
  return { nodes: [host], notes };
}

// ---- maps ------------------------------------------------------------------------------------------------------
const SCALE = 10; // units of a pixel, so that no line shows between two of them

function fieldMap(name, rows, layer) {
  const width = Math.max(...rows.map((row) => row.length));
  const cells = rows.flatMap((row, down) => [...row.matchAll(/1+/g)].map(({ index, 0: run }) =>
    `M${index * SCALE} ${down * SCALE}h${run.length * SCALE}v${SCALE}h${-run.length * SCALE}z`));
  const heard = rows.reduce((sum, row) => sum + row.replaceAll("0", "").length, 0);
  const part = `${((100 * heard) / (width * rows.length)).toFixed(0)}%`;
  const after = counted(layer + 1, "layer");
  const [w, h] = [width * SCALE, rows.length * SCALE];
  const title = `${name}, after ${after}: ${part} of all pairs are heard`;
  const canvas = svg("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": title, "data-layer": layer },
    svg("rect", { class: "unheard", width: w, height: h }),
    svg("path", { d: cells.join(""), style: `fill:${color(familyOf(name))}` }));
  const host = html("div", { class: "map" }, canvas,
    html("div", { class: "under" }, html("span", {}, after), html("b", {}, part)));
  describePairs(host, canvas, rows);
  return host;
}

function fieldMaps({ maps }) {
  const words = ["↓ the row that hears", "→ the input it hears of", "% of all pairs, after so many layers"];
  const card = ({ name, layers }) => html("div", { class: "card", "data-name": name },
    html("div", { class: "of" }, encoderName(name)),
    html("div", { class: "layers" },
      layers.filter((rows) => rows.length).map((rows, layer) => fieldMap(name, rows, layer))));
  const key = html("p", { class: "mapkey" }, words.map((text) => html("span", {}, text)));
  return { nodes: [key, html("div", { class: "maps" }, maps.map(card))], notes: [] };
}

// Under the pointer: which pair, and whether it is heard.
function describePairs(host, canvas, rows) {
  const tip = tooltip(host);
  host.append(tip.node);
  onPointer(canvas, (event) => {
    const frame = canvas.getBoundingClientRect();
    const width = Math.max(...rows.map((row) => row.length));
    const row = Math.floor(((event.clientY - frame.top) / frame.height) * rows.length);
    const input = Math.floor(((event.clientX - frame.left) / frame.width) * width);
    const bit = rows[row]?.[input];
    if (bit === undefined) tip.hide();
    else tip.show(0, 0, `row ${row}, input ${input}: ${bit === "1" ? "heard" : "not heard"}`);
  }, tip.hide);
}

const PICTURES = { lines: linePlot, maps: fieldMaps };
function pictureOf(one) {
  const { nodes, notes } = Object.hasOwn(PICTURES, one.shape) ? PICTURES[one.shape](one)
    : { nodes: [nothing(`This page cannot draw the shape ${one.shape}.`)], notes: [] };
  return html("figure", { class: `picture of-${one.shape === "maps" ? "maps" : "lines"}` },
    html("h3", {}, prose(one.title)), nodes,
    html("figcaption", {}, prose(one.caption), notes.filter(Boolean).map((text) => ` ${text}`)));
}

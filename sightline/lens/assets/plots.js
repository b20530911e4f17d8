// Line plots: names at the ends of the lines, every value under the pointer.

// spec: {x, y: number of ticks -> scale; xname, yname; xtick, ytick, xhover, yhover: number -> text;
//        lines: [{kind, label, marks: draw each point, other: a further seed, variant?: number of a variant from 1,
//                 band?: shade from low to high, stripe?: [its number, how many coincide],
//                 points: [{x, y, low?, high?, apart?: not joined to its neighbours}]}],
//        baselines: [{label, points}], upright?: [{label, x}]}
function plot(host, spec) {
  const width = host.clientWidth;
  const named = [...spec.lines.filter((line) => !line.other), ...spec.baselines];
  const names = 26 + 7.2 * Math.max(...named.map((line) => line.label.length));
  const narrow = width < 460 || names > 0.45 * width;
  const box = { left: 46, right: width - (narrow ? 14 : names), top: 22, bottom: 22 + (narrow ? 206 : 296) };
  const x = spec.x(narrow ? 4 : 8);
  const y = spec.y(narrow ? 5 : 6);
  const xticks = x.ticks.map((t) => wrap(spec.xtick(t), (box.right - box.left) / x.ticks.length / 6.8));
  const under = 14 * (Math.max(...xticks.map((rows) => rows.length)) - 1); // height of the further rows
  const xname = wrap(spec.xname, width / 6.8);
  const height = box.bottom + 42 + under + 14 * (xname.length - 1);
  const at = placement(box, x, y);
  const title = `${spec.yname} against ${spec.xname}`;
  const canvas = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title },
    gridRows(box, y.ticks, at.y, spec.ytick),
    svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    x.ticks.map((t, i) => rowsOfText(at.x(t), box.bottom + 18, xticks[i])),
    svg("text", { x: 0, y: 9 }, spec.yname),
    rowsOfText(xname.length > 1 ? width / 2 : (box.left + box.right) / 2, box.bottom + under + 36, xname),
    (spec.upright || []).map((mark) => upright(mark, at, box)),
    spec.lines.filter((line) => line.band).map((line) => band(line, at)),
    [...spec.baselines, ...spec.lines].map((line) => strokes(line, at)),
    narrow ? null : labels(named, at, box));
  const keys = named.map((line) => html("span", {}, dot(line.kind, line.variant), line.label));
  host.replaceChildren(...(narrow ? [html("div", { class: "keys" }, keys)] : []), canvas);
  hover(host, canvas, spec, named, at, box);
}

// Rows of at most so many letters, broken at spaces.
function wrap(text, letters) {
  const rows = [];
  for (const word of text.split(" ")) {
    if (rows.length && rows.at(-1).length + 1 + word.length <= letters) rows[rows.length - 1] += ` ${word}`;
    else rows.push(word);
  }
  return rows;
}

const rowsOfText = (x, y, rows) =>
  svg("text", { y, "text-anchor": "middle" }, rows.map((row, i) => svg("tspan", { x, dy: i ? 14 : 0 }, row)));

const pathOf = (points, at, key = "y") =>
  points.map((p) => `${at.x(p.x).toFixed(1)} ${at.y(p[key]).toFixed(1)}`).join("L");

function upright({ label, x }, at, box) {
  const place = at.x(x);
  const right = place > (box.left + box.right) / 2;
  const [x0, anchor] = right ? [place - 5, "end"] : [place + 5, "start"];
  return [
    svg("line", { class: "upright", x1: place, x2: place, y1: box.top, y2: box.bottom }),
    svg("text", { class: "halo", x: x0, y: box.bottom - 7, "text-anchor": anchor }, label),
  ];
}

// The area between the lowest and the highest seed.
function band(line, at) {
  const some = line.points.filter((p) => p.high !== undefined);
  const d = some.length > 1 ? `M${pathOf(some, at, "high")}L${pathOf([...some].reverse(), at, "low")}z` : "";
  return svg("path", { class: "band", d, style: `fill:${color(line.kind)}`, "data-kind": line.kind });
}

const STRIPE = 7; // pixels of each of several lines that coincide
function dashes({ variant, stripe: [turn, turns] = [0, 1] }) {
  if (turns > 1) {
    const [dash, offset] = [`${STRIPE} ${STRIPE * (turns - 1)}`, -STRIPE * turn];
    return `;stroke-linecap:butt;stroke-dasharray:${dash};stroke-dashoffset:${offset}`;
  }
  return variant ? `;stroke-dasharray:${["6 5", "1 5", "9 4 1 4"][(variant - 1) % 3]}` : "";
}

function strokes(line, at) {
  const joint = (p, i) => (i && !p.apart && !line.points[i - 1].apart ? "L" : "M");
  const d = line.points.map((p, i) => `${joint(p, i)}${pathOf([p], at)}`).join("");
  if (!line.kind) {
    const alone = line.points.filter((p) => p.apart).map((p) => `M${at.x(p.x) - 8} ${at.y(p.y)}h16`);
    return svg("path", { class: "baseline", d: d + alone.join("") });
  }
  const style = `stroke:${color(line.kind)}`;
  const data = { "data-kind": line.kind, "data-name": line.label };
  const [turn, turns] = line.stripe || [0, 1]; // lines that coincide show their points in turn
  const points = line.marks && !line.other ? line.points.filter((_, i) => i % turns === turn) : [];
  const shape = line.variant ? { class: "point ring", style } : { class: "point", style: `fill:${color(line.kind)}` };
  const r = line.points.length > 12 ? 2.5 : 4;
  return [
    svg("path", { class: line.other ? "line other" : "line", d, style: style + dashes(line), ...data }),
    points.map((p) => {
      const [cx, cy] = [at.x(p.x), at.y(p.y)];
      const range = { class: "range", x1: cx, x2: cx, y1: at.y(p.low), y2: at.y(p.high), style };
      return [
        p.high > p.low ? svg("line", range) : null,
        svg("circle", { ...shape, cx, cy, r, ...data, "data-x": p.x, "data-y": p.y }),
      ];
    }),
  ];
}

// Names at the ends of their lines, pushed apart where two would touch.
function labels(named, at, box) {
  const gap = 17;
  const end = ({ x, y }) => ({ x: at.x(x), y: at.y(y) });
  const ends = named.map(({ kind, label, points }) => ({ kind, label, ...end(points.at(-1)) }));
  ends.sort((a, b) => a.y - b.y);
  const places = ends.map((end) => end.y);
  for (let i = 1; i < places.length; i++) places[i] = Math.max(places[i], places[i - 1] + gap);
  places[places.length - 1] = Math.min(places.at(-1), box.bottom);
  for (let i = places.length - 2; i >= 0; i--) places[i] = Math.min(places[i], places[i + 1] - gap);
  return ends.map(({ kind, label, x, y }, i) => [
    svg("path", {
      class: box.right - x > 60 ? "leader far" : "leader", style: `stroke:${color(kind)}`,
      d: `M${x + 7} ${y}L${box.right + 8} ${places[i]}H${box.right + 14}`,
    }),
    svg("text", { class: kind ? "name" : null, x: box.right + 19, y: places[i] + 4.5 }, label),
  ]);
}

function hover(host, canvas, spec, named, at, box) {
  const cursor = svg("line", { class: "cursor", y1: box.top, y2: box.bottom });
  const tip = tooltip(host);
  canvas.append(cursor);
  host.append(tip.node);
  const hide = () => { tip.hide(); cursor.style.visibility = "hidden"; };
  const closest = (items, place, mouse) =>
    items.reduce((a, b) => (Math.abs(place(b) - mouse) < Math.abs(place(a) - mouse) ? b : a));
  const row = ({ line, p }) => html("div", {}, html("span", {}, dot(line.kind, line.variant), line.label),
    html("span", {}, spec.yhover(p.y), p.high > p.low ? ` (${spec.yhover(p.low)}–${spec.yhover(p.high)})` : null));
  const show = (event) => {
    const frame = canvas.getBoundingClientRect();
    const mouse = Math.min(Math.max(event.clientX - frame.left, box.left), box.right);
    const near = named.map((line) => ({ line, p: closest(line.points, (p) => at.x(p.x), mouse) }))
      .filter(({ p }) => Math.abs(at.x(p.x) - mouse) < 40).sort((a, b) => b.p.y - a.p.y);
    if (!near.length) return hide();
    const nearest = closest(near, ({ p }) => at.x(p.x), mouse).p.x;
    const x = at.x(nearest);
    fill(cursor, { x1: x, x2: x }, []);
    cursor.style.visibility = "visible";
    const top = frame.top - host.getBoundingClientRect().top + box.top + 6;
    return tip.show(x, top, html("b", {}, spec.xhover(nearest)), ...near.map(row));
  };
  onPointer(canvas, show, hide);
}

function figure(id, title, caption, spec) {
  if (!spec.lines.length) return null;
  const host = html("div", { class: "plot", id });
  onWidth(host, () => plot(host, spec));
  return html("section", {},
    html("h2", {}, capital(title)), html("figcaption", {}, caption), html("figure", {}, host));
}

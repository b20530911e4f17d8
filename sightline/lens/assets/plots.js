// Lines with their names at their ends, and every value under the pointer.

// spec: {x, y: scales, given the number of ticks; xname, yname; xtick, ytick, xhover, yhover: number -> text;
//        lines: [{kind, label, marks: draw each point, other: a further seed, variant?: which of its encoder, from 1,
//                 band?: shade from low to high, stripe?: [its number, how many lie on each other],
//                 points: [{x, y, low?, high?, apart?: not joined to its neighbours}]}],
//        baselines: [{label, points}], upright?: [{label, x}]}
function plot(host, spec) {
  const width = host.clientWidth;
  const named = [...spec.lines.filter((line) => !line.other), ...spec.baselines];
  const names = 26 + 7.2 * Math.max(...named.map((line) => line.label.length));
  const narrow = width < 460 || names > 0.45 * width;
  const box = { left: 46, right: width - (narrow ? 14 : names), top: 22 };
  const x = spec.x(narrow ? 4 : 8);
  const places = x.ticks.map((t) => broken(spec.xtick(t), (box.right - box.left) / x.ticks.length / 6.8));
  box.bottom = box.top + (narrow ? 206 : 296);
  const under = 14 * (Math.max(...places.map((rows) => rows.length)) - 1); // what long names take
  const xname = broken(spec.xname, width / 6.8);
  const height = box.bottom + 42 + under + 14 * (xname.length - 1);
  const y = spec.y(narrow ? 5 : 6);
  const at = {
    x: (v) => box.left + x.at(v) * (box.right - box.left),
    y: (v) => box.bottom - y.at(v) * (box.bottom - box.top),
  };
  const title = `${spec.yname} against ${spec.xname}`;
  const canvas = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title },
    y.ticks.map((t) => [
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: at.y(t), y2: at.y(t) }),
      svg("text", { x: box.left - 8, y: at.y(t) + 4, "text-anchor": "end" }, spec.ytick(t)),
    ]),
    svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    x.ticks.map((t, i) => rowed(at.x(t), box.bottom + 18, places[i])),
    svg("text", { x: 0, y: 9 }, spec.yname),
    rowed(xname.length > 1 ? width / 2 : (box.left + box.right) / 2, box.bottom + under + 36, xname));
  for (const mark of spec.upright || []) canvas.append(...upright(mark, at, box));
  for (const line of spec.lines.filter((some) => some.band)) canvas.append(band(line, at));
  for (const line of [...spec.baselines, ...spec.lines]) canvas.append(...strokes(line, at));
  if (!narrow) canvas.append(...labels(named, at, box));
  const keys = named.map((line) => html("span", {}, dot(line.kind, line.variant), line.label));
  host.replaceChildren(...(narrow ? [html("div", { class: "keys" }, keys)] : []), canvas);
  hover(host, canvas, spec, named, at, box);
}

// A name in rows of so many letters, as far as its spaces allow.
function broken(text, letters) {
  const rows = [];
  for (const word of text.split(" ")) {
    if (rows.length && rows.at(-1).length + 1 + word.length <= letters) rows[rows.length - 1] += ` ${word}`;
    else rows.push(word);
  }
  return rows;
}

const rowed = (x, y, rows) =>
  svg("text", { y, "text-anchor": "middle" }, rows.map((row, i) => svg("tspan", { x, dy: i ? 14 : 0 }, row)));

function upright({ label, x }, at, box) {
  const place = at.x(x);
  const right = place > (box.left + box.right) / 2;
  return [svg("line", { class: "upright", x1: place, x2: place, y1: box.top, y2: box.bottom }),
    svg("text", { class: "halo", x: place + (right ? -5 : 5), y: box.bottom - 7, "text-anchor": right ? "end" : "start" }, label)];
}

// What lies between the lowest and the highest seed.
function band(line, at) {
  const some = line.points.filter((p) => p.high !== undefined);
  const way = (points, key) => points.map((p) => `${at.x(p.x).toFixed(1)} ${at.y(p[key]).toFixed(1)}`).join("L");
  const d = some.length > 1 ? `M${way(some, "high")}L${way([...some].reverse(), "low")}z` : "";
  return svg("path", { class: "band", d, style: `fill:${color(line.kind)}`, "data-kind": line.kind });
}

const STRIPE = 7; // pixels of each of the lines that lie on each other
function striped({ variant, stripe }) {
  if (stripe && stripe[1] > 1) return `;stroke-linecap:butt;stroke-dasharray:${STRIPE} ${STRIPE * (stripe[1] - 1)};stroke-dashoffset:${-STRIPE * stripe[0]}`;
  return variant ? `;stroke-dasharray:${["6 5", "1 5", "9 4 1 4"][(variant - 1) % 3]}` : "";
}

function strokes(line, at) {
  const style = `stroke:${color(line.kind)}`;
  const joint = (p, i) => (i && !p.apart && !line.points[i - 1].apart ? "L" : "M");
  const d = line.points.map((p, i) => `${joint(p, i)}${at.x(p.x).toFixed(1)} ${at.y(p.y).toFixed(1)}`).join("");
  if (!line.kind) {
    const alone = line.points.filter((p) => p.apart).map((p) => `M${at.x(p.x) - 8} ${at.y(p.y)}h16`);
    return [svg("path", { class: "baseline", d: d + alone.join("") })];
  }
  const drawn = [svg("path", { class: line.other ? "line other" : "line", d, style: style + striped(line), "data-kind": line.kind, "data-name": line.label })];
  const [turn, turns] = line.stripe || [0, 1];
  for (const [i, p] of (line.marks && !line.other ? line.points : []).entries()) {
    const x = at.x(p.x);
    if (i % turns !== turn) continue; // lines that lie on each other take turns
    if (p.high > p.low) drawn.push(svg("line", { class: "range", x1: x, x2: x, y1: at.y(p.low), y2: at.y(p.high), style }));
    drawn.push(svg("circle", {
      class: line.variant ? "point ring" : "point", cx: x, cy: at.y(p.y), r: line.points.length > 12 ? 2.5 : 4,
      style: line.variant ? style : `fill:${color(line.kind)}`, "data-kind": line.kind, "data-name": line.label, "data-x": p.x, "data-y": p.y,
    }));
  }
  return drawn;
}

// Names stand at the ends of their lines, pushed apart where two would touch.
function labels(named, at, box) {
  const ends = named.map((line) => ({ ...line, last: line.points.at(-1) })).sort((a, b) => at.y(a.last.y) - at.y(b.last.y));
  const gap = 17;
  const places = ends.map((end) => at.y(end.last.y));
  for (let i = 1; i < places.length; i++) places[i] = Math.max(places[i], places[i - 1] + gap);
  places[places.length - 1] = Math.min(places.at(-1), box.bottom);
  for (let i = places.length - 2; i >= 0; i--) places[i] = Math.min(places[i], places[i + 1] - gap);
  return ends.flatMap((end, i) => [
    svg("path", {
      class: box.right - at.x(end.last.x) > 60 ? "leader far" : "leader", style: `stroke:${color(end.kind)}`,
      d: `M${at.x(end.last.x) + 7} ${at.y(end.last.y)}L${box.right + 8} ${places[i]}H${box.right + 14}`,
    }),
    svg("text", { class: end.kind ? "name" : null, x: box.right + 19, y: places[i] + 4.5 }, end.label),
  ]);
}

function hover(host, canvas, spec, named, at, box) {
  const cursor = svg("line", { class: "cursor", y1: box.top, y2: box.bottom });
  const tip = html("div", { class: "tip" });
  canvas.append(cursor);
  host.append(tip);
  const visible = (yes) => { tip.style.visibility = cursor.style.visibility = yes ? "visible" : "hidden"; };
  const closest = (things, where, mouse) =>
    things.reduce((a, b) => (Math.abs(where(b) - mouse) < Math.abs(where(a) - mouse) ? b : a));
  const row = ({ line, p }) => html("div", {}, html("span", {}, dot(line.kind, line.variant), line.label),
    html("span", {}, spec.yhover(p.y), p.high > p.low ? ` (${spec.yhover(p.low)}–${spec.yhover(p.high)})` : null));
  const move = (event) => {
    const left = canvas.getBoundingClientRect().left;
    const mouse = Math.min(Math.max(event.clientX - left, box.left), box.right);
    const seen = named.map((line) => ({ line, p: closest(line.points, (p) => at.x(p.x), mouse) }))
      .filter(({ p }) => Math.abs(at.x(p.x) - mouse) < 40).sort((a, b) => b.p.y - a.p.y);
    if (!seen.length) return visible(false);
    const nearest = closest(seen, ({ p }) => at.x(p.x), mouse).p.x;
    const place = at.x(nearest);
    tip.replaceChildren(html("b", {}, spec.xhover(nearest)), ...seen.map(row));
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    const over = place + 16 + tip.offsetWidth > host.clientWidth;
    tip.style.left = `${over ? Math.max(0, place - 16 - tip.offsetWidth) : place + 16}px`;
    tip.style.top = `${canvas.getBoundingClientRect().top - host.getBoundingClientRect().top + box.top + 6}px`;
    return visible(true);
  };
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerdown", move);
  canvas.addEventListener("pointerleave", () => visible(false));
}

// Draws it as wide as there is room, and again when that changes.
function fitted(host, spec) {
  let drawn = 0;
  new ResizeObserver(() => {
    if (!host.clientWidth || host.clientWidth === drawn) return;
    drawn = host.clientWidth;
    plot(host, spec);
  }).observe(host);
  return host;
}

function figure(id, title, caption, spec) {
  if (!spec.lines.length) return null;
  const host = fitted(html("div", { class: "plot", id }), spec);
  const heading = title[0].toUpperCase() + title.slice(1);
  return html("section", {}, html("h2", {}, heading), html("figcaption", {}, caption), html("figure", {}, host));
}

function extent(lines, ...keys) {
  const all = lines.flatMap((line) => line.points.flatMap((p) => keys.map((key) => p[key]))).filter((v) => v !== undefined);
  return [Math.min(...all), Math.max(...all)];
}

// Lines with their names at their ends, and every value under the pointer; then the three plots of a comparison.

// ---- one plot --------------------------------------------------------------------------------------------------
// spec: {x, y: scales, given the number of ticks; xname, yname; xtick, ytick, xhover, yhover: number -> text;
//        lines: [{kind, label, marks: draw each point, other: a further seed,
//                 points: [{x, y, low?, high?, apart?: not joined to its neighbours}]}],
//        baselines: [{label, points}]}
function plot(host, spec) {
  const width = host.clientWidth;
  const narrow = width < 560;
  const height = narrow ? 270 : 360;
  const named = [...spec.lines.filter((line) => !line.other), ...spec.baselines];
  const room = narrow ? 14 : 26 + 7.2 * Math.max(...named.map((line) => line.label.length));
  const box = { left: 46, right: width - room, top: 22, bottom: height - 42 };
  const x = spec.x(narrow ? 4 : 8);
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
    x.ticks.map((t) => svg("text", { x: at.x(t), y: box.bottom + 18, "text-anchor": "middle" }, spec.xtick(t))),
    svg("text", { x: 0, y: 9 }, spec.yname),
    svg("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, spec.xname));
  for (const line of [...spec.baselines, ...spec.lines]) canvas.append(...strokes(line, at));
  if (!narrow) canvas.append(...labels(named, at, box));
  const keys = named.map((line) => html("span", {}, dot(line.kind), line.label));
  host.replaceChildren(...(narrow ? [html("div", { class: "keys" }, keys)] : []), canvas);
  hover(host, canvas, spec, named, at, box);
}

function strokes(line, at) {
  const style = `stroke:${color(line.kind)}`;
  const joint = (p, i) => (i && !p.apart && !line.points[i - 1].apart ? "L" : "M");
  const d = line.points.map((p, i) => `${joint(p, i)}${at.x(p.x).toFixed(1)} ${at.y(p.y).toFixed(1)}`).join("");
  if (!line.kind) {
    const alone = line.points.filter((p) => p.apart).map((p) => `M${at.x(p.x) - 8} ${at.y(p.y)}h16`);
    return [svg("path", { class: "baseline", d: d + alone.join("") })];
  }
  const drawn = [svg("path", { class: line.other ? "line other" : "line", d, style, "data-kind": line.kind })];
  for (const p of line.marks && !line.other ? line.points : []) {
    const x = at.x(p.x);
    if (p.high > p.low) drawn.push(svg("line", { class: "range", x1: x, x2: x, y1: at.y(p.low), y2: at.y(p.high), style }));
    drawn.push(svg("circle", {
      class: "point", cx: x, cy: at.y(p.y), r: line.points.length > 12 ? 2.5 : 4, style: `fill:${color(line.kind)}`,
      "data-kind": line.kind, "data-x": p.x, "data-y": p.y,
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
      class: "leader", style: `stroke:${color(end.kind)}`,
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
  const row = ({ line, p }) => html("div", {}, html("span", {}, dot(line.kind), line.label),
    html("span", {}, spec.yhover(p.y), p.high > p.low ? ` (${bare(p.low)}–${bare(p.high)})` : null));
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

function figure(id, title, caption, spec) {
  if (!spec.lines.length) return null;
  const host = html("div", { class: "plot", id });
  let drawn = 0;
  new ResizeObserver(() => {
    if (!host.clientWidth || host.clientWidth === drawn) return;
    drawn = host.clientWidth;
    plot(host, spec);
  }).observe(host);
  const heading = title[0].toUpperCase() + title.slice(1);
  return html("section", {}, html("h2", {}, heading), html("figcaption", {}, caption), html("figure", {}, host));
}

// ---- the three plots of a comparison ---------------------------------------------------------------------------
function extent(lines, ...keys) {
  const all = lines.flatMap((line) => line.points.flatMap((p) => keys.map((key) => p[key]))).filter((v) => v !== undefined);
  return [Math.min(...all), Math.max(...all)];
}

// One run of each encoder is drawn strong; its other seeds are thin lines beneath.
function runs(points, marks) {
  const lines = report.encoders.flatMap((e) =>
    e.runs.map((run) => ({ kind: e.kind, label: e.kind, points: points(run), marks, other: run.seed !== e.shown })));
  return lines.filter((line) => line.points.length).sort((a, b) => b.other - a.other);
}

const tick = (v) => (percent ? String(+(100 * v).toPrecision(3)) : digits(v));

function byDistance() {
  const apart = (bucket) => !/^\d/.test(bucket); // such as "outside": no distance, so it stands before the lines
  const order = [...report.buckets].sort((a, b) => apart(b) - apart(a));
  const point = (of) => (bucket, x) => ({ x, apart: apart(bucket), ...of(bucket) });
  const points = (of) => order.map(point(of)).filter((p) => Number.isFinite(p.y));
  const spread = (s) => (s ? { y: s.median, low: s.low, high: s.high } : {});
  const lines = report.encoders
    .map((e) => ({ kind: e.kind, label: e.kind, marks: true, points: points((bucket) => spread(e.distance[bucket])) }));
  const baselines = report.baselines.map((b) => ({ label: b.name, points: points((bucket) => ({ y: b.distance[bucket] })) }));
  const some = (line) => line.points.length;
  const joined = baselines.map((b) => ({ ...b, points: b.points.filter((p) => !p.apart) })); // what sets the scale
  const [low, high] = extent([...lines, ...joined], "y", "low", "high");
  for (const b of baselines) b.points = b.points.filter((p) => p.y >= low && p.y <= high);
  return {
    lines: lines.filter(some), baselines: baselines.filter(some),
    x: () => categories(order), y: (steps) => linear(low, high, steps),
    xname: report.distance_name, yname: report.measure.name + (percent ? ", %" : ""),
    xtick: (i) => order[i], ytick: tick, xhover: (i) => order[i], yhover: value,
  };
}

function byTime() {
  const lines = runs((run) => run.loss.filter(([, , loss]) => loss > 0).map(([x, , y]) => ({ x, y })), false);
  const end = extent(lines, "x")[1];
  const seconds = (steps) => ({ ticks: linear(0, end, steps).ticks.filter((t) => t <= end), at: (x) => x / end });
  return {
    lines, baselines: [], x: seconds, y: (steps) => logarithmic(...extent(lines, "y"), steps + 1, 1.05),
    xname: "seconds of training", yname: `${report.loss_name} (log scale)`,
    xtick: digits, ytick: digits, xhover: (s) => `${s.toFixed(1)} s`, yhover: digits,
  };
}

function byTokens() {
  const lines = runs((run) => run.milestones.filter(([tokens]) => tokens > 0).map(([x, , y]) => ({ x, y })), true);
  return {
    lines, baselines: [],
    x: (steps) => logarithmic(...extent(lines, "x"), steps, 1.15), y: (steps) => linear(...extent(lines, "y"), steps),
    xname: "tokens seen in training (log scale)", yname: `validation ${report.measure.name}${percent ? ", %" : ""}`,
    xtick: count, ytick: tick, xhover: (t) => `${count(t)} tokens`, yhover: value,
  };
}

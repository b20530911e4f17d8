// Every head as a dot at any two of its measures: under the pointer its name and values, and a click opens its sheet.

const REACH = 28; // pixels from the pointer to the dot that it points at

function measureChooser(label, key, draw) {
  const groups = [["all", "of every head"], ["offsets", "by place"], ["relations", "how often it finds"]];
  const select = selection({}, (value) => { state[key] = +value; draw(); }, groups.map(([group, title]) => {
    const options = measuresIn(group).map(({ name, number }) => option([number, name]));
    return options.length ? html("optgroup", { label: title }, options) : null;
  }));
  select.value = state[key];
  return html("label", { class: "choice" }, label, select);
}

function scatterPart(open) {
  const host = html("div", { class: "plot", id: "scatter" });
  const keys = html("div", { class: "keys" });
  const tip = tooltip(host);
  let layout = null;
  const draw = () => {
    if (!host.clientWidth) return;
    schemes.press(state.by);
    layout = layoutDots(host.clientWidth);
    keys.replaceChildren(...colourKeys());
    host.replaceChildren(dotPlot(host.clientWidth, layout), tip.node);
    tip.hide();
  };
  const names = Object.keys(SCHEMES).filter((name) => two || name !== "model").map((name) => [name, name]);
  const schemes = segments("colour by", "by", names, (name) => { state.by = name; draw(); });
  listenToDots(host, tip, () => layout.dots, open);
  listenToArrows(host, () => layout.dots, open);
  onWidth(host, draw);
  const bar = html("div", { class: "bar" }, measureChooser("across", "x", draw), measureChooser("up", "y", draw),
    html("span", { class: "choice" }, "colour by", schemes.node));
  const hint = "A dot is a head. Click one, or move with the arrow keys, to open its sheet.";
  return {
    node: html("section", { id: "heads", class: "beside" },
      html("h2", {}, "Every head"), bar, keys, host, html("p", { class: "quiet" }, hint)),
    draw,
  };
}

function colourKeys() {
  const byModel = state.by === "model";
  const canvas = { class: "key", viewBox: "-6 -6 12 12", "aria-hidden": "true" };
  const key = (name, m, color) =>
    html("span", {}, svg("svg", canvas, dotShape(m, 0, 0, 4.5, { style: `fill:${color}` })), name);
  const colours = SCHEMES[state.by].keys().map(([name, color], i) => key(name, byModel ? i : 0, color));
  return two && !byModel ? [...colours, ...models.map(({ name }, m) => key(name, m, "var(--quiet)"))] : colours;
}

// The place of each head that has both values: {dots: [{head, x, y, left, top}], box, height, across, up, at}.
function layoutDots(width) {
  const height = Math.min(460, Math.max(300, 0.72 * width));
  const box = { left: 50, right: width - 12, top: 26, bottom: height - 44 };
  const known = HEADS.map((head) => ({ head, x: valueOf(state.x, head), y: valueOf(state.y, head) }))
    .filter(({ x, y }) => x !== null && y !== null);
  const scale = (key, steps) => {
    const values = known.map((dot) => dot[key]);
    return values.length ? linear(Math.min(...values), Math.max(...values), steps) : linear(0, 1, steps);
  };
  const [across, up] = [scale("x", width < 480 ? 4 : 7), scale("y", 6)];
  const at = placement(box, across, up);
  const dots = known.map((dot) => ({ ...dot, left: at.x(dot.x), top: at.y(dot.y) }));
  return { dots, box, height, across, up, at };
}

// A circle; of the second model a diamond, so that colour is not the only difference.
function dotShape(m, x, y, r, attributes) {
  if (m === 0) return svg("circle", { cx: x, cy: y, r, ...attributes });
  const d = 1.25 * r;
  return svg("path", { d: `M${x} ${y - d}l${d} ${d}l${-d} ${d}l${-d} ${-d}z`, ...attributes });
}

function dotPlot(width, { dots, box, height, across, up, at }) {
  const scheme = SCHEMES[state.by];
  const tick = (measure) => (v) => (measures[measure].unit === "share" ? `${percentTick(v)}%` : String(v));
  const [x, y] = [state.x, state.y].map((measure) => {
    const { name, unit } = measures[measure];
    return unit && unit !== "share" ? `${name}, ${unit}` : name;
  });
  const order = [...dots].sort((a, b) => (a.head === state.head) - (b.head === state.head));
  const dot = ({ head, left, top }) => dotShape(head.m, left, top, head === state.head ? 7 : 5, {
    class: head === state.head ? "dot-head chosen" : "dot-head", style: `fill:${scheme.color(head)}`,
    "data-head": `${head.m}.${head.layer}.${head.head}`,
  });
  const name = `${dots.length} heads: ${y} against ${x}`;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: 0, role: "group", "aria-label": name },
    gridRows(box, up.ticks, at.y, tick(state.y)),
    across.ticks.map((v) => [
      svg("line", { class: "grid", x1: at.x(v), x2: at.x(v), y1: box.top, y2: box.bottom }),
      svg("text", { x: at.x(v), y: box.bottom + 18, "text-anchor": "middle" }, tick(state.x)(v)),
    ]),
    svg("text", { x: 0, y: 11 }, y),
    svg("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, x),
    order.map(dot));
}

function listenToDots(host, tip, dots, open) {
  const nearest = (event) => {
    const frame = host.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    const distance = (dot) => Math.hypot(dot.left - x, dot.top - y);
    const best = dots().reduce((a, b) => (a && distance(a) <= distance(b) ? a : b), null);
    return best && distance(best) <= REACH ? best : null;
  };
  const row = (measure, value) =>
    html("div", {}, html("span", {}, measures[measure].name), html("span", {}, valueText(measure, value)));
  const show = (event) => {
    const dot = nearest(event);
    host.style.cursor = dot ? "pointer" : "";
    if (!dot) return tip.hide();
    const labels = dot.head.labels.slice(0, 3).join(", ") + (dot.head.labels.length > 3 ? " …" : "");
    return tip.show(dot.left, dot.top - 30, html("b", {}, nameOf(dot.head)), row(state.x, dot.x), row(state.y, dot.y),
      labels ? html("div", { class: "quiet" }, labels) : "");
  };
  onPointer(host, show, tip.hide);
  host.addEventListener("click", (event) => { const dot = nearest(event); if (dot) open(dot.head); });
}

// An arrow key opens the nearest dot in its direction.
function listenToArrows(host, dots, open) {
  const move = (right, down) => () => {
    const from = dots().find(({ head }) => head === state.head) || dots()[0];
    if (!from) return;
    const cost = (dot) => {
      const [x, y] = [dot.left - from.left, dot.top - from.top];
      const along = x * right + y * down;
      return along <= 0 ? Infinity : along + 3 * (Math.abs(x * down) + Math.abs(y * right));
    };
    const best = dots().reduce((a, b) => (cost(b) < cost(a) ? b : a));
    if (cost(best) < Infinity) open(best.head, false);
    host.querySelector("svg").focus();
  };
  onKeys(host, { ArrowLeft: move(-1, 0), ArrowRight: move(1, 0), ArrowUp: move(0, -1), ArrowDown: move(0, 1) });
}

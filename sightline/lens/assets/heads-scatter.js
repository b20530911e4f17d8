// Every head as a dot at any two of its measures: under the pointer its name and values, and a click opens its sheet.

const REACH = 28; // pixels from the pointer to a dot that is meant

function chooser(label, key, draw) {
  const groups = [["all", "of every head"], ["offsets", "by place"], ["relations", "how often it finds"]];
  const select = html("select", {}, groups.map(([group, title]) => {
    const some = named(group).map(({ name, number }) => html("option", { value: number }, name));
    return some.length ? html("optgroup", { label: title }, some) : null;
  }));
  select.value = state[key];
  select.addEventListener("change", () => { state[key] = +select.value; draw(); });
  return html("label", { class: "choice" }, label, select);
}

function coloured(draw) {
  const schemes = Object.keys(SCHEMES).filter((name) => two || name !== "model");
  const buttons = schemes.map((name) => {
    const button = html("button", { type: "button", "data-by": name }, name);
    button.addEventListener("click", () => { state.by = name; draw(); });
    return button;
  });
  const press = () => buttons.forEach((button) => button.setAttribute("aria-pressed", button.dataset.by === state.by));
  return { node: html("span", { class: "choice" }, "colour by", html("span", { class: "segments" }, buttons)), press };
}

function scatter(open) {
  const host = html("div", { class: "plot", id: "scatter" });
  const keys = html("div", { class: "keys" });
  const tip = html("div", { class: "tip" });
  let shown = [];
  const draw = () => {
    if (!host.clientWidth) return;
    by.press();
    const scheme = SCHEMES[state.by];
    const mark = (m, color) => svg("svg", { class: "key", viewBox: "-6 -6 12 12", "aria-hidden": "true" }, shape(m, 0, 0, 4.5, { style: `fill:${color}` }));
    keys.replaceChildren(...scheme.keys().map(([name, color], i) => html("span", {}, mark(state.by === "model" ? i : 0, color), name)),
      ...(two && state.by !== "model" ? models.map(({ name }, m) => html("span", {}, mark(m, "var(--quiet)"), name)) : []));
    shown = dots(host.clientWidth);
    host.replaceChildren(cloud(host.clientWidth, shown, scheme), tip);
    tip.style.visibility = "hidden";
  };
  const by = coloured(draw);
  pointed(host, tip, () => shown, open);
  steered(host, () => shown, open);
  let width = 0;
  new ResizeObserver(() => { if (host.clientWidth !== width) { width = host.clientWidth; draw(); } }).observe(host);
  const bar = html("div", { class: "bar" }, chooser("across", "x", draw), chooser("up", "y", draw), by.node);
  return { node: html("section", { id: "heads" }, html("h2", {}, "Every head"), bar, keys, host,
    html("p", { class: "quiet" }, "A dot is a head. Click one, or move with the arrow keys, to open its sheet.")), draw };
}

// Where each head stands, but for those without a value.
function dots(width) {
  const height = Math.min(460, Math.max(300, 0.72 * width));
  const box = { left: 50, right: width - 12, top: 26, bottom: height - 44 };
  const some = HEADS.map((head) => ({ head, x: valueOf(state.x, head), y: valueOf(state.y, head) }))
    .filter(({ x, y }) => x !== null && y !== null);
  const scale = (key, steps) => {
    const all = some.map((dot) => dot[key]);
    return all.length ? linear(Math.min(...all), Math.max(...all), steps) : linear(0, 1, steps);
  };
  const [across, up] = [scale("x", width < 480 ? 4 : 7), scale("y", 6)];
  const at = { x: (v) => box.left + across.at(v) * (box.right - box.left), y: (v) => box.bottom - up.at(v) * (box.bottom - box.top) };
  return Object.assign(some.map((dot) => ({ ...dot, left: at.x(dot.x), top: at.y(dot.y) })), { box, height, across, up, at });
}

// The second model's are diamonds, so that colour is not all that tells them apart.
function shape(m, x, y, r, attributes) {
  if (m === 0) return svg("circle", { cx: x, cy: y, r, ...attributes });
  return svg("path", { d: `M${x} ${y - 1.25 * r}l${1.25 * r} ${1.25 * r}l${-1.25 * r} ${1.25 * r}l${-1.25 * r} ${-1.25 * r}z`, ...attributes });
}

function cloud(width, shown, scheme) {
  const { box, height, across, up, at } = shown;
  const tick = (measure, v) => (measures[measure].unit === "share" ? `${+(100 * v).toPrecision(3)}%` : String(v));
  const [x, y] = [state.x, state.y].map((measure) => measures[measure].name + (measures[measure].unit && measures[measure].unit !== "share" ? `, ${measures[measure].unit}` : ""));
  const order = [...shown].sort((a, b) => (a.head === state.head) - (b.head === state.head));
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: 0, role: "group", "aria-label": `${shown.length} heads: ${y} against ${x}` },
    up.ticks.map((v) => [svg("line", { class: "grid", x1: box.left, x2: box.right, y1: at.y(v), y2: at.y(v) }),
      svg("text", { x: box.left - 8, y: at.y(v) + 4, "text-anchor": "end" }, tick(state.y, v))]),
    across.ticks.map((v) => [svg("line", { class: "grid", x1: at.x(v), x2: at.x(v), y1: box.top, y2: box.bottom }),
      svg("text", { x: at.x(v), y: box.bottom + 18, "text-anchor": "middle" }, tick(state.x, v))]),
    svg("text", { x: 0, y: 11 }, y), svg("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, x),
    order.map(({ head, left, top }) => shape(head.m, left, top, head === state.head ? 7 : 5, {
      class: head === state.head ? "dot-head chosen" : "dot-head", style: `fill:${scheme.color(head)}`,
      "data-head": `${head.m}.${head.layer}.${head.head}`,
    })));
}

function pointed(host, tip, shown, open) {
  const nearest = (event) => {
    const frame = host.getBoundingClientRect();
    const away = (dot) => Math.hypot(dot.left - (event.clientX - frame.left), dot.top - (event.clientY - frame.top));
    const best = shown().reduce((a, b) => (a && away(a) <= away(b) ? a : b), null);
    return best && away(best) <= REACH ? best : null;
  };
  const show = (event) => {
    const dot = nearest(event);
    tip.style.visibility = dot ? "visible" : "hidden";
    host.style.cursor = dot ? "pointer" : "";
    if (!dot) return;
    const row = (measure, v) => html("div", {}, html("span", {}, measures[measure].name), html("span", {}, written(measure, v)));
    const labels = dot.head.labels.slice(0, 3).join(", ") + (dot.head.labels.length > 3 ? " …" : "");
    tip.replaceChildren(html("b", {}, called(dot.head)), row(state.x, dot.x), row(state.y, dot.y), labels ? html("div", { class: "quiet" }, labels) : "");
    const over = dot.left + 16 + tip.offsetWidth > host.clientWidth;
    tip.style.left = `${over ? Math.max(0, dot.left - 16 - tip.offsetWidth) : dot.left + 16}px`;
    tip.style.top = `${Math.max(0, dot.top - 30)}px`;
  };
  host.addEventListener("pointermove", show);
  host.addEventListener("pointerdown", show);
  host.addEventListener("pointerleave", () => { tip.style.visibility = "hidden"; });
  host.addEventListener("click", (event) => { const dot = nearest(event); if (dot) open(dot.head); });
}

// The arrow keys go to the nearest dot that lies that way; the sheet follows.
function steered(host, shown, open) {
  const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  host.addEventListener("keydown", (event) => {
    const way = WAYS[event.key];
    const here = shown().find(({ head }) => head === state.head) || shown()[0];
    if (!way || !here) return;
    event.preventDefault();
    const cost = (dot) => {
      const [right, down] = [dot.left - here.left, dot.top - here.top];
      const along = right * way[0] + down * way[1];
      const aside = Math.abs(right * way[1]) + Math.abs(down * way[0]);
      return along <= 0 ? Infinity : along + 3 * aside;
    };
    const best = shown().reduce((a, b) => (cost(b) < cost(a) ? b : a));
    if (cost(best) < Infinity) open(best.head, false);
    host.querySelector("svg").focus();
  });
}

// The map of the open head: a row for each that looks, a column for each that is looked at. Drag and zoom; the value stands under
// the pointer. What fills it is a picture (look-pictures.js), or tiles that are asked for (look-tiles.js).

const CLOSEST = 64; // pixels a unit, zoomed in
const plane = () => (asks ? levels.pieces : where()); // what has rows and columns
const spot = () => (asks ? state.asked : unit(state.asked));

function map() {
  const canvas = html("canvas", { tabindex: 0, role: "img", "aria-label": `${says.map}: arrow keys move, plus and minus zoom, 0 shows all` });
  const tip = html("div", { class: "tip", role: "status" });
  const frame = html("div", { class: "map" }, canvas, tip);
  const name = html("span", {});
  const note = html("p", { class: "quiet hint" });
  const see = { n: 0, cell: 0, x: 0, y: 0 };
  const paintAll = () => { if (see.n && frame.clientWidth) chart(canvas, see); };
  const zoom = (by, at) => { zoomed(see, canvas, by, at); paintAll(); };
  const whole = () => { see.cell = 0; paintAll(); };
  const button = (text, label, action) => {
    const made = html("button", { type: "button", title: label, "aria-label": label }, text);
    made.addEventListener("click", action);
    return made;
  };
  see.filling = (asks ? tiles : pictures)(see, paintAll);
  new ResizeObserver(() => { if (frame.clientWidth !== see.width) { see.width = frame.clientWidth; see.cell = 0; paintAll(); } }).observe(frame);
  listen(canvas, tip, see, { zoom, whole, paint: paintAll });
  return {
    node: html("section", { id: "map" }, html("h2", {}, "Map ", name),
      html("div", { class: "bar tools" }, button("+", "zoom in", () => zoom(1.5)), button("−", "zoom out", () => zoom(1 / 1.5)), button("all", "show all", whole), see.filling.tools),
      frame, note, see.filling.note || null),
    async draw([one]) {
      const [view] = state.shown;
      name.replaceChildren(html("small", {}, `of ${nameOf(view)}`));
      await see.filling.take(view, one);
      if (view !== state.shown[0]) return;
      if (see.n !== plane().n) Object.assign(see, { n: plane().n, cell: 0 });
      note.textContent = `${says.cell}${see.filling.about(one)}`;
      paintAll();
    },
  };
}

// ---- drawing ---------------------------------------------------------------------------------------------------
function chart(canvas, see) {
  const { n } = see;
  const width = see.width = canvas.parentNode.clientWidth;
  const gutter = Math.round(Math.min(110, width * 0.24, 16 + 7 * plane().units.reduce((most, { text }) => Math.max(most, text.length), 0)));
  const side = width - gutter;
  const least = side / n;
  see.cell = Math.min(Math.max(see.cell, least), Math.max(CLOSEST, least));
  const limit = n - side / see.cell;
  see.x = Math.min(Math.max(see.x, 0), Math.max(limit, 0));
  see.y = Math.min(Math.max(see.y, 0), Math.max(limit, 0));
  Object.assign(see, { gutter, side, least });
  canvas.style.touchAction = see.cell > least * 1.01 ? "none" : "pan-y";
  const ratio = window.devicePixelRatio || 1;
  const height = gutter + side;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  Object.assign(canvas.dataset, { cell: see.cell.toFixed(3), x: see.x.toFixed(3), y: see.y.toFixed(3), gutter });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  cells(context, see);
  if (n > 1000 && side / see.cell > 400) numbers(context, see);
  else words(context, see);
}

function cells(context, see) {
  const { cell, y, gutter, side } = see;
  context.save();
  context.beginPath();
  context.rect(gutter, gutter, side, side);
  context.clip();
  context.imageSmoothingEnabled = false;
  see.filling.fill(context, see);
  const style = getComputedStyle(document.body);
  context.strokeStyle = style.getPropertyValue("--ink");
  context.lineWidth = cell < 2 ? 0.75 : 1.5;
  context.strokeRect(gutter - 2, gutter + (spot() - y) * cell, side + 4, Math.max(cell, 1));
  context.restore();
  context.strokeStyle = style.getPropertyValue("--faint");
  context.lineWidth = 1;
  context.strokeRect(gutter - 0.5, gutter - 0.5, side + 0.5, side + 0.5);
}

// One label at a row and at a column.
function label(context, { cell, x, y, gutter, side }, i, text) {
  const inside = (at) => at >= gutter && at <= gutter + side;
  const [down, over] = [gutter + (i + 0.5 - y) * cell, gutter + (i + 0.5 - x) * cell];
  if (inside(down)) {
    context.textAlign = "right";
    context.fillText(text, gutter - 7, down);
  }
  if (inside(over)) {
    context.save();
    context.translate(over, gutter - 7);
    context.rotate(-Math.PI / 2);
    context.textAlign = "left";
    context.fillText(text, 0, 0);
    context.restore();
  }
}

// Where so much is in sight that single words say nothing: the places in the text, and the asked word.
function numbers(context, see) {
  const style = getComputedStyle(document.body);
  const span = see.side / see.cell;
  const power = 10 ** Math.floor(Math.log10(span / 5));
  const stride = power * [1, 2, 5, 10].find((m) => power * m >= span / 8);
  context.textBaseline = "middle";
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = style.getPropertyValue("--quiet");
  const first = Math.floor(Math.min(see.x, see.y) / stride) * stride;
  const last = Math.max(see.x, see.y) + span;
  for (let i = Math.max(first, 0); i <= Math.min(last, see.n - 1); i += stride) {
    if (Math.abs(i - spot()) * see.cell > 14) label(context, see, i, great(i));
  }
  context.font = "650 11px system-ui, sans-serif";
  context.fillStyle = style.getPropertyValue("--ink");
  label(context, see, spot(), cropped(where().units[unit(state.asked)].text.trim(), Math.floor((see.gutter - 8) / 6.2)));
}

// Whole letters, with their accents; the mark of what is cut stands at the word's own end.
const segmenter = new Intl.Segmenter();
function cropped(text, fits) {
  if (text.length <= fits) return isolated(text);
  const some = [...segmenter.segment(text)].map(({ segment }) => segment);
  return isolated(some.length > fits ? `${some.slice(0, fits - 1).join("")}…` : text);
}

function words(context, see) {
  const { cell, x, y, gutter, side, n } = see;
  const style = getComputedStyle(document.body);
  const size = Math.min(13, Math.max(10, cell * 0.75));
  const stride = Math.ceil((size + 1) / cell);
  const asked = spot();
  const fits = Math.floor((gutter - 8) / (size * 0.54));
  const from = Math.floor(Math.min(x, y) / stride) * stride;
  const last = Math.min(n, Math.max(x, y) + side / cell + 1);
  const near = range(Math.max(0, Math.ceil((last - from) / stride))).map((j) => from + j * stride).filter((i) => i >= 0 && Math.abs(i - asked) >= stride);
  context.textBaseline = "middle";
  for (const i of [...near, asked]) {
    context.font = `${i === asked ? "650 " : ""}${size}px system-ui, sans-serif`;
    context.fillStyle = style.getPropertyValue(i === asked ? "--ink" : hidden(i, plane()) ? "--faint" : "--quiet");
    label(context, see, i, cropped(plane().units[i].text.trim(), fits));
  }
}

// ---- moving ----------------------------------------------------------------------------------------------------
function zoomed(see, canvas, by, at = { x: see.gutter + see.side / 2, y: see.gutter + see.side / 2 }) {
  const before = see.cell;
  see.cell = Math.min(Math.max(before * by, see.least), Math.max(CLOSEST, see.least));
  see.x += (at.x - see.gutter) * (1 / before - 1 / see.cell);
  see.y += (at.y - see.gutter) * (1 / before - 1 / see.cell);
}

function listen(canvas, tip, see, { zoom, whole, paint: again }) {
  const held = new Map();
  let moved = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const cellAt = ({ x, y }) => {
    const [k, q] = [Math.floor(see.x + (x - see.gutter) / see.cell), Math.floor(see.y + (y - see.gutter) / see.cell)];
    return x >= see.gutter && y >= see.gutter && k < see.n && q < see.n ? { q, k } : null;
  };
  const spread = () => { const [a, b] = [...held.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, place(event));
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    const before = held.get(event.pointerId);
    if (!before) return told(canvas, tip, see, cellAt(now), now);
    if (held.size === 2) {
      const was = spread();
      held.set(event.pointerId, now);
      moved += 9;
      return zoom(spread() / was, now);
    }
    held.set(event.pointerId, now);
    moved += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
    see.x -= (now.x - before.x) / see.cell;
    see.y -= (now.y - before.y) / see.cell;
    return again();
  });
  canvas.addEventListener("pointerup", (event) => {
    held.delete(event.pointerId);
    const cell = cellAt(place(event));
    if (moved > 4 || !cell) return;
    if (event.shiftKey) join(cell.q, cell.k, plane());
    else ask(cell.q, plane());
    told(canvas, tip, see, cell, place(event));
  });
  canvas.addEventListener("pointercancel", (event) => held.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => { see.pointed = null; tip.style.visibility = "hidden"; });
  canvas.addEventListener("wheel", (event) => { // only when one has turned to the map, so that the page still scrolls over it
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), place(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoom(2, place(event)));
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const acts = { "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: whole }[event.key];
    if (!by && !acts) return;
    event.preventDefault();
    if (acts) return acts();
    const stride = Math.max(1, Math.round(see.side / see.cell / 8));
    see.x += by[0] * stride;
    see.y += by[1] * stride;
    return again();
  });
}

function told(canvas, tip, see, cell, at) {
  see.pointed = cell;
  tip.style.visibility = cell ? "visible" : "hidden";
  if (!cell) return;
  const value = html("span", { class: "number" });
  const place = () => {
    const left = at.x + 14 + tip.offsetWidth > see.width ? at.x - 14 - tip.offsetWidth : at.x + 14;
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${Math.max(0, at.y - 40)}px`;
  };
  tip.replaceChildren(...see.filling.told(cell, (text) => { value.textContent = ` ${text}`; place(); }), value);
  place();
}

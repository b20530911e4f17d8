// The map of the open head: a row for each query, a column for each key. Drag and zoom; the value of a cell is under
// the pointer. Its content is a picture (look-pictures.js), or tiles that the page asks for (look-tiles.js).

const CLOSEST = 64; // pixels of a unit, fully zoomed in
const mapLevel = () => (live ? levels.pieces : current()); // its units are the rows and columns
const mapQuery = () => (live ? state.query : queryUnit());

// The viewport: n units, of which those from column x and row y are visible, each `cell` pixels, in a square of `side`
// pixels that begins `gutter` pixels from the left and the top; `least` is the cell that shows all.
function mapPart() {
  const label = `${phrases.map}: arrow keys move, plus and minus zoom, 0 shows all`;
  const canvas = html("canvas", { tabindex: 0, role: "img", "aria-label": label });
  const frame = html("div", { class: "map" }, canvas);
  const tip = tooltip(frame, { role: "status" });
  frame.append(tip.node);
  const name = html("span", {});
  const note = html("p", { class: "quiet hint" });
  const view = { n: 0, cell: 0, x: 0, y: 0, width: 0 };
  const paint = () => { if (view.n && frame.clientWidth) paintMap(canvas, view); };
  const zoom = (by, at) => { zoomMap(view, by, at); paint(); };
  const showAll = () => { view.cell = 0; paint(); };
  const tool = (text, title, action) => button({ class: "plain", title, "aria-label": title }, action, text);
  view.content = (live ? tileContent : pictureContent)(view, paint);
  onWidth(frame, showAll);
  listenToPointer(canvas, tip, view, { zoom, paint });
  listenToKeys(canvas, view, { zoom, showAll, paint });
  return {
    node: html("section", { id: "map" }, html("h2", {}, "Map ", name),
      html("div", { class: "bar tools" }, tool("+", "zoom in", () => zoom(1.5)),
        tool("−", "zoom out", () => zoom(1 / 1.5)), tool("all", "show all", showAll), view.content.tools),
      frame, note, view.content.note),
    async draw([one]) {
      const [open] = state.shown;
      name.replaceChildren(html("small", {}, `of ${nameOf(open)}`));
      await view.content.open(open, one);
      if (open !== state.shown[0]) return;
      if (view.n !== mapLevel().n) Object.assign(view, { n: mapLevel().n, cell: 0 });
      note.textContent = `${phrases.cell}${view.content.about(one)}`;
      paint();
    },
  };
}

// ---- drawing ---------------------------------------------------------------------------------------------------
function paintMap(canvas, view) {
  const { n } = view;
  const width = canvas.parentNode.clientWidth;
  const longest = mapLevel().units.reduce((most, { text }) => Math.max(most, text.length), 0);
  const gutter = Math.round(Math.min(110, width * 0.24, 16 + 7 * longest));
  const side = width - gutter;
  const least = side / n;
  const cell = Math.min(Math.max(view.cell, least), Math.max(CLOSEST, least));
  const inside = (start) => Math.min(Math.max(start, 0), Math.max(n - side / cell, 0));
  Object.assign(view, { width, gutter, side, least, cell, x: inside(view.x), y: inside(view.y) });
  canvas.style.touchAction = cell > least * 1.01 ? "none" : "pan-y";
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round((gutter + side) * ratio);
  canvas.style.height = `${gutter + side}px`;
  Object.assign(canvas.dataset, { cell: cell.toFixed(3), x: view.x.toFixed(3), y: view.y.toFixed(3), gutter });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  paintCells(context, view);
  context.textBaseline = "middle";
  labelMap(context, view);
}

function paintCells(context, view) {
  const { cell, y, gutter, side } = view;
  context.save();
  context.beginPath();
  context.rect(gutter, gutter, side, side);
  context.clip();
  context.imageSmoothingEnabled = false;
  view.content.paint(context, view);
  context.strokeStyle = cssColor("--ink");
  context.lineWidth = cell < 2 ? 0.75 : 1.5;
  context.strokeRect(gutter - 2, gutter + (mapQuery() - y) * cell, side + 4, Math.max(cell, 1));
  context.restore();
  context.strokeStyle = cssColor("--faint");
  context.lineWidth = 1;
  context.strokeRect(gutter - 0.5, gutter - 0.5, side + 0.5, side + 0.5);
}

// Writes the weights into the visible cells, where these are large enough; rowOf(query)(key) is a weight.
function writeWeights(context, view, rowOf) {
  if (view.cell < 30) return;
  const { n, cell, x, y, gutter, side } = view;
  const visible = (start) => range(n).slice(Math.floor(start), Math.ceil(start + side / cell));
  const columns = visible(x);
  const [light, strong] = [cssColor("--ink"), cssColor("--paper")];
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const q of visible(y)) {
    const weightOf = rowOf(q);
    for (const k of columns) {
      const w = weightOf(k);
      if (w < 0.005) continue;
      context.fillStyle = w > 0.3 ? strong : light;
      context.fillText((100 * w).toFixed(0), gutter + (k + 0.5 - x) * cell, gutter + (q + 0.5 - y) * cell);
    }
  }
}

// The words of the rows and columns; of so many that they say nothing, positions in the text, and the query's word.
function labelMap(context, view) {
  const { cell, x, y, gutter, side, n } = view;
  const span = side / cell;
  const places = n > 1000 && span > 400;
  const size = places ? 11 : Math.min(13, Math.max(10, cell * 0.75));
  const power = 10 ** Math.floor(Math.log10(span / 5));
  const stride = places ? power * [1, 2, 5, 10].find((m) => power * m >= span / 8) : Math.ceil((size + 1) / cell);
  const query = mapQuery();
  const crop = ({ text }) => cropped(text.trim(), Math.floor((gutter - 8) / (size * 0.54)));
  const { units } = mapLevel();
  const write = (i, text, weight, color) => {
    context.font = `${weight}${size}px system-ui, sans-serif`;
    context.fillStyle = cssColor(color);
    writeLabel(context, view, i, text);
  };
  for (let i = Math.floor(Math.min(x, y) / stride) * stride; i < Math.min(n, Math.max(x, y) + span + 1); i += stride) {
    if (i < 0 || Math.abs(i - query) * cell < (places ? 14 : stride * cell)) continue;
    const color = !places && isHidden(i, mapLevel()) ? "--faint" : "--quiet";
    write(i, places ? grouped(i) : crop(units[i]), "", color);
  }
  write(query, crop(places ? current().units[queryUnit()] : units[query]), "650 ", "--ink");
}

// One label at a row and at a column, where these are in sight.
function writeLabel(context, { cell, x, y, gutter, side }, i, text) {
  [gutter + (i + 0.5 - y) * cell, gutter + (i + 0.5 - x) * cell].forEach((at, column) => {
    if (at < gutter || at > gutter + side) return;
    context.save();
    context.translate(...(column ? [at, gutter - 7] : [gutter - 7, at]));
    if (column) context.rotate(-Math.PI / 2);
    context.textAlign = column ? "left" : "right";
    context.fillText(text, 0, 0);
    context.restore();
  });
}

// At most so many whole letters, with their accents; the mark of what is cut stands at the word's own end.
const segmenter = new Intl.Segmenter();
function cropped(text, letters) {
  if (text.length <= letters) return isolated(text);
  const all = [...segmenter.segment(text)].map(({ segment }) => segment);
  return isolated(all.length > letters ? `${all.slice(0, letters - 1).join("")}…` : text);
}

// ---- moving ----------------------------------------------------------------------------------------------------
function zoomMap(view, by, at = { x: view.gutter + view.side / 2, y: view.gutter + view.side / 2 }) {
  const before = view.cell;
  view.cell = Math.min(Math.max(before * by, view.least), Math.max(CLOSEST, view.least));
  view.x += (at.x - view.gutter) * (1 / before - 1 / view.cell);
  view.y += (at.y - view.gutter) * (1 / before - 1 / view.cell);
}

function cellAt({ n, cell, x: left, y: top, gutter }, { x, y }) {
  const [k, q] = [Math.floor(left + (x - gutter) / cell), Math.floor(top + (y - gutter) / cell)];
  return x >= gutter && y >= gutter && k < n && q < n ? { q, k } : null;
}

function listenToPointer(canvas, tip, view, { zoom, paint }) {
  const pressed = new Map(); // pointer -> its place; two of them zoom
  let travel = 0;
  const place = ({ clientX, clientY }) => {
    const box = canvas.getBoundingClientRect();
    return { x: clientX - box.left, y: clientY - box.top };
  };
  const spread = () => { const [a, b] = [...pressed.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
  const listen = (name, action, options) => canvas.addEventListener(name, action, options);
  listen("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pressed.set(event.pointerId, place(event));
    travel = 0;
  });
  listen("pointermove", (event) => {
    const now = place(event);
    const before = pressed.get(event.pointerId);
    if (!before) return describeCell(tip, view, now);
    const distance = pressed.size === 2 ? spread() : 0;
    pressed.set(event.pointerId, now);
    if (distance) {
      travel += 9;
      return zoom(spread() / distance, now);
    }
    travel += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
    view.x -= (now.x - before.x) / view.cell;
    view.y -= (now.y - before.y) / view.cell;
    return paint();
  });
  listen("pointerup", (event) => {
    pressed.delete(event.pointerId);
    const cell = cellAt(view, place(event));
    if (travel > 4 || !cell) return;
    if (event.shiftKey) join(cell.q, cell.k, mapLevel());
    else setQuery(cell.q, mapLevel());
    describeCell(tip, view, place(event));
  });
  listen("pointercancel", (event) => pressed.delete(event.pointerId));
  listen("pointerleave", () => { view.pointed = null; tip.hide(); });
  listen("wheel", (event) => { // only with the focus, so that the page still scrolls over the map
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), place(event));
  }, { passive: false });
  listen("dblclick", (event) => zoom(2, place(event)));
}

function listenToKeys(canvas, view, { zoom, showAll, paint }) {
  const move = (right, down) => () => {
    const stride = Math.max(1, Math.round(view.side / view.cell / 8));
    view.x += right * stride;
    view.y += down * stride;
    paint();
  };
  onKeys(canvas, {
    ArrowLeft: move(-1, 0), ArrowRight: move(1, 0), ArrowUp: move(0, -1), ArrowDown: move(0, 1),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: showAll,
  });
}

function describeCell(tip, view, at) {
  view.pointed = cellAt(view, at);
  if (!view.pointed) return tip.hide();
  const value = html("span", { class: "number" });
  const place = () => tip.place(at.x, at.y - 40);
  const words = view.content.describe(view.pointed, (text) => { value.textContent = ` ${text}`; place(); });
  return tip.show(at.x, at.y - 40, ...words, value);
}

// The map of the open head: a row for each that looks, a column for each that is looked at. Drag and zoom; the value stands under
// the pointer. Where the page holds only a head's links, they stand, in blue, before a grey and coarse picture of the rest.

const CLOSEST = 64; // pixels a cell, zoomed in

function map() {
  const canvas = html("canvas", { tabindex: 0, role: "img", "aria-label": "map of the head: arrow keys move, plus and minus zoom, 0 shows all" });
  const tip = html("div", { class: "tip", role: "status" });
  const frame = html("div", { class: "map" }, canvas, tip);
  const name = html("span", {});
  const note = html("p", { class: "quiet hint" });
  const see = { matrix: null, coarse: null, pictures: null, cell: 0, x: 0, y: 0, made: "" };
  const paintAll = () => { if (see.matrix && frame.clientWidth) chart(canvas, see); };
  const zoom = (by, at) => { zoomed(see, canvas, by, at); paintAll(); };
  const whole = () => { see.cell = 0; paintAll(); };
  const button = (text, label, action) => {
    const made = html("button", { type: "button", title: label, "aria-label": label }, text);
    made.addEventListener("click", action);
    return made;
  };
  new ResizeObserver(() => { if (frame.clientWidth !== see.width) { see.width = frame.clientWidth; see.cell = 0; paintAll(); } }).observe(frame);
  listen(canvas, tip, see, { zoom, whole, paint: paintAll });
  return {
    node: html("section", { id: "map" }, html("h2", {}, "Map ", name),
      html("div", { class: "bar tools" }, button("+", "zoom in", () => zoom(1.5)), button("−", "zoom out", () => zoom(1 / 1.5)), button("all", "show all", whole)),
      frame, note),
    async draw([one]) {
      const [view] = state.shown;
      const made = [view, state.level, state.hide, dark.matches].join();
      name.replaceChildren(html("small", {}, `of ${nameOf(view)}`));
      if (see.made !== made) {
        const coarse = one.whole ? null : await thumbnailOf(view);
        if (view !== state.shown[0]) return;
        Object.assign(see, { matrix: one, coarse, made, pictures: pyramid(one, coarse), cell: see.matrix && see.matrix.n === one.n ? see.cell : 0 });
      }
      note.textContent = `A row looks, a column is looked at; click a row to ask from there.${one.whole ? ""
        : ` The page holds the ${look.links} strongest links of each row, exact, in blue; in grey, the strongest weight of each part of the map${state.hide ? ", what is left out included" : ""}.`}`;
      paintAll();
    },
  };
}

// ---- pictures: a pixel a cell, and then each four of them as their strongest -----------------------------------------
function pyramid(one, coarse) {
  const { n } = one;
  const found = new Float32Array(n * n);
  const rough = coarse && new Float32Array(n * n);
  const pieces = look.pieces.length;
  const part = (i) => Math.min(look.size - 1, Math.floor((where().first[i] * look.size) / pieces));
  for (let q = 0; q < n; q++) {
    found.set(one.row(q), q * n);
    for (let k = 0; k < n; k++) {
      if (hidden(k)) found[q * n + k] = 0;
      else if (coarse) rough[q * n + k] = WEIGHTS[coarse[part(q) * look.size + part(k)]];
    }
  }
  const pictures = [];
  for (let [values, grey, size] = [found, rough, n]; ; [values, grey, size] = [halved(values, size), grey && halved(grey, size), Math.ceil(size / 2)]) {
    pictures.push(picture_of(values, grey, size));
    if (size <= 128) return pictures;
  }
}

function halved(values, size) {
  const half = Math.ceil(size / 2);
  const out = new Float32Array(half * half);
  values.forEach((w, i) => {
    const at = (Math.floor(i / size) >> 1) * half + ((i % size) >> 1);
    if (w > out[at]) out[at] = w;
  });
  return out;
}

function picture_of(values, grey, size) {
  const canvas = html("canvas", { width: size, height: size });
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  const [none, full, quiet] = [PAPER(), INK(), dark.matches ? [120, 124, 130] : [150, 153, 158]];
  values.forEach((w, i) => {
    const back = grey ? blend(none, quiet, Math.sqrt(grey[i])) : none;
    image.data.set([...blend(back, full, Math.sqrt(w)), 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

// ---- drawing ---------------------------------------------------------------------------------------------------
function chart(canvas, see) {
  const { n } = see.matrix;
  const width = see.width = canvas.parentNode.clientWidth;
  const gutter = Math.round(Math.min(110, width * 0.24, 16 + 7 * Math.max(...where().units.map(({ text }) => text.length))));
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
  words(context, see);
}

function cells(context, { pictures, cell, x, y, gutter, side, matrix: { n, row } }) {
  let i = 0;
  while (i + 1 < pictures.length && cell * 2 ** i < 0.75) i++;
  const size = cell * 2 ** i;
  context.save();
  context.beginPath();
  context.rect(gutter, gutter, side, side);
  context.clip();
  context.imageSmoothingEnabled = false;
  context.drawImage(pictures[i], gutter - x * cell, gutter - y * cell, pictures[i].width * size, pictures[i].height * size);
  const style = getComputedStyle(document.body);
  const asked = unit(state.asked);
  context.strokeStyle = style.getPropertyValue("--ink");
  context.lineWidth = 1.5;
  context.strokeRect(gutter - 2, gutter + (asked - y) * cell, side + 4, Math.max(cell, 2));
  if (cell >= 30) {
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let q = Math.floor(y); q < Math.min(n, y + side / cell); q++) {
      const weights = row(q);
      for (let k = Math.floor(x); k < Math.min(n, x + side / cell); k++) {
        if (weights[k] < 0.005 || hidden(k)) continue;
        context.fillStyle = weights[k] > 0.3 ? style.getPropertyValue("--paper") : style.getPropertyValue("--ink");
        context.fillText((100 * weights[k]).toFixed(0), gutter + (k + 0.5 - x) * cell, gutter + (q + 0.5 - y) * cell);
      }
    }
  }
  context.restore();
  context.strokeStyle = style.getPropertyValue("--faint");
  context.lineWidth = 1;
  context.strokeRect(gutter - 0.5, gutter - 0.5, side + 0.5, side + 0.5);
}

function words(context, { cell, x, y, gutter, side, matrix: { n } }) {
  const style = getComputedStyle(document.body);
  const size = Math.min(13, Math.max(10, cell * 0.75));
  const stride = Math.ceil((size + 1) / cell);
  const asked = unit(state.asked);
  const fits = Math.floor((gutter - 8) / (size * 0.54));
  const label = (i) => {
    const text = where().units[i].text.trim();
    return text.length > fits ? `${text.slice(0, fits - 1)}…` : text;
  };
  const near = (i) => i === asked || (Math.abs(i - asked) >= stride && i % stride === 0);
  const inside = (at) => at >= gutter && at <= gutter + side;
  context.textBaseline = "middle";
  for (let i = 0; i < n; i++) {
    if (!near(i)) continue;
    context.font = `${i === asked ? "650 " : ""}${size}px system-ui, sans-serif`;
    context.fillStyle = style.getPropertyValue(i === asked ? "--ink" : hidden(i) ? "--faint" : "--quiet");
    const down = gutter + (i + 0.5 - y) * cell;
    const over = gutter + (i + 0.5 - x) * cell;
    if (inside(down)) {
      context.textAlign = "right";
      context.fillText(label(i), gutter - 7, down);
    }
    if (inside(over)) {
      context.save();
      context.translate(over, gutter - 7);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
      context.fillText(label(i), 0, 0);
      context.restore();
    }
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
    return x >= see.gutter && y >= see.gutter && see.matrix && k < see.matrix.n && q < see.matrix.n ? { q, k } : null;
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
    if (event.shiftKey) join(cell.q, cell.k);
    else ask(cell.q);
    told(canvas, tip, see, cell, place(event));
  });
  canvas.addEventListener("pointercancel", (event) => held.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => { tip.style.visibility = "hidden"; });
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
  tip.style.visibility = cell ? "visible" : "hidden";
  if (!cell) return;
  const w = see.matrix.row(cell.q)[cell.k];
  const value = w || see.matrix.whole ? `${(100 * w).toFixed(1)}%` : `at most ${(100 * see.matrix.least(cell.q)).toFixed(1)}%`;
  tip.replaceChildren(quoted(cell.q), " → ", quoted(cell.k), html("span", { class: "number" }, ` ${value}`));
  const left = at.x + 14 + tip.offsetWidth > see.width ? at.x - 14 - tip.offsetWidth : at.x + 14;
  tip.style.left = `${Math.max(0, left)}px`;
  tip.style.top = `${Math.max(0, at.y - 40)}px`;
}

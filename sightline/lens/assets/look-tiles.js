// A map that is asked for, tile by tile: what is in sight, at the zoom it is seen at, and coarser tiles until that has come. A tile that is
// made of some of its rows says so, and is asked for again.

const KEPT = 192; // tiles
const UNDER_WAY = 4; // questions at once
const AGAIN = 900; // milliseconds, after which a tile is asked for again that is not exact yet

function tiles(see, paint) {
  const known = new Map(); // name: {tile, share, since, mean, peak: bytes, high, wide, pictures}
  const asked = new Map(); // name: AbortController
  let [view, channel, wanted, share, timer, cells] = ["", "mean", [], 1, null, 0];
  const note = html("p", { class: "quiet hint share", role: "status" });
  const tools = html("div", { class: "segments", role: "group", "aria-label": "what a cell shows" }, [["mean", "sum over columns, mean over rows"], ["peak", "the strongest weight"]].map(([name, title]) => {
    const made = html("button", { type: "button", title, "data-channel": name, "aria-pressed": name === channel }, name);
    made.addEventListener("click", () => {
      channel = name;
      for (const other of tools.children) other.setAttribute("aria-pressed", other.dataset.channel === name);
      paint();
    });
    return made;
  }));
  const nameOfTile = ({ at, row, column }) => `${view}/${at}/${row}/${column}`;
  const zoomOf = (cell) => { // cells of about a pixel
    let at = 1;
    while (at * cell < 0.8 && (at * look.side) < see.n) at *= 2;
    return at;
  };

  // The tiles in sight, those in the middle first.
  function inSight() {
    const at = zoomOf(see.cell);
    const pitch = at * look.side;
    const ends = (from) => [Math.floor(from / pitch), Math.floor((Math.min(see.n, from + see.side / see.cell) - 1e-6) / pitch)];
    const [[top, bottom], [left, right]] = [ends(see.y), ends(see.x)];
    const found = [];
    for (let row = top; row <= bottom; row++) for (let column = left; column <= right; column++) found.push({ at, row, column });
    const away = ({ row, column }) => Math.hypot(row - (top + bottom) / 2, column - (left + right) / 2);
    return found.sort((a, b) => away(a) - away(b));
  }

  function request() {
    const names = new Set(wanted.map(nameOfTile));
    for (const [name, stop] of asked) if (!names.has(name)) { stop.abort(); asked.delete(name); }
    for (const tile of wanted) {
      const name = nameOfTile(tile);
      const before = known.get(name);
      if (asked.size >= UNDER_WAY) return;
      if (!asked.has(name) && (!before || (before.share < 1 && performance.now() >= before.since + AGAIN))) send(tile, name);
    }
  }

  async function send(tile, name) {
    const stop = new AbortController();
    asked.set(name, stop);
    try {
      const bytes = new Uint8Array(await source.ask("tile", { view, ...tile }, stop.signal));
      const of = Math.ceil(see.n / tile.at);
      const [high, wide] = [tile.row, tile.column].map((i) => Math.min(look.side, of - i * look.side));
      known.delete(name);
      known.set(name, { tile, high, wide, since: performance.now(), pictures: {},
        share: new DataView(bytes.buffer).getFloat32(0, true), mean: bytes.subarray(4, 4 + high * wide), peak: bytes.subarray(4 + high * wide) });
      while (known.size > KEPT) known.delete(known.keys().next().value);
    } catch (error) {
      lost(error);
      return;
    } finally {
      if (asked.get(name) === stop) asked.delete(name);
    }
    paint();
  }

  function pictureOf(found) {
    const key = channel + dark.matches;
    found.pictures[key] ??= coloured(found[channel], found.high, found.wide);
    return found.pictures[key];
  }

  function put(context, { cell, x, y, gutter }, tile) {
    const found = known.get(nameOfTile(tile));
    if (!found) return false;
    const pitch = tile.at * look.side;
    const size = tile.at * cell;
    context.drawImage(pictureOf(found), gutter + (tile.column * pitch - x) * cell, gutter + (tile.row * pitch - y) * cell, found.wide * size, found.high * size);
    return true;
  }

  // Under a tile that has not come: the part of a coarser one, or nothing.
  function putCoarser(context, tile) {
    for (let { at, row, column } = tile; at * look.side < see.n;) {
      [at, row, column] = [at * 2, row >> 1, column >> 1];
      if (known.has(nameOfTile({ at, row, column }))) {
        context.save();
        const [pitch, { cell, x, y, gutter }] = [tile.at * look.side * see.cell, see];
        context.beginPath();
        context.rect(gutter + tile.column * pitch - x * cell, gutter + tile.row * pitch - y * cell, pitch, pitch);
        context.clip();
        put(context, see, { at, row, column });
        context.restore();
        return;
      }
    }
  }

  return {
    tools, note,
    about: () => " It is of pieces, also where the text is in words.",
    async take(open) {
      if (view !== open) { view = open; wanted = []; request(); }
    },
    fill(context) {
      wanted = inSight();
      wanted.forEach((tile) => { if (!known.has(nameOfTile(tile))) putCoarser(context, tile); });
      wanted.forEach((tile) => put(context, see, tile));
      const found = wanted.map((tile) => known.get(nameOfTile(tile)));
      share = Math.min(...found.map((one) => (one ? one.share : NaN)));
      const { at } = wanted[0];
      if (see.cell >= 30) values(context);
      const cell = at === 1 ? "A cell is one piece by one." : `A cell is ${at} × ${at} pieces: ${channel === "mean" ? "summed over what is looked at, averaged over what looks" : "the strongest weight in it"}.`;
      note.textContent = `${cell} ${Number.isNaN(share) ? "It is on its way …" : share === 1 ? "Exact." : `From ${told_share(share)} of the rows; the rest follows.`}`;
      note.dataset.share = share;
      request();
      clearTimeout(timer);
      if (!Number.isNaN(share) && share < 1) timer = setTimeout(paint, AGAIN);
    },
    // The exact value of the cell under the pointer, once that rests.
    told({ q, k }, say) {
      const at = zoomOf(see.cell);
      const [row, column] = [Math.floor(q / at), Math.floor(k / at)];
      const turn = ++cells;
      say("…");
      setTimeout(async () => {
        if (turn !== cells || !see.pointed) return;
        try {
          const [mean, peak] = new Float32Array(await source.ask("cell", { view, at, row, column }));
          if (turn === cells) say(at === 1 ? fine(mean) : `${fine(mean)} together, at most ${fine(peak)}`);
        } catch (error) { lost(error); }
      }, 90);
      if (at === 1) return [quoted(q, levels.pieces), " → ", quoted(k, levels.pieces)];
      const run = (i) => html("b", {}, `${great(i * at)}–${great(Math.min(see.n, i * at + at) - 1)}`);
      return [run(row), " → ", run(column)];
    },
  };

  function values(context) {
    for (let q = Math.floor(see.y); q < Math.min(see.n, see.y + see.side / see.cell); q++) {
      for (let k = Math.floor(see.x); k < Math.min(see.n, see.x + see.side / see.cell); k++) {
        const [row, column] = [Math.floor(q / look.side), Math.floor(k / look.side)];
        const found = known.get(nameOfTile({ at: 1, row, column }));
        if (found) written(context, see, q, k, WEIGHTS[found.mean[(q - row * look.side) * found.wide + k - column * look.side]]);
      }
    }
  }
}

const told_share = (share) => (share < 0.01 ? `${(100 * share).toFixed(1)}%` : percent(share));
const fine = (w) => (w >= 0.001 || w === 0 ? `${(100 * w).toFixed(1)}%` : w >= 1e-6 ? `${(100 * w).toPrecision(1)}%` : "0.0%");

// Shades for bytes, each a weight's square root, of which the map's whole range is drawn.
function coloured(bytes, high, wide) {
  const canvas = html("canvas", { width: wide, height: high });
  const context = canvas.getContext("2d");
  const image = context.createImageData(wide, high);
  const shades = new Uint32Array(range(256).map((byte) => {
    const [r, g, b] = blend(PAPER(), INK(), byte / 255);
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // as little-endian machines lie
  }));
  const pixels = new Uint32Array(image.data.buffer);
  bytes.forEach((byte, i) => { pixels[i] = shades[byte]; });
  context.putImageData(image, 0, 0);
  return canvas;
}

// A map that the page asks for in tiles: those in sight, at the zoom in use, and coarser ones until these arrive. A
// tile of only some of its rows says so, and is asked for again.

const CACHED = 192; // tiles
const IN_FLIGHT = 4; // requests at a time
const AGAIN = 900; // milliseconds until a tile that is not exact is asked for again
const CHANNELS = [
  ["mean", "mean", "sum over columns, mean over rows"],
  ["peak", "peak", "the strongest weight"],
];

// ---- where tiles are -------------------------------------------------------------------------------------------
// The pieces of a cell, to either side, so that it is about a pixel.
function piecesPerCell({ cell, n }) {
  let at = 1;
  while (at * cell < 0.8 && at * look.side < n) at *= 2;
  return at;
}

// The tiles in sight, those in the middle first.
function tilesInSight(view) {
  const at = piecesPerCell(view);
  const pitch = at * look.side;
  const ends = (start) => [start, Math.min(view.n, start + view.side / view.cell) - 1e-6]
    .map((i) => Math.floor(i / pitch));
  const [[top, bottom], [left, right]] = [ends(view.y), ends(view.x)];
  const away = ({ row, column }) => Math.hypot(row - (top + bottom) / 2, column - (left + right) / 2);
  const tiles = range(bottom - top + 1).flatMap((i) =>
    range(right - left + 1).map((j) => ({ at, row: top + i, column: left + j })));
  return tiles.sort((a, b) => away(a) - away(b));
}

// The left, the top and the side of a tile, in pixels.
function tilePlace({ cell, x, y, gutter }, { at, row, column }) {
  const pitch = at * look.side;
  return [gutter + (column * pitch - x) * cell, gutter + (row * pitch - y) * cell, pitch * cell];
}

// ---- the content of the map ------------------------------------------------------------------------------------
function tileContent(view, paint) {
  let [open, channel, timer, described] = ["", "mean", null, 0];
  const tiles = tileCache(() => open, paint);
  const note = html("p", { class: "quiet hint share", role: "status" });
  const choice = segments("what a cell shows", "channel", CHANNELS, (name) => { setChannel(name); paint(); });
  const setChannel = (name) => { channel = name; choice.press(name); };
  setChannel(channel);
  const rowOf = (q) => (k) => {
    const [row, column] = [Math.floor(q / look.side), Math.floor(k / look.side)];
    const loaded = tiles.get({ at: 1, row, column });
    return loaded ? WEIGHTS[loaded.mean[(q - row * look.side) * loaded.wide + k - column * look.side]] : 0;
  };
  return {
    tools: choice.node, note,
    about: () => " It is of pieces, also where the text is in words.",
    async open(name) {
      if (open === name) return;
      open = name;
      tiles.request([]);
    },
    paint(context) {
      const visible = tilesInSight(view);
      for (const tile of visible) if (!tiles.get(tile)) paintCoarser(context, view, tiles, channel, tile);
      for (const tile of visible) paintTile(context, view, tiles, channel, tile);
      writeWeights(context, view, rowOf);
      const share = Math.min(...visible.map((tile) => tiles.get(tile)?.share ?? NaN));
      note.textContent = tileNote(visible[0].at, channel, share);
      note.dataset.share = share;
      tiles.request(visible);
      clearTimeout(timer);
      if (!Number.isNaN(share) && share < 1) timer = setTimeout(paint, AGAIN);
    },
    // Asks for the exact value of a cell once the pointer rests on it.
    describe({ q, k }, write) {
      const at = piecesPerCell(view);
      const [row, column] = [Math.floor(q / at), Math.floor(k / at)];
      const turn = ++described;
      write(PENDING);
      sleep(90).then(async () => {
        if (turn !== described || !view.pointed) return;
        const [mean, peak] = new Float32Array(await source.ask("cell", { view: open, at, row, column }));
        if (turn === described) write(at === 1 ? fine(mean) : `${fine(mean)} together, at most ${fine(peak)}`);
      }).catch(showLost);
      if (at === 1) return [quoted(q, levels.pieces), " → ", quoted(k, levels.pieces)];
      const run = (i) => html("b", {}, `${grouped(i * at)}–${grouped(Math.min(view.n, i * at + at) - 1)}`);
      return [run(row), " → ", run(column)];
    },
  };
}

const fine = (w) => (w >= 0.001 || w === 0 ? tenths(w) : w >= 1e-6 ? `${(100 * w).toPrecision(1)}%` : "0.0%");

// What a cell is, and how exact the tiles in sight are.
function tileNote(at, channel, share) {
  const mean = "summed over what is looked at, averaged over what looks";
  const value = channel === "mean" ? mean : "the strongest weight in it";
  const cell = at === 1 ? "A cell is one piece by one." : `A cell is ${at} × ${at} pieces: ${value}.`;
  if (Number.isNaN(share)) return `${cell} It is on its way ${PENDING}`;
  if (share === 1) return `${cell} Exact.`;
  return `${cell} From ${share < 0.01 ? tenths(share) : percent(share)} of the rows; the rest follows.`;
}

function paintTile(context, view, tiles, channel, tile) {
  const loaded = tiles.get(tile);
  if (!loaded) return;
  const size = tile.at * view.cell;
  const [left, top] = tilePlace(view, tile);
  context.drawImage(tiles.picture(loaded, channel), left, top, loaded.wide * size, loaded.high * size);
}

// In the place of a tile that is missing: its part of a coarser one, or nothing.
function paintCoarser(context, view, tiles, channel, tile) {
  for (let { at, row, column } = tile; at * look.side < view.n;) {
    [at, row, column] = [at * 2, row >> 1, column >> 1];
    if (!tiles.get({ at, row, column })) continue;
    const [left, top, side] = tilePlace(view, tile);
    context.save();
    context.beginPath();
    context.rect(left, top, side, side);
    context.clip();
    paintTile(context, view, tiles, channel, { at, row, column });
    context.restore();
    return;
  }
}

// ---- loading ---------------------------------------------------------------------------------------------------
// Loaded tiles, and requests for those that are visible: {high, wide, since, share, mean, peak: bytes, pictures}.
function tileCache(openView, paint) {
  const tileKey = ({ at, row, column }) => `${openView()}/${at}/${row}/${column}`;
  const loaded = new Map();
  const requests = new Map(); // key -> AbortController

  async function load(tile, key) {
    const controller = new AbortController();
    requests.set(key, controller);
    try {
      const bytes = new Uint8Array(await source.ask("tile", { view: openView(), ...tile }, controller.signal));
      const cells = Math.ceil(levels.pieces.n / tile.at);
      const [high, wide] = [tile.row, tile.column].map((i) => Math.min(look.side, cells - i * look.side));
      loaded.delete(key); // so that it is the newest
      loaded.set(key, {
        high, wide, since: performance.now(), share: new DataView(bytes.buffer).getFloat32(0, true),
        mean: bytes.subarray(4, 4 + high * wide), peak: bytes.subarray(4 + high * wide), pictures: {},
      });
      while (loaded.size > CACHED) loaded.delete(loaded.keys().next().value);
    } catch (error) {
      showLost(error);
      return;
    } finally {
      if (requests.get(key) === controller) requests.delete(key);
    }
    paint();
  }

  return {
    get: (tile) => loaded.get(tileKey(tile)),
    picture(tile, channel) {
      const key = channel + dark.matches;
      if (!tile.pictures[key]) {
        const shades = palette();
        const canvas = html("canvas", { width: tile.wide, height: tile.high });
        tile.pictures[key] = paintPixels(canvas, tile[channel], (byte) => shades[byte]);
      }
      return tile.pictures[key];
    },
    request(visible) {
      const keys = new Set(visible.map(tileKey));
      for (const [key, controller] of requests) if (!keys.has(key)) { controller.abort(); requests.delete(key); }
      for (const tile of visible) {
        const key = tileKey(tile);
        const before = loaded.get(key);
        if (requests.size >= IN_FLIGHT) return;
        const due = !before || (before.share < 1 && performance.now() >= before.since + AGAIN);
        if (!requests.has(key) && due) load(tile, key);
      }
    },
  };
}

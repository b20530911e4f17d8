// What the page knows: units of text, and for each view (a head, or a mean of heads) who looks at whom. The format is described
// in sightline/lens/inline.py. Blocks are fetched by name from `source`, which may as well lie elsewhere.
const look = JSON.parse(document.getElementById("data").textContent);
if (look.page !== "look" || look.version !== 1) throw new Error(`this page reads version 1, the data say ${look.version}`);
if (typeof DecompressionStream === "undefined") {
  document.getElementById("page").textContent = "This page unpacks its numbers with what browsers have since 2023; open it in a newer one.";
  throw new Error("no DecompressionStream");
}

const source = {
  has: (name) => Object.hasOwn(look.blocks, name),
  async block(name) {
    const bytes = Uint8Array.from(atob(look.blocks[name]), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  },
};

const WEIGHTS = Float32Array.from({ length: 256 }, (_, byte) => (byte / 255) ** 2);

// ---- views -----------------------------------------------------------------------------------------------------
const range = (n) => Array.from({ length: n }, (_, i) => i);
const heads = range(look.layers).flatMap((layer) => range(look.heads).map((head) => `${layer}.${head}`));
const views = ["all", ...range(look.layers).map(String), ...heads];
const isHead = (view) => view.includes(".");
const layerOf = (view) => (view === "all" ? null : +view.split(".")[0]);
const headOf = (view) => (isHead(view) ? +view.split(".")[1] : null);
const nameOf = (view) => (view === "all" ? "the mean of all heads"
  : isHead(view) ? `layer ${layerOf(view)}, head ${headOf(view)}` : `layer ${layerOf(view)}, the mean of its heads`);
const capital = (text) => text[0].toUpperCase() + text.slice(1);

// A number that is kept for heads, of a view: for a mean, the mean.
function statistic(name, view) {
  const rows = look.statistics[name];
  if (isHead(view)) return rows[layerOf(view)][headOf(view)];
  const all = view === "all" ? rows.flat() : rows[layerOf(view)];
  return all.reduce((a, b) => a + b, 0) / all.length;
}

function profileOf(view) {
  if (isHead(view)) return look.profile[layerOf(view)][headOf(view)];
  const rows = view === "all" ? look.profile.flat() : look.profile[layerOf(view)];
  return look.bins.map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
}

// ---- levels: words, or pieces ----------------------------------------------------------------------------------
const special = new Set(look.special);
function level(name, units, of) {
  const first = [];
  of.forEach((unit, piece) => { first[unit] ??= piece; });
  first.push(of.length);
  return { name, n: units.length, of, first, units: units.map(([space, text], i) => ({ space, text, special: special.has(first[i]) })) };
}
const levels = {
  words: level("words", look.words, look.word_of),
  pieces: level("pieces", look.pieces, look.pieces.map((_, i) => i)),
};

// ---- matrices: {n, whole, row(query), column(key), first, special: by query, least(query)} ------------------------
// Where only the strongest links are known (not whole), all else reads as 0, and is at most least(query).
const opened = new Map();
function matrix(view, where) {
  const name = `${where.name}/${view}`;
  if (!opened.has(name)) opened.set(name, source.has(`map/${view}`) ? dense(view, where) : linked(name, where));
  return opened.get(name);
}

async function dense(view, where) {
  const bytes = await source.block(`map/${view}`);
  const { n, of } = where;
  const m = of.length;
  let weights = new Float32Array(n * n);
  if (n === m) weights = Float32Array.from(bytes, (byte) => WEIGHTS[byte]);
  else { // the sum over the pieces attended to, the mean over those attended from
    for (let q = 0; q < m; q++) {
      const row = of[q] * n;
      const share = 1 / (where.first[of[q] + 1] - where.first[of[q]]);
      for (let k = 0; k < m; k++) weights[row + of[k]] += WEIGHTS[bytes[q * m + k]] * share;
    }
  }
  const row = (q) => weights.subarray(q * n, q * n + n);
  const sum = (q, some) => row(q).reduce((total, w, k) => (some(k) ? total + w : total), 0);
  return {
    n, whole: true, row, least: () => 0, weights,
    column: (k) => Float32Array.from({ length: n }, (_, q) => weights[q * n + k]),
    first: range(n).map((q) => weights[q * n]),
    special: range(n).map((q) => sum(q, (k) => where.units[k].special)),
  };
}

async function linked(name, where) {
  const bytes = await source.block(name);
  const { n } = where;
  const k = Math.min(look.links, n);
  const [low, high, weight] = [0, 1, 2].map((part) => bytes.subarray(n * (2 + part * k), n * (2 + part * k + k)));
  const row = (q) => {
    const found = new Float32Array(n);
    for (let i = q * k; i < q * k + k; i++) {
      const key = low[i] + 256 * high[i];
      if (key < n) found[key] = WEIGHTS[weight[i]];
    }
    return found;
  };
  const masses = (part) => Array.from(bytes.subarray(part * n, part * n + n), (byte) => WEIGHTS[byte]);
  return {
    n, whole: false, row, first: masses(0), special: masses(1),
    column: (key) => Float32Array.from({ length: n }, (_, q) => row(q)[key]),
    least: (q) => WEIGHTS[Math.min(...weight.subarray(q * k, q * k + k))],
  };
}

// The largest weight in each part of a map of pieces, of every view: small pictures, and all that is known of the rest of a map.
let thumbnails;
async function thumbnailOf(view) {
  thumbnails ??= source.block("thumbnails");
  const size = look.size * look.size;
  return (await thumbnails).subarray(views.indexOf(view) * size, (views.indexOf(view) + 1) * size);
}

// ---- writing numbers -------------------------------------------------------------------------------------------
const percent = (w) => (w > 0 && w < 0.005 ? "<1%" : `${(100 * w).toFixed(0)}%`);
const rounded = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : Math.abs(x) >= 10 ? x.toFixed(1) : x.toFixed(2));

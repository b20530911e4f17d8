// The data of a look: units of text, and for each view (a head, or a mean of heads) the weights of query and key.
const WEIGHTS = Float32Array.from({ length: 256 }, (_, byte) => (byte / 255) ** 2);

// ---- views -----------------------------------------------------------------------------------------------------
const heads = range(look.layers).flatMap((layer) => range(look.heads).map((head) => `${layer}.${head}`));
const views = [...(live ? [] : ["all"]), ...range(look.layers).map(String), ...heads]; // in the order of the thumbnails
const isHead = (view) => view.includes(".");
const layerOf = (view) => (view === "all" ? null : +view.split(".")[0]);
const headOf = (view) => (isHead(view) ? +view.split(".")[1] : null);
function nameOf(view) {
  if (view === "all") return "the mean of all heads";
  return `layer ${layerOf(view)}, ${isHead(view) ? `head ${headOf(view)}` : "the mean of its heads"}`;
}

// The numbers known per head: what they are, how they are written, their unit; without one, shares of the weight.
const STATISTICS = {
  entropy: ["entropy", decimals, " nats"], distance: ["mean distance", decimals, " pieces"],
  previous: ["on the piece before", percent, ""], next: ["on the next piece", percent, ""],
  first: ["on the first piece", percent, ""], special: ["on special tokens", percent, ""],
  binding: ["on the binding, from a use", percent, ""],
};

const knownStatistics = () => Object.keys(STATISTICS)
  .filter((name) => look.statistics[name] && (name !== "special" || look.special.length));

// A number known per head, of a view: for a mean, the mean. NaN while it has not arrived.
function statistic(name, view) {
  const rows = look.statistics[name] || [];
  if (isHead(view)) return rows[layerOf(view)]?.[headOf(view)] ?? NaN;
  const all = view === "all" ? rows.flat() : rows[layerOf(view)] || [];
  return all.length ? all.reduce((a, b) => a + b, 0) / all.length : NaN;
}

function profileOf(view) {
  const rows = view === "all" ? look.profile.flat() : look.profile[layerOf(view)] || [];
  const some = isHead(view) ? rows.slice(headOf(view), headOf(view) + 1) : rows;
  return look.bins.map((_, i) => some.reduce((sum, row) => sum + row[i], 0) / (some.length || 1));
}

// ---- levels: words, or pieces ----------------------------------------------------------------------------------
const special = new Set(look.special);
const unknown = new Set(look.unknown || []);
const rightToLeft = look.dir === "rtl";

// A word outside its text keeps its direction; a mark, which has none, takes that of the text. Where there are no
// elements, Unicode's isolates (FSI or RLI, and PDI) do the same.
const directionOf = (text) => (rightToLeft && !/\p{L}/u.test(text) ? "rtl" : "auto");
const spelled = (text) => html("bdi", { dir: directionOf(text) }, text.trim() || "␣");
// Letters that run from right to left.
const RIGHT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
function isolated(text) {
  if (!rightToLeft && !RIGHT.test(text)) return text;
  return `${directionOf(text) === "rtl" ? "\u2067" : "\u2068"}${text}\u2069`;
}

function makeLevel(name, units, of) { // of: piece -> unit
  const first = []; // unit -> its first piece
  of.forEach((i, piece) => { first[i] ??= piece; });
  const unread = new Set([...unknown].map((piece) => of[piece]));
  const end = (look.ends || ["", ""])[+(name === "words")];
  const described = units.map(([space, text], i) =>
    ({ space, text, special: special.has(first[i]), unknown: unread.has(i) }));
  return { name, n: units.length, of, first: [...first, of.length], end, units: described };
}
const levels = {
  words: makeLevel("words", look.words, look.word_of),
  pieces: makeLevel("pieces", look.pieces, range(look.pieces.length)),
};

// The number of a unit among those spelled alike, and how many these are.
function occurrence(i, level) {
  if (!level.alike) {
    const count = new Map();
    const number = level.units.map(({ text }) => count.set(text, (count.get(text) || 0) + 1).get(text));
    level.alike = { count, number };
  }
  return [level.alike.number[i], level.alike.count.get(level.units[i].text)];
}

// ---- matrices: {n, whole, row(query), column(key), first, special: by query, least(query)} ---------------------
// Where only the strongest links are known (not whole), all else reads as 0 and is at most least(query). A live matrix
// of many units has the row and the column of the query unit alone.
const WHOLE = 512; // units of which a live page gets all rows
const matrices = new Map();
function matrix(view, level, query) {
  if (live) return liveMatrix(view, level, level.n <= WHOLE ? null : query);
  const name = `${level.name}/${view}`;
  if (!matrices.has(name)) {
    matrices.set(name, source.has(`map/${view}`) ? denseMatrix(view, level) : sparseMatrix(name, level));
  }
  return matrices.get(name);
}

async function denseMatrix(view, { n, of, first, units }) {
  const bytes = await source.bytes(`map/${view}`);
  const pieces = of.length;
  if (n === pieces) return fullMatrix(Float32Array.from(bytes, (byte) => WEIGHTS[byte]), n, units);
  const weights = new Float32Array(n * n); // the sum over a word's pieces as keys, the mean over its pieces as queries
  for (let q = 0; q < pieces; q++) {
    const row = of[q] * n;
    const share = 1 / (first[of[q] + 1] - first[of[q]]);
    for (let k = 0; k < pieces; k++) weights[row + of[k]] += WEIGHTS[bytes[q * pieces + k]] * share;
  }
  return fullMatrix(weights, n, units);
}

function fullMatrix(weights, n, units) {
  const row = (q) => weights.subarray(q * n, q * n + n);
  const added = range(n).filter((k) => units[k].special);
  return {
    n, whole: true, row, least: () => 0, weights,
    column: (k) => Float32Array.from({ length: n }, (_, q) => weights[q * n + k]),
    first: range(n).map((q) => weights[q * n]),
    special: range(n).map((q) => added.reduce((sum, k) => sum + weights[q * n + k], 0)),
  };
}

async function liveMatrix(view, { name, n, units }, query) {
  const key = `${name}/${view}/${query}`;
  if (matrices.has(key)) return matrices.get(key);
  while (matrices.size >= 12) matrices.delete(matrices.keys().next().value);
  const numbers = async (what, first, stop) =>
    new Float32Array(await source.ask(what, { view, level: name, first, stop }));
  const load = async () => {
    if (query === null) return fullMatrix(await numbers("rows", 0, n), n, units);
    const [row, column] = await Promise.all(["rows", "columns"].map((what) => numbers(what, query, query + 1)));
    return {
      n, whole: true, row: () => row, column: () => column, least: () => 0, first: { [query]: row[0] },
      special: { [query]: units.reduce((sum, unit, k) => (unit.special ? sum + row[k] : sum), 0) },
    };
  };
  const promise = load();
  matrices.set(key, promise);
  promise.catch(() => matrices.delete(key));
  return promise;
}

async function sparseMatrix(name, { n }) {
  const bytes = await source.bytes(name);
  const k = Math.min(look.links, n);
  const [low, high, weight] = range(3).map((part) => bytes.subarray(n * (2 + part * k), n * (2 + part * k + k)));
  const row = (q) => {
    const weights = new Float32Array(n);
    for (let i = q * k; i < q * k + k; i++) {
      const key = low[i] + 256 * high[i];
      if (key < n) weights[key] = WEIGHTS[weight[i]];
    }
    return weights;
  };
  const masses = (part) => Array.from(bytes.subarray(part * n, part * n + n), (byte) => WEIGHTS[byte]);
  return {
    n, whole: false, row, first: masses(0), special: masses(1),
    column: (key) => Float32Array.from({ length: n }, (_, q) => row(q)[key]),
    least: (q) => WEIGHTS[Math.min(...weight.subarray(q * k, q * k + k))],
  };
}

// A weight as text, or its bound where only the strongest links are known.
const weightText = (one, q, weight) => (weight || one.whole ? tenths(weight) : `at most ${tenths(one.least(q))}`);

// The largest weight in each part of a map of pieces, for every view: small pictures, and all that is known of the
// rest of a sparse map.
let thumbnails;
async function thumbnailOf(view) {
  thumbnails ??= source.bytes("thumbnails");
  const size = look.size * look.size;
  return (await thumbnails).subarray(views.indexOf(view) * size, (views.indexOf(view) + 1) * size);
}

// ---- phrases ---------------------------------------------------------------------------------------------------
// Of a model whose attention cannot be seen, the numbers are shares of influence, and nothing "looks".
const influenceOnly = look.shows === "influence";
const phrases = influenceOnly ? {
  title: "'s encodings depend on", looks: " depends on ", nothing: " depends on nothing that is shown",
  back: "what depends on it", shaded: " is what its encoding depends on, ", under: " what depends on it.",
  pair: "hold these two", ruler: "where in the text: what the word depends on, and what depends on it",
  map: "map of influence", cell: "A row is an encoding, a column an input that moves it; click a row to start there.",
  lines: "From a word to those that its encoding depends on; the stronger the line, the more influence.",
} : {
  title: " looks at", looks: " looks at ", nothing: " looks at nothing that is shown",
  back: "looked at by", shaded: " is what it looks at, ", under: " what looks at it.",
  pair: "which heads join these two?", ruler: "where in the text: what the word looks at, and what looks at it",
  map: "map of the head", cell: "A row looks, a column is looked at; click a row to start there.",
  lines: "From a word that looks to the words it looks at; the stronger the line, the more weight.",
};

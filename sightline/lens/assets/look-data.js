// What the page knows: units of text, and for each view (a head, or a mean of heads) who looks at whom.
const WEIGHTS = Float32Array.from({ length: 256 }, (_, byte) => (byte / 255) ** 2);

// ---- views -----------------------------------------------------------------------------------------------------
const range = (n) => Array.from({ length: n }, (_, i) => i);
const heads = range(look.layers).flatMap((layer) => range(look.heads).map((head) => `${layer}.${head}`));
const views = [...(asks ? [] : ["all"]), ...range(look.layers).map(String), ...heads]; // in the order of the thumbnails
const isHead = (view) => view.includes(".");
const layerOf = (view) => (view === "all" ? null : +view.split(".")[0]);
const headOf = (view) => (isHead(view) ? +view.split(".")[1] : null);
const nameOf = (view) => (view === "all" ? "the mean of all heads"
  : isHead(view) ? `layer ${layerOf(view)}, head ${headOf(view)}` : `layer ${layerOf(view)}, the mean of its heads`);
const capital = (text) => text[0].toUpperCase() + text.slice(1);

// A number that is kept for heads, of a view: for a mean, the mean. Where it has not come yet, NaN.
function statistic(name, view) {
  const rows = look.statistics[name] || [];
  if (isHead(view)) return (rows[layerOf(view)] || [])[headOf(view)] ?? NaN;
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
const backwards = look.dir === "rtl"; // written from right to left

// A word apart from its text keeps its direction; a mark, which has none, has that of the text. Where there are no elements, Unicode's
// FSI or RLI and PDI say the same.
const directed = (text) => (backwards && !/\p{L}/u.test(text) ? "rtl" : "auto");
const bare = (text) => html("bdi", { dir: directed(text) }, text.trim() || "␣");
const RIGHT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u; // where letters are that run to the left
const isolated = (text) => (!backwards && !RIGHT.test(text) ? text : `${directed(text) === "rtl" ? "\u2067" : "\u2068"}${text}\u2069`);
function level(name, units, of) {
  const first = [];
  of.forEach((unit, piece) => { first[unit] ??= piece; });
  const unread = new Set([...unknown].map((piece) => of[piece]));
  first.push(of.length);
  const end = (look.ends || ["", ""])[+(name === "words")];
  return { name, n: units.length, of, first, end, units: units.map(([space, text], i) => ({ space, text, special: special.has(first[i]), unknown: unread.has(i) })) };
}
const levels = {
  words: level("words", look.words, look.word_of),
  pieces: level("pieces", look.pieces, look.pieces.map((_, i) => i)),
};

// Which of several units that are spelled alike: [number, of how many].
function which(i, level) {
  if (!level.alike) {
    const count = new Map();
    level.alike = { count, number: level.units.map(({ text }) => { count.set(text, (count.get(text) || 0) + 1); return count.get(text); }) };
  }
  return [level.alike.number[i], level.alike.count.get(level.units[i].text)];
}

// ---- matrices: {n, whole, row(query), column(key), first, special: by query, least(query)} ------------------------
// Where only the strongest links are known (not whole), all else reads as 0, and is at most least(query). Where they are asked for,
// a matrix of many units knows the row and the column of the unit that is `asked`, and no other.
const WHOLE = 512; // units of which all rows are asked for
const opened = new Map();
function matrix(view, where, asked) {
  if (asks) return asked_for(view, where, where.n <= WHOLE ? null : asked);
  const name = `${where.name}/${view}`;
  if (!opened.has(name)) opened.set(name, source.has(`map/${view}`) ? dense(view, where) : linked(name, where));
  return opened.get(name);
}

async function dense(view, where) {
  const bytes = await source.bytes(`map/${view}`);
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
  return whole_of(weights, n, where.units);
}

function whole_of(weights, n, units) {
  const row = (q) => weights.subarray(q * n, q * n + n);
  const added = range(n).filter((k) => units[k].special);
  return {
    n, whole: true, row, least: () => 0, weights,
    column: (k) => Float32Array.from({ length: n }, (_, q) => weights[q * n + k]),
    first: range(n).map((q) => weights[q * n]),
    special: range(n).map((q) => added.reduce((sum, k) => sum + weights[q * n + k], 0)),
  };
}

async function asked_for(view, { name, n, units }, asked) {
  const called = `${name}/${view}/${asked}`;
  if (opened.has(called)) return opened.get(called);
  while (opened.size >= 12) opened.delete(opened.keys().next().value);
  const numbers = async (what, first, stop) => new Float32Array(await source.ask(what, { view, level: name, first, stop }));
  const made = asked === null ? numbers("rows", 0, n).then((weights) => whole_of(weights, n, units))
    : Promise.all([numbers("rows", asked, asked + 1), numbers("columns", asked, asked + 1)]).then(([row, column]) => ({
      n, whole: true, row: () => row, column: () => column, least: () => 0, first: { [asked]: row[0] },
      special: { [asked]: units.reduce((sum, unit, k) => (unit.special ? sum + row[k] : sum), 0) },
    }));
  opened.set(called, made);
  made.catch(() => opened.delete(called));
  return made;
}

async function linked(name, where) {
  const bytes = await source.bytes(name);
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
  thumbnails ??= source.bytes("thumbnails");
  const size = look.size * look.size;
  return (await thumbnails).subarray(views.indexOf(view) * size, (views.indexOf(view) + 1) * size);
}

// ---- writing numbers -------------------------------------------------------------------------------------------
const UNKNOWN = "…";
const percent = (w) => (Number.isNaN(w) ? UNKNOWN : w > 0 && w < 0.005 ? "<1%" : `${(100 * w).toFixed(0)}%`);
const rounded = (x) => (Number.isNaN(x) ? UNKNOWN : Math.abs(x) >= 100 ? x.toFixed(0) : Math.abs(x) >= 10 ? x.toFixed(1) : x.toFixed(2));
const great = (n) => n.toLocaleString("en");

// ---- what the page says ----------------------------------------------------------------------------------------
// Of a model whose attention cannot be seen the numbers are shares of influence, and nothing "looks".
const alone = look.shows === "influence";
const says = alone ? {
  title: "'s encodings depend on", looks: " depends on ", nothing: " depends on nothing that is shown", back: "what depends on it",
  shaded: " is what its encoding depends on, ", under: " what depends on it.", pair: "hold these two",
  ruler: "where in the text: what the word depends on, and what depends on it", map: "map of influence",
  lines: "From a word to those that its encoding depends on; the stronger the line, the more influence.",
  cell: "A row is an encoding, a column an input that moves it; click a row to ask from there.",
} : {
  title: " looks at", looks: " looks at ", nothing: " looks at nothing that is shown", back: "looked at by",
  shaded: " is what it looks at, ", under: " what looks at it.", pair: "which heads join these two?",
  ruler: "where in the text: what the word looks at, and what looks at it", map: "map of the head",
  lines: "From a word that looks to the words it looks at; the stronger the line, the more weight.",
  cell: "A row looks, a column is looked at; click a row to ask from there.",
};

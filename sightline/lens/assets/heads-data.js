// Reads the report embedded in the page: every head with its name, how numbers are written, what is chosen, and the colours.
const report = JSON.parse(document.getElementById("data").textContent);
if (report.version !== 1) throw new Error(`this page reads version 1, the data say ${report.version}`);

const { models, measures, relations } = report;
const two = models.length > 1;
const HEADS = models.flatMap((model, m) => Array.from({ length: model.layers * model.heads }, (_, i) => {
  const [layer, head] = [Math.floor(i / model.heads), i % model.heads];
  return { m, i, layer, head, labels: model.labels[`${layer}.${head}`] || [] };
}));
const headOf = (m, layer, head) => HEADS.find((one) => one.m === m && one.layer === layer && one.head === head);
const called = ({ m, layer, head }) => `layer ${layer}, head ${head}${two ? ` of ${models[m].name}` : ""}`;
const valueOf = (measure, { m, i }) => { const v = measures[measure].values[m][i]; return v === undefined ? null : v; };
const named = (group) => measures.map((measure, i) => ({ ...measure, number: i })).filter((measure) => measure.group === group);

const state = { x: report.start.x, y: report.start.y, by: two ? "model" : "layer", head: HEADS[0] };

// ---- writing numbers ---------------------------------------------------------------------------------------------------
const share = (x) => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(1)}%`);
const points = (x) => `${x < 0 ? "−" : "+"}${Math.abs(100 * x).toFixed(1)}`;
const written = (measure, v) => {
  if (v === null) return "–";
  const { unit } = measures[measure];
  return unit === "share" ? share(v) : `${+v.toPrecision(3)}${unit ? ` ${unit}` : ""}`;
};
const signed = (offset) => (offset > 0 ? `+${offset}` : String(offset).replace("-", "−"));

// ---- colours -----------------------------------------------------------------------------------------------------------
const MODELS = ["var(--blue)", "var(--orange)"];
const KINDS = [
  ["looks at the word before", "var(--vermillion)", (head) => head.labels.includes("looks at the word before")],
  ["looks at the word after", "var(--orange)", (head) => head.labels.includes("looks at the word after")],
  ["syntactic", "var(--blue)", (head) => head.labels.length > 0],
  ["neither", "var(--rest)", () => true],
];
// From the first layer to the last through three colours that differ in lightness too.
function ramp(layer, layers) {
  const at = layers > 1 ? layer / (layers - 1) : 0;
  const [from, to, part] = at < 0.5 ? ["--lowest", "--middle", 2 * at] : ["--middle", "--highest", 2 * at - 1];
  return `color-mix(in oklab, var(${from}) ${(100 * (1 - part)).toFixed(0)}%, var(${to}))`;
}
const SCHEMES = {
  layer: {
    color: (head) => ramp(head.layer, models[head.m].layers),
    keys: () => Array.from({ length: models[0].layers }, (_, layer) => layer)
      .filter((layer) => layer % Math.ceil(models[0].layers / 12) === 0 || layer === models[0].layers - 1)
      .map((layer) => [`layer ${layer}`, ramp(layer, models[0].layers)]),
  },
  label: {
    color: (head) => KINDS.find(([, , fits]) => fits(head))[1],
    keys: () => KINDS.filter(([name]) => HEADS.some((head) => KINDS.find(([, , fits]) => fits(head))[0] === name)),
  },
  model: { color: (head) => MODELS[head.m], keys: () => models.map(({ name }, m) => [name, MODELS[m]]) },
};

// The report on heads: every head with its name, how its numbers are written, what is chosen, and the colours.
const { models, measures, relations } = report;
const two = models.length > 1;
const HEADS = models.flatMap((model, m) => range(model.layers * model.heads).map((i) => {
  const [layer, head] = [Math.floor(i / model.heads), i % model.heads];
  return { m, i, layer, head, labels: model.labels[`${layer}.${head}`] || [] };
}));
const headAt = (m, layer, head) => HEADS.find((one) => one.m === m && one.layer === layer && one.head === head);
const nameOf = ({ m, layer, head }) => `layer ${layer}, head ${head}${two ? ` of ${models[m].name}` : ""}`;
const valueOf = (measure, { m, i }) => measures[measure].values[m][i] ?? null;
const measuresIn = (group) =>
  measures.map((measure, number) => ({ ...measure, number })).filter((measure) => measure.group === group);

const state = { x: report.start.x, y: report.start.y, by: two ? "model" : "layer", head: HEADS[0] };

// ---- numbers ---------------------------------------------------------------------------------------------------
const points = (x) => `${x < 0 ? "−" : "+"}${Math.abs(100 * x).toFixed(1)}`;
const signed = (offset) => (offset > 0 ? `+${offset}` : String(offset).replace("-", "−"));
function valueText(measure, value) {
  const { unit } = measures[measure];
  if (value === null || unit === "share") return tenths(value);
  return `${+value.toPrecision(3)}${unit ? ` ${unit}` : ""}`;
}

// ---- colours ---------------------------------------------------------------------------------------------------
const MODELS = ["var(--blue)", "var(--orange)"];
const GROUPS = [
  ["looks at the word before", "var(--vermillion)", ({ labels }) => labels.includes("looks at the word before")],
  ["looks at the word after", "var(--orange)", ({ labels }) => labels.includes("looks at the word after")],
  ["syntactic", "var(--blue)", ({ labels }) => labels.length > 0],
  ["neither", "var(--rest)", () => true],
];
const groupOf = (head) => GROUPS.find(([, , fits]) => fits(head));
// From the first layer to the last through three colours that also differ in lightness.
function layerColor(layer, layers) {
  const at = layers > 1 ? layer / (layers - 1) : 0;
  const [from, to, part] = at < 0.5 ? ["--lowest", "--middle", 2 * at] : ["--middle", "--highest", 2 * at - 1];
  return `color-mix(in oklab, var(${from}) ${(100 * (1 - part)).toFixed(0)}%, var(${to}))`;
}
const SCHEMES = {
  layer: {
    color: ({ m, layer }) => layerColor(layer, models[m].layers),
    keys() {
      const [{ layers }] = models;
      const named = range(layers).filter((i) => i % Math.ceil(layers / 12) === 0 || i === layers - 1);
      return named.map((layer) => [`layer ${layer}`, layerColor(layer, layers)]);
    },
  },
  label: {
    color: (head) => groupOf(head)[1],
    keys: () => GROUPS.filter((group) => HEADS.some((head) => groupOf(head) === group)),
  },
  model: { color: ({ m }) => MODELS[m], keys: () => models.map(({ name }, m) => [name, MODELS[m]]) },
};

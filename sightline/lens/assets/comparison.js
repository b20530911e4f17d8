// A comparison: its sentences, the table, and the plots by distance, against time and against tokens.

// ---- numbers ---------------------------------------------------------------------------------------------------
const { measure, captions } = report;
const unitName = measure.percent ? ", %" : "";
function plainValue(x) { // without its unit
  if (x === null || x === undefined) return NONE;
  return measure.percent ? (100 * x).toFixed(1) : String(+x.toPrecision(4));
}
const valueOf = (x) => plainValue(x) + (measure.percent ? "%" : "");
const valueTick = (v) => (measure.percent ? percentTick(v) : digits(v));

// ---- the table -------------------------------------------------------------------------------------------------
// A column: {name, cell: encoder -> content, spread?: encoder -> {median, low, high}, baseline?: baseline -> number}
function columns() {
  const seeds = (s) => (s && s.high > s.low ? html("small", {}, `${plainValue(s.low)}–${plainValue(s.high)}`) : null);
  const measured = (name, spread, baseline, ranges) =>
    ({ name, spread, baseline, cell: (e) => [plainValue(spread(e)?.median), ranges ? seeds(spread(e)) : null] });
  return [
    measured(report.equal[0] + unitName, (e) => e.time, (b) => b.value, true),
    measured(report.equal[1] + unitName, (e) => e.tokens, null, true),
    ...report.buckets.map((bucket) => measured(bucket, (e) => e.distance[bucket], (b) => b.distance[bucket], false)),
    { name: "tokens/s", cell: (e) => count(e.tokens_per_second) },
    { name: "steps", cell: (e) => count(e.steps) },
    { name: "parameters", cell: (e) => count(e.parameters) },
  ];
}

function best({ spread }) {
  if (!spread) return null;
  const medians = report.encoders.map(spread).filter(Boolean).map((s) => s.median);
  return measure.better === "higher" ? Math.max(...medians) : Math.min(...medians);
}

function table() {
  const all = columns().map((column) => ({ ...column, best: best(column) }));
  const over = html("tr", { class: "over" }, html("th", { colspan: 3 }),
    html("th", { class: "span", colspan: report.buckets.length, scope: "colgroup" }, report.distance_name),
    html("th", { colspan: 3 }));
  const isBest = (column, e) => column.spread?.(e) && column.spread(e).median === column.best;
  const rows = report.encoders.map((e) => html("tr", { "data-kind": e.kind },
    html("th", { scope: "row" }, dot(e.kind), e.kind),
    all.map((column) => html("td", { class: isBest(column, e) ? "best" : null }, column.cell(e)))));
  const baselines = report.baselines.map((b) => html("tr", { class: "baseline" },
    html("th", { scope: "row" }, dot(null), b.name),
    all.map((column) => html("td", {}, column.baseline ? plainValue(column.baseline(b)) : ""))));
  return scrollable("results", html("table", { class: "results" },
    html("thead", {}, report.buckets.length ? over : null, headings(["encoder", ...all.map(({ name }) => name)])),
    html("tbody", {}, rows, baselines)));
}

// ---- the plots -------------------------------------------------------------------------------------------------
// One run of each encoder is strong; its other seeds are thin lines beneath.
function runLines(points, marks) {
  const lines = report.encoders.flatMap(({ kind, runs, shown }) =>
    runs.map((run) => ({ kind, label: kind, points: points(run), marks, other: run.seed !== shown })));
  return lines.filter((line) => line.points.length).sort((a, b) => b.other - a.other);
}

function byDistance() {
  const apart = (bucket) => !/^\d/.test(bucket); // such as "outside": not a distance, so it stands before the lines
  const order = [...report.buckets].sort((a, b) => apart(b) - apart(a));
  const line = (label, valueIn, more) => ({
    label, ...more,
    points: order.map((name, x) => ({ x, apart: apart(name), ...valueIn(name) })).filter((p) => Number.isFinite(p.y)),
  });
  const spread = (s) => (s ? { y: s.median, low: s.low, high: s.high } : {});
  const drawable = ({ points }) => points.length;
  const lines = report.encoders.map(({ kind, distance }) =>
    line(kind, (bucket) => spread(distance[bucket]), { kind, marks: true })).filter(drawable);
  const baselines = report.baselines.map((b) => line(b.name, (bucket) => ({ y: b.distance[bucket] })));
  const joined = baselines.map((b) => ({ points: b.points.filter((p) => !p.apart) })); // these set the scale
  const [low, high] = extent([...lines, ...joined], "y", "low", "high");
  for (const b of baselines) b.points = b.points.filter((p) => p.y >= low && p.y <= high);
  return {
    lines, baselines: baselines.filter(drawable), x: () => categories(order), y: (steps) => linear(low, high, steps),
    xname: report.distance_name, yname: measure.name + unitName,
    xtick: (i) => order[i], ytick: valueTick, xhover: (i) => order[i], yhover: valueOf,
  };
}

function byTime() {
  const lines = runLines((run) => run.loss.filter(([, , loss]) => loss > 0).map(([x, , y]) => ({ x, y })), false);
  const end = extent(lines, "x")[1];
  const seconds = (steps) => ({ ticks: linear(0, end, steps).ticks.filter((t) => t <= end), at: (x) => x / end });
  return {
    lines, baselines: [], x: seconds, y: (steps) => logarithmic(...extent(lines, "y"), steps + 1, 1.05),
    xname: "seconds of training", yname: `${report.loss_name} (log scale)`,
    xtick: digits, ytick: digits, xhover: (s) => `${s.toFixed(1)} s`, yhover: digits,
  };
}

function byTokens() {
  const lines = runLines((run) => run.milestones.filter(([n]) => n > 0).map(([x, , y]) => ({ x, y })), true);
  return {
    lines, baselines: [],
    x: (steps) => logarithmic(...extent(lines, "x"), steps, 1.15), y: (steps) => linear(...extent(lines, "y"), steps),
    xname: "tokens seen in training (log scale)", yname: `validation ${measure.name}${unitName}`,
    xtick: count, ytick: valueTick, xhover: (t) => `${count(t)} tokens`, yhover: valueOf,
  };
}

// ---- the page --------------------------------------------------------------------------------------------------
showPage(
  header(report.title, report.about.map(lede)),
  table(),
  list("sentences", report.sentences),
  list("notes", report.notes),
  report.buckets.length ? figure("distance", `${measure.name} by distance`, captions.distance, byDistance()) : null,
  figure("time", "Loss against time", captions.time, byTime()),
  figure("tokens", `${measure.name} against tokens`, captions.tokens, byTokens()),
  report.exhibit ? exhibit(report.exhibit) : null,
  html("section", { id: "settings" },
    html("h2", {}, "Settings and machine"), settingsTable({ ...report.settings, ...report.machine })),
);

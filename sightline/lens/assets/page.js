// Reads the comparison embedded in the page and lays it out: words, table, plots, heads.
// Everything enters the document as text nodes or attributes; nothing is ever parsed as HTML.
const report = JSON.parse(document.getElementById("data").textContent);
if (report.version !== 1) throw new Error(`this page reads version 1, the data say ${report.version}`);

// ---- writing numbers -------------------------------------------------------------------------------------------
const { percent } = report.measure;
const bare = (x) => (x === null || x === undefined ? "–" : percent ? (100 * x).toFixed(1) : String(+x.toPrecision(4)));
const value = (x) => bare(x) + (percent ? "%" : "");

// ---- the table -------------------------------------------------------------------------------------------------
// A column: {name, cell: encoder -> what stands there, spread: encoder -> what is compared, baseline: baseline -> number}
function columns() {
  const range = (s) => (s && s.high > s.low ? html("small", {}, `${bare(s.low)}–${bare(s.high)}`) : null);
  const median = (s) => bare(s && s.median);
  const compared = (name, spread, baseline, wide) =>
    ({ name, spread, baseline, cell: (e) => [median(spread(e)), wide ? range(spread(e)) : null] });
  const unit = percent ? ", %" : "";
  return [
    compared(report.equal[0] + unit, (e) => e.time, (b) => b.value, true),
    compared(report.equal[1] + unit, (e) => e.tokens, null, true),
    ...report.buckets.map((bucket) => compared(bucket, (e) => e.distance[bucket], (b) => b.distance[bucket], false)),
    { name: "tokens/s", cell: (e) => count(e.tokens_per_second) },
    { name: "steps", cell: (e) => count(e.steps) },
    { name: "parameters", cell: (e) => count(e.parameters) },
  ];
}

function best(column) {
  if (!column.spread) return null;
  const values = report.encoders.map(column.spread).filter(Boolean).map((s) => s.median);
  return report.measure.better === "higher" ? Math.max(...values) : Math.min(...values);
}

function table() {
  const all = columns().map((column) => ({ ...column, best: best(column) }));
  const over = html("tr", { class: "over" }, html("th", { colspan: 3 }),
    html("th", { class: "span", colspan: report.buckets.length, scope: "colgroup" }, report.distance_name),
    html("th", { colspan: 3 }));
  const head = html("tr", {}, ["encoder", ...all.map((column) => column.name)].map((name) => html("th", { scope: "col" }, name)));
  const wins = (column, e) => column.spread && column.spread(e) && column.spread(e).median === column.best;
  const rows = report.encoders.map((e) => html("tr", { "data-kind": e.kind },
    html("th", { scope: "row" }, dot(e.kind), e.kind),
    all.map((column) => html("td", { class: wins(column, e) ? "best" : null }, column.cell(e)))));
  const baselines = report.baselines.map((b) => html("tr", { class: "baseline" },
    html("th", { scope: "row" }, dot(null), b.name),
    all.map((column) => html("td", {}, column.baseline ? bare(column.baseline(b)) : ""))));
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "results" },
    html("table", { class: "results" },
      html("thead", {}, report.buckets.length ? over : null, head), html("tbody", {}, rows, baselines)));
}

// ---- the page --------------------------------------------------------------------------------------------------
const list = (kind, sentences) => html("ul", { class: kind }, sentences.map((s) => html("li", {}, s)));
const pairs = (values) => html("table", { class: "settings" }, html("tbody", {},
  Object.entries(values).map(([name, v]) => html("tr", {}, html("th", { scope: "row" }, name), html("td", {}, String(v))))));

const { measure, captions } = report;
document.getElementById("page").replaceChildren(...[
  html("header", {}, html("h1", {}, report.title), report.about.map((s) => html("p", { class: "lede" }, prose(s)))),
  table(),
  list("sentences", report.sentences),
  list("notes", report.notes),
  report.buckets.length ? figure("distance", `${measure.name} by distance`, captions.distance, byDistance()) : null,
  figure("time", "Loss against time", captions.time, byTime()),
  figure("tokens", `${measure.name} against tokens`, captions.tokens, byTokens()),
  report.exhibit ? exhibit(report.exhibit) : null,
  html("section", { id: "settings" }, html("h2", {}, "Settings and machine"), pairs({ ...report.settings, ...report.machine })),
].filter(Boolean));

// Relation by relation: which head finds it, in the order of any column; a head in the table opens its sheet.

const ROWS = 20; // at first
const better = ({ models: rows }) => rows.some((row) => row && row.beats);

// A column: {name, of: relation -> what it is sorted by, cell: relation -> content}
function columns(open) {
  const opener = (m, { layer, head }) => button({ class: "plain", "aria-label": `open layer ${layer}, head ${head}` },
    () => open(headAt(m, layer, head)), `${layer}.${head}`);
  const ofModels = models.flatMap((_, m) => {
    const of = (value) => (relation) => (relation.models[m] ? value(relation.models[m]) : null);
    return [
      { name: "head", of: of((row) => row.layer * 1000 + row.head), cell: of((row) => opener(m, row)) },
      { name: "finds", of: of((row) => row.accuracy), cell: (relation) => accuracyBar(relation, m) },
      { name: "random weights", of: of((row) => row.random), cell: of((row) => tenths(row.random)) },
    ];
  });
  const questions = (relation) => relation.models.find(Boolean).counts[1];
  const share = (name, key) => ({ name, of: (relation) => relation[key], cell: (relation) => tenths(relation[key]) });
  const tick = () => html("b", { class: "beats", title: "beats what needs no trained model" }, " ✓");
  const offset = ({ offset: at, by_offset: part }) =>
    (part === null ? NONE : [tenths(part), html("small", {}, `at ${signed(at)}`)]);
  const sameWord = relations.some((relation) => relation.by_same_word > relation.by_offset)
    ? [share("nearest", "by_nearest"), share("same word", "by_same_word")] : [];
  return [
    { name: "relation", of: ({ name }) => name, cell: (relation) => [relation.name, better(relation) ? tick() : null] },
    { name: "questions", of: questions, cell: (relation) => grouped(questions(relation)) },
    ...ofModels,
    { name: "best offset", of: ({ by_offset: part }) => part, cell: offset },
    ...sameWord,
    {
      name: "by distance", of: null,
      cell: ({ models: rows }) => rows.map((row, m) => (row ? distanceSteps(row.distances, m) : null)),
    },
  ];
}

// The share of right answers as a bar, its interval as a whisker, and the best offset as a mark.
function accuracyBar(relation, m) {
  const row = relation.models[m];
  if (!row || row.accuracy === null) return html("small", {}, row ? row.note : "");
  const width = 96;
  const at = (v) => (width * v).toFixed(1);
  const [low, high] = row.interval || [];
  const text = row.interval ? `95%: ${tenths(low)} to ${tenths(high)}` : row.note;
  const offset = { x1: at(relation.by_offset), x2: at(relation.by_offset), y1: -4, y2: 18 };
  const canvas = { class: "accuracy-bar", viewBox: `-1 -4 ${width + 2} 22`, width: width + 2, height: 22 };
  const bar = svg("svg", { ...canvas, role: "img", "aria-label": text },
    svg("title", {}, text), svg("rect", { class: "ground", width, height: 14, rx: 2 }),
    svg("rect", { width: at(row.accuracy), height: 14, rx: 2, style: `fill:${MODELS[m]};opacity:.75` }),
    row.interval ? svg("path", { class: "whisker", d: `M${at(low)} 3.5v7m0 -3.5H${at(high)}m0 -3.5v7` }) : null,
    relation.by_offset === null ? null : svg("line", { class: "offset", ...offset }));
  return html("span", { class: "accuracy" }, bar, html("b", {}, tenths(row.accuracy)));
}

// A step for each distance that occurs, as high as the share of right answers; few questions are as wide as many.
const LONGEST = [1, 2, 5, 10, 20, 50, 100, Infinity]; // distance of each step
function distanceSteps(distances, m) {
  const [step, height] = [11, 22];
  const width = step * LONGEST.length;
  const words = ([from, to]) =>
    (to === null ? `${from} words and more` : from === to ? counted(from, "word") : `${from} to ${to} words`);
  const text = distances.map((one) => `${words(one)}: ${tenths(one[3])} of ${grouped(one[2])}`).join("\n");
  const bar = ([from, , , part]) => svg("rect", {
    x: step * LONGEST.findIndex((edge) => from <= edge) + 1, width: step - 2, y: height * (1 - part),
    height: height * part, style: `fill:${MODELS[m]}`,
  });
  const canvas = { class: "stairs", viewBox: `0 0 ${width} ${height + 1}`, width, height: height + 1 };
  return svg("svg", { ...canvas, role: "img", "aria-label": text }, svg("title", {}, text),
    svg("line", { class: "base", x1: 0, x2: width, y1: height + 0.5, y2: height + 0.5 }), distances.map(bar));
}

// A table that a click on a heading sorts; before that, those come first that beat their baselines.
function sortableTable(open) {
  const all = columns(open);
  let [by, falling, whole] = [null, true, false];
  const body = html("tbody", {});
  const more = button({ class: "plain", id: "more" }, () => { whole = !whole; draw(); });
  const compare = (a, b) => {
    const [x, y] = [by.of(a), by.of(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return (typeof x === "string" ? x.localeCompare(y) : x - y) * (falling ? -1 : 1);
  };
  const sortBy = (column) => {
    falling = by === column ? !falling : !["relation", "head"].includes(column.name);
    by = column;
    draw();
  };
  const titles = all.map((column) => html("th", { scope: "col" },
    column.of ? button({}, () => sortBy(column), column.name) : column.name));
  const row = (relation) => html("tr", { "data-relation": relation.name, class: better(relation) ? "better" : null },
    all.map((column, i) => html(i ? "td" : "th", { scope: i ? null : "row" }, column.cell(relation))));
  const draw = () => {
    const order = (column) => (column !== by ? "none" : falling ? "descending" : "ascending");
    all.forEach((column, i) => column.of && titles[i].setAttribute("aria-sort", order(column)));
    const rows = by ? [...relations].sort(compare) : relations;
    body.replaceChildren(...(whole ? rows : rows.slice(0, ROWS)).map(row));
    more.hidden = relations.length <= ROWS;
    more.textContent = whole ? `only ${ROWS}` : `all ${relations.length} relations`;
  };
  draw();
  const over = html("tr", { class: "over" }, html("th", { colspan: 2 }), models.map(({ name }, m) =>
    html("th", { class: "span", colspan: 3, scope: "colgroup" },
      html("span", { class: "dot", style: `background:${MODELS[m]}` }), name)),
    html("th", { colspan: all.length - 8 }));
  const table = html("table", { class: two ? "results two" : "results" },
    html("thead", {}, two ? over : null, html("tr", {}, titles)), body);
  return [scrollable("relations", table), more];
}

function relationsPart(open) {
  if (!relations.length) return null;
  const reversed = relations.some(({ name }) => name.endsWith("<-"));
  return html("section", { id: "relations" }, html("h2", {}, "Relations"),
    html("p", { class: "quiet" }, "For each relation the head that finds it best; first come those marked ✓, in which ",
      "it beats what needs no trained model. The bar is the share of right answers, the whisker its 95% interval, the ",
      "upright mark what the best fixed offset finds.",
      reversed ? " As in nsubj a word looks for its head in the tree; as in nsubj<- a head for its dependent." : ""),
    sortableTable(open));
}

// ---- the task without a head -----------------------------------------------------------------------------------
function ablationPart() {
  const measured = models.map((model, m) => ({ ...model, m })).filter(({ ablation }) => ablation);
  if (!measured.length) return null;
  return html("section", { id: "ablation" }, html("h2", {}, "Without a head"), measured.map(({ name, ablation }) => [
    two ? html("h3", {}, name) : null,
    html("p", { class: "quiet" }, `The task's ${ablation.measure} on ${grouped(ablation.texts)} functions, overall and `
      + "by the distance to the binding in tokens; beside each head the mean over switching off another of its layer."),
    ablationTable(ablation),
  ]));
}

function ablationTable({ measure, whole, heads }) {
  const names = Object.keys(whole);
  const cell = (value, base) => html("td", {}, tenths(value),
    base === undefined || value === undefined ? null : html("small", {}, points(value - base)));
  const row = (title, values, kind) => html("tr", { class: kind }, html("th", { scope: "row" }, title),
    names.map((name) => cell(values[name], kind ? whole[name] : undefined)));
  const titles = names.map((name) => (name === measure ? "all" : name.split("@")[1]));
  return scrollable("without a head", html("table", { class: "results" },
    html("thead", {}, headings(["", ...titles])),
    html("tbody", {}, row("whole", whole, null), heads.map(({ layer, head, relations: best, without, others }) => [
      row([`without ${layer}.${head}`, html("small", {}, best.join(", "))], without, "off"),
      others ? row(`without another of layer ${layer}`, others, "baseline") : null,
    ]))));
}

// What is found, relation by relation: a row each, in the order of any column; a head in it opens its sheet.

const ROWS = 20; // at first

// A column: {name, of: relation -> what it is sorted by, cell: relation -> what stands there, model: whose it is}
function columns(open) {
  const button = (m, row) => {
    const made = html("button", { class: "plain", type: "button", "aria-label": `open layer ${row.layer}, head ${row.head}` }, `${row.layer}.${row.head}`);
    made.addEventListener("click", () => open(headOf(m, row.layer, row.head)));
    return made;
  };
  const mine = models.flatMap((_, m) => {
    const of = (get) => (relation) => (relation.models[m] ? get(relation.models[m]) : null);
    return [
      { name: "head", model: m, of: of((row) => row.layer * 1000 + row.head), cell: of((row) => button(m, row)) },
      { name: "finds", model: m, of: of((row) => row.accuracy), cell: (relation) => found(relation, m) },
      { name: "random weights", model: m, of: of((row) => row.random), cell: of((row) => share(row.random)) },
    ];
  });
  const first = (relation) => relation.models.find(Boolean);
  const same = relations.some(({ by_same_word: same, by_offset: offset }) => same > offset);
  const offset = ({ offset: where, by_offset: part }) => (part === null ? "–" : [share(part), html("small", {}, `at ${signed(where)}`)]);
  return [
    { name: "relation", of: ({ name }) => name, cell: (relation) => [relation.name, better(relation) ? html("b", { class: "beats", title: "beats what needs no trained model" }, " ✓") : null] },
    { name: "questions", of: (relation) => first(relation).counts[1], cell: (relation) => first(relation).counts[1].toLocaleString("en") },
    ...mine,
    { name: "best offset", of: ({ by_offset: part }) => part, cell: offset },
    same ? { name: "nearest", of: ({ by_nearest: part }) => part, cell: ({ by_nearest: part }) => share(part) } : null,
    same ? { name: "same word", of: ({ by_same_word: part }) => part, cell: ({ by_same_word: part }) => share(part) } : null,
    { name: "by distance", of: null, cell: (relation) => relation.models.map((row, m) => (row ? stairs(row.distances, m) : null)) },
  ].filter(Boolean);
}

const better = ({ models: rows }) => rows.some((row) => row && row.beats);

// The share of right answers as a bar, its interval as a whisker, and the best offset as a mark.
function found(relation, m) {
  const row = relation.models[m];
  if (!row || row.accuracy === null) return html("small", {}, row ? row.note : "");
  const [width, low, high] = [96, ...(row.interval || [null, null])];
  const at = (v) => (width * v).toFixed(1);
  const said = row.interval ? `95%: ${share(low)} to ${share(high)}` : row.note;
  const bar = svg("svg", { class: "bar-found", viewBox: `-1 -4 ${width + 2} 22`, width: width + 2, height: 22, role: "img", "aria-label": said },
    svg("title", {}, said), svg("rect", { class: "ground", width, height: 14, rx: 2 }),
    svg("rect", { width: at(row.accuracy), height: 14, rx: 2, style: `fill:${MODELS[m]};opacity:.75` }),
    row.interval ? svg("path", { class: "whisker", d: `M${at(low)} 3.5v7m0 -3.5H${at(high)}m0 -3.5v7` }) : null,
    relation.by_offset === null ? null : svg("line", { class: "offset", x1: at(relation.by_offset), x2: at(relation.by_offset), y1: -4, y2: 18 }));
  return html("span", { class: "found" }, bar, html("b", {}, share(row.accuracy)));
}

// A step for each distance that occurs, as high as the share of right answers, and as wide for few questions as for many.
function stairs(distances, m) {
  const [step, height] = [11, 22];
  const where = ([from, to]) => (to === null ? `${from} words and more` : from === to ? `${from} word${from > 1 ? "s" : ""}` : `${from} to ${to} words`);
  const said = distances.map((one) => `${where(one)}: ${share(one[3])} of ${one[2].toLocaleString("en")}`).join("\n");
  return svg("svg", { class: "stairs", viewBox: `0 0 ${step * 8} ${height + 1}`, width: step * 8, height: height + 1, role: "img", "aria-label": said },
    svg("title", {}, said), svg("line", { class: "base", x1: 0, x2: step * 8, y1: height + 0.5, y2: height + 0.5 }),
    distances.map(([from, , , part]) => svg("rect", { x: step * BUCKET.findIndex((edge) => from <= edge) + 1, width: step - 2, y: height * (1 - part), height: height * part, style: `fill:${MODELS[m]}` })));
}
const BUCKET = [1, 2, 5, 10, 20, 50, 100, Infinity]; // distances up to

function table(open) {
  if (!relations.length) return { node: null };
  const all = columns(open);
  let [by, falling, whole] = [null, true, false]; // as they come: first those that beat their baselines
  const body = html("tbody", {});
  const more = html("button", { class: "plain", type: "button", id: "more" });
  const compare = (a, b) => {
    const [x, y] = [by.of(a), by.of(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return (typeof x === "string" ? x.localeCompare(y) : x - y) * (falling ? -1 : 1);
  };
  const headings = all.map((column) => {
    if (!column.of) return html("th", { scope: "col" }, column.name);
    const button = html("button", { type: "button" }, column.name);
    const heading = html("th", { scope: "col" }, button);
    button.addEventListener("click", () => {
      falling = by === column ? !falling : column.name !== "relation" && column.name !== "head";
      by = column;
      draw();
    });
    return heading;
  });
  const draw = () => {
    all.forEach((column, i) => column.of && headings[i].setAttribute("aria-sort", column !== by ? "none" : falling ? "descending" : "ascending"));
    const rows = by ? [...relations].sort(compare) : relations;
    body.replaceChildren(...(whole ? rows : rows.slice(0, ROWS)).map((relation) => html("tr", { "data-relation": relation.name, class: better(relation) ? "better" : null },
      all.map((column, i) => html(i ? "td" : "th", { scope: i ? null : "row" }, column.cell(relation))))));
    more.hidden = relations.length <= ROWS;
    more.textContent = whole ? `only ${ROWS}` : `all ${relations.length} relations`;
  };
  more.addEventListener("click", () => { whole = !whole; draw(); });
  draw();
  const over = two ? html("tr", { class: "over" }, html("th", { colspan: 2 }), models.map(({ name }, m) => html("th", { class: "span", colspan: 3, scope: "colgroup" }, html("span", { class: "dot", style: `background:${MODELS[m]}` }), name)), html("th", { colspan: all.length - 8 })) : null;
  return { node: html("section", { id: "relations" }, html("h2", {}, "Relations"),
    html("p", { class: "quiet" }, "For each relation the head that finds it best; first come those marked ✓, in which it beats what needs no trained model. The bar is the share of right answers, the whisker its 95% interval, the upright mark what the best fixed offset finds.",
      relations.some(({ name }) => name.endsWith("<-")) ? " As in nsubj a word looks for its head in the tree; as in nsubj<- a head for its dependent." : ""),
    html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "relations" },
      html("table", { class: two ? "results two" : "results" }, html("thead", {}, over, html("tr", {}, headings)), body)), more) };
}

// ---- what is lost without a head -----------------------------------------------------------------------------------------
function ablation() {
  const some = models.map((model, m) => ({ model, m })).filter(({ model }) => model.ablation);
  if (!some.length) return null;
  return html("section", { id: "ablation" }, html("h2", {}, "Without a head"),
    some.map(({ model, m }) => [two ? html("h3", {}, model.name) : null, html("p", { class: "quiet" }, `The task's ${model.ablation.measure} on ${model.ablation.texts.toLocaleString("en")} functions, overall and by the distance to the binding in tokens; beside each head the mean over switching off one other of its layer.`), ablated(model.ablation, m)]));
}

function ablated({ measure, whole, heads }) {
  const names = Object.keys(whole);
  const row = (name, values, kind) => html("tr", { class: kind }, html("th", { scope: "row" }, name), names.map((one) => {
    const v = values[one];
    return html("td", {}, share(v), kind && v !== undefined ? html("small", {}, points(v - whole[one])) : null);
  }));
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "without a head" }, html("table", { class: "results" },
    html("thead", {}, html("tr", {}, html("th", {}, ""), names.map((name) => html("th", { scope: "col" }, name === measure ? "all" : name.split("@")[1])))),
    html("tbody", {}, row("whole", whole, null), heads.map(({ layer, head, relations: best, without, others }) => [
      row([`without ${layer}.${head}`, html("small", {}, best.join(", "))], without, "off"),
      others ? row(`without another of layer ${layer}`, others, "baseline") : null]))));
}

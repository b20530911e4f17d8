// One head on a sheet: what it is called, its measures, what it finds, and texts with lines from the word that looks.

function sheet(step) {
  const title = html("h2", { "aria-live": "polite", tabindex: -1 });
  const body = html("div", { class: "sheet" });
  const turn = (by, text, label) => {
    const button = html("button", { class: "plain", type: "button", "aria-label": label }, text);
    button.addEventListener("click", () => step(by));
    return button;
  };
  return {
    node: html("section", { id: "sheet" }, html("div", { class: "title" }, title, turn(-1, "‹", "the head before"), turn(1, "›", "the next head")), body),
    title,
    draw() {
      const { head } = state;
      const name = called(head);
      title.replaceChildren(name[0].toUpperCase() + name.slice(1));
      const chips = head.labels.length ? html("p", { class: "chips" }, head.labels.map((label) => html("span", { class: "chip" }, label.startsWith("looks") ? label : `finds ${label}`))) : null;
      body.replaceChildren(...[chips, html("div", { class: "facts" }, html("div", {}, numbers(head), profile(head)), html("div", {}, finds(head))), shown(head)].filter(Boolean));
    },
  };
}

const numbers = (head) => html("dl", { class: "numbers" }, named("all").slice(1).map(({ name, number }) => [html("dt", {}, name), html("dd", {}, written(number, valueOf(number, head)))]));

// The weight on the words around: a column each.
function profile(head) {
  const some = named("offsets").filter(({ name }) => name.startsWith("weight on"));
  const weights = some.map(({ number }) => valueOf(number, head) || 0);
  const most = Math.max(...weights);
  if (!(most > 0)) return null;
  const [step, height] = [16, 64];
  const middle = some.findIndex(({ name }) => name.endsWith("itself"));
  const said = some.map(({ name }, i) => `${name}: ${share(weights[i])}`);
  return html("figure", { class: "plot" }, html("figcaption", {}, `Weight on the words around, up to ${share(most)}`),
    svg("svg", { viewBox: `0 0 ${step * some.length} ${height + 18}`, class: "profile", role: "img", "aria-label": said.join("; ") },
      weights.map((w, i) => svg("g", {}, svg("title", {}, said[i]), svg("rect", { class: "ground", x: i * step + 1, width: step - 2, height }),
        svg("rect", { x: i * step + 1, width: step - 2, y: height * (1 - w / most), height: (height * w) / most, style: `fill:${MODELS[head.m]}` }))),
      some.map((_, i) => ((i - middle) % 5 === 0 ? svg("text", { x: (i + 0.5) * step, y: height + 14, "text-anchor": "middle" }, signed(i - middle)) : null))));
}

const FEWEST = 30; // questions, for a relation to be listed where another head is better
const breakable = (name) => name.split(/(?<=:)/).map((part) => [html("wbr"), part]);
const isBest = ({ models: rows }, { m, layer, head }) => rows[m] !== null && rows[m].layer === layer && rows[m].head === head;

// The relations in which it is farthest ahead of the best offset, those in which no head is better marked.
function finds(head) {
  const byName = new Map(relations.map((relation) => [relation.name, relation]));
  const rows = named("relations").map(({ name, number }) => ({ relation: byName.get(name), part: valueOf(number, head) }))
    .filter(({ relation, part }) => part !== null && relation.by_offset !== null && relation.models[head.m])
    .map((row) => ({ ...row, ahead: row.part - row.relation.by_offset, best: isBest(row.relation, head) }))
    .map((row) => ({ ...row, common: row.relation.models[head.m].counts[1] >= FEWEST }))
    .filter(({ best, common }) => best || common)
    .sort((a, b) => b.best - a.best || b.common - a.common || b.ahead - a.ahead).slice(0, 9);
  if (!rows.length) return null;
  return html("table", { class: "finds" }, html("thead", {}, html("tr", {}, ["relation", "finds", "best offset", "ahead"].map((name) => html("th", { scope: "col" }, name)))),
    html("tbody", {}, rows.map(({ relation, part, ahead, best }) => html("tr", {}, html("th", { scope: "row" }, breakable(relation.name), best ? html("small", {}, "best of all heads") : null),
      html("td", {}, share(part)), html("td", {}, share(relation.by_offset)), html("td", {}, points(ahead))))));
}

// ---- texts -------------------------------------------------------------------------------------------------------------
function shown(head) {
  const best = relations.filter((relation) => isBest(relation, head))
    .map(({ name, models: rows }) => ({ relation: name, ...rows[head.m] }));
  const own = report.examples[head.m][head.i];
  const all = [own, ...best.filter(({ relation }) => !own || relation !== own.relation)].filter((one) => one && one.right.length + one.wrong.length);
  if (!all.length) return null;
  const host = html("div", { class: "examples" });
  const show = (one) => host.replaceChildren(...[["right", "Right, with most weight on the right word"], ["wrong", "Wrong, with least"]].map(([kind, title]) =>
    html("div", {}, html("h3", {}, title), one[kind].length ? one[kind].map(drawn) : html("p", { class: "quiet" }, "None among the texts that were read again."))));
  const select = html("select", {}, all.map(({ relation }, i) => html("option", { value: i }, relation)));
  select.addEventListener("change", () => show(all[+select.value]));
  show(all[0]);
  return html("div", {}, html("div", { class: "bar" }, html("label", { class: "choice" }, "texts for", select)), host,
    html("p", { class: "quiet" }, "A line goes from the word that looks to what it looks at, the stronger the more weight; right words are framed."));
}

function drawn(text) {
  const links = new Map(text.links);
  const spans = text.words.map((word, i) => {
    const kind = ["unit", i === text.query ? "asked" : "", text.keys.includes(i) ? "gold" : ""].join(" ").trim();
    return html("span", { class: kind, style: links.has(i) ? `--w:${(100 * Math.sqrt(links.get(i))).toFixed(0)}%` : null }, word);
  });
  const code = text.words.includes("\n");
  const line = html("p", { class: code ? "text code" : "text", dir: text.dir || null }, text.words.map((_, i) => [text.spaces[i], spans[i]]));
  const over = svg("svg", { class: "links", "aria-hidden": "true" });
  const host = html("div", { class: "drawn" }, line, over);
  new ResizeObserver(() => join(host, over, spans, text)).observe(host);
  const name = (i) => html("bdi", {}, text.words[i].trim() || "␣");
  const weights = text.links.map(([word, w], i) => [i ? ", " : "", `${share(w)} on `, name(word)]);
  const rest = 1 - text.links.reduce((sum, [, w]) => sum + w, 0);
  return html("figure", {}, host, html("figcaption", {}, html("b", {}, name(text.query)), " looks: ", weights, `${weights.length ? "; " : ""}${share(Math.max(0, rest))} on special tokens and words besides. `, html("span", { class: "source" }, text.name)));
}

// A line over the words within a row, and between rows of words from one to the other.
function join(host, over, spans, text) {
  const frame = host.getBoundingClientRect();
  if (!frame.width) return;
  const place = (i) => {
    const box = spans[i].getClientRects()[0];
    return box ? { x: box.left + box.width / 2 - frame.left, top: box.top - frame.top + 2, bottom: box.bottom - frame.top - 2 } : null;
  };
  const from = place(text.query);
  over.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  over.replaceChildren(...text.links.filter(([word]) => word !== text.query).map(([word, w]) => {
    const to = place(word);
    if (!from || !to) return null;
    const rise = Math.min(22, 7 + 0.09 * Math.abs(to.x - from.x));
    let d = `M${from.x} ${from.top}C${from.x} ${from.top - rise} ${to.x} ${to.top - rise} ${to.x} ${to.top}`;
    if (Math.abs(to.top - from.top) > 6) {
      const [y, end] = to.top < from.top ? [from.top, to.bottom] : [from.bottom, to.top];
      d = `M${from.x} ${y}C${from.x} ${(y + end) / 2} ${to.x} ${(y + end) / 2} ${to.x} ${end}`;
    }
    return svg("path", { d, "data-to": word, style: `opacity:${Math.max(0.25, Math.sqrt(w)).toFixed(2)};stroke-width:${(1 + 3.5 * w).toFixed(1)}` });
  }).filter(Boolean));
}

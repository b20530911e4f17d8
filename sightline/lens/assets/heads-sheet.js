// One head on a sheet: its labels, its measures, what it finds, and texts with lines from the query word.

function sheetPart(step) {
  const title = html("h2", { "aria-live": "polite", tabindex: -1 });
  const body = html("div", { class: "sheet" });
  const turn = (by, text, label) => button({ class: "plain", "aria-label": label }, () => step(by), text);
  return {
    node: html("section", { id: "sheet" }, html("div", { class: "title" },
      title, turn(-1, "‹", "the head before"), turn(1, "›", "the next head")), body),
    title,
    draw() {
      const { head } = state;
      title.replaceChildren(capital(nameOf(head)));
      body.replaceChildren(...[
        chips(head),
        html("div", { class: "facts" },
          html("div", {}, numbers(head), offsetProfile(head)), html("div", {}, findings(head))),
        examples(head),
      ].filter(Boolean));
    },
  };
}

function chips({ labels }) {
  const text = (label) => (label.startsWith("looks") ? label : `finds ${label}`);
  if (!labels.length) return null;
  return html("p", { class: "chips" }, labels.map((label) => html("span", { class: "chip" }, text(label))));
}

const numbers = (head) => definitions("numbers",
  measuresIn("all").slice(1).map(({ name, number }) => [name, valueText(number, valueOf(number, head))]));

// The weight on the words around: a column each.
function offsetProfile(head) {
  const offsets = measuresIn("offsets").filter(({ name }) => name.startsWith("weight on"));
  const weights = offsets.map(({ number }) => valueOf(number, head) || 0);
  const most = Math.max(...weights);
  if (!(most > 0)) return null;
  const [step, height] = [16, 64];
  const middle = offsets.findIndex(({ name }) => name.endsWith("itself"));
  const texts = offsets.map(({ name }, i) => `${name}: ${tenths(weights[i])}`);
  const column = (w, i) => {
    const [bar, x] = [(height * w) / most, { x: i * step + 1, width: step - 2 }];
    return svg("g", {}, svg("title", {}, texts[i]), svg("rect", { class: "ground", ...x, height }),
      svg("rect", { ...x, y: height - bar, height: bar, style: `fill:${MODELS[head.m]}` }));
  };
  const tick = (i) => svg("text", { x: (i + 0.5) * step, y: height + 14, "text-anchor": "middle" }, signed(i - middle));
  const canvas = { viewBox: `0 0 ${step * offsets.length} ${height + 18}`, class: "profile" };
  return html("figure", { class: "plot" },
    html("figcaption", {}, `Weight on the words around, up to ${tenths(most)}`),
    svg("svg", { ...canvas, role: "img", "aria-label": texts.join("; ") },
      weights.map(column), range(offsets.length).filter((i) => (i - middle) % 5 === 0).map(tick)));
}

const FEWEST = 30; // questions of a relation that is listed although another head is better
const breakable = (name) => name.split(/(?<=:)/).map((part) => [html("wbr"), part]);
const isBest = ({ models: rows }, { m, layer, head }) =>
  rows[m] !== null && rows[m].layer === layer && rows[m].head === head;

// The relations in which it is farthest ahead of the best offset; those in which no head is better are marked.
function findings(head) {
  const byName = new Map(relations.map((relation) => [relation.name, relation]));
  const rows = measuresIn("relations")
    .map(({ name, number }) => ({ relation: byName.get(name), part: valueOf(number, head) }))
    .filter(({ relation, part }) => part !== null && relation.by_offset !== null && relation.models[head.m])
    .map(({ relation, part }) => ({
      relation, part, ahead: part - relation.by_offset, best: isBest(relation, head),
      common: relation.models[head.m].counts[1] >= FEWEST,
    }))
    .filter(({ best, common }) => best || common)
    .sort((a, b) => b.best - a.best || b.common - a.common || b.ahead - a.ahead).slice(0, 9);
  if (!rows.length) return null;
  const row = ({ relation, part, ahead, best }) => html("tr", {},
    html("th", { scope: "row" }, breakable(relation.name), best ? html("small", {}, "best of all heads") : null),
    [tenths(part), tenths(relation.by_offset), points(ahead)].map((text) => html("td", {}, text)));
  return html("table", { class: "finds" },
    html("thead", {}, headings(["relation", "finds", "best offset", "ahead"])), html("tbody", {}, rows.map(row)));
}

// ---- texts -----------------------------------------------------------------------------------------------------
const KINDS_OF_EXAMPLE = [["right", "Right, with most weight on the right word"], ["wrong", "Wrong, with least"]];

function examples(head) {
  const best = relations.filter((relation) => isBest(relation, head))
    .map(({ name, models: rows }) => ({ relation: name, ...rows[head.m] }));
  const own = report.examples[head.m][head.i];
  const all = [own, ...best.filter(({ relation }) => !own || relation !== own.relation)]
    .filter((one) => one && one.right.length + one.wrong.length);
  if (!all.length) return null;
  const host = html("div", { class: "examples" });
  const none = () => html("p", { class: "quiet" }, "None among the texts that were read again.");
  const show = (one) => host.replaceChildren(...KINDS_OF_EXAMPLE.map(([kind, title]) =>
    html("div", {}, html("h3", {}, title), one[kind].length ? one[kind].map(exampleText) : none())));
  const select = selection({}, (i) => show(all[i]), all.map(({ relation }, i) => option([i, relation])));
  show(all[0]);
  return html("div", {},
    html("div", { class: "bar" }, html("label", { class: "choice" }, "texts for", select)), host,
    html("p", { class: "quiet" }, "A line goes from the word that looks to what it looks at, the stronger the more ",
      "weight; right words are framed."));
}

function exampleText(text) {
  const links = new Map(text.links);
  const spans = text.words.map((word, i) => {
    const kinds = ["unit", i === text.query && "query", text.keys.includes(i) && "gold"].filter(Boolean);
    const style = links.has(i) ? `--w:${(100 * Math.sqrt(links.get(i))).toFixed(0)}%` : null;
    return html("span", { class: kinds.join(" "), style }, word);
  });
  const kind = text.words.includes("\n") ? "text code" : "text";
  const line = html("p", { class: kind, dir: text.dir || null }, spans.map((span, i) => [text.spaces[i], span]));
  const curves = svg("svg", { class: "links", "aria-hidden": "true" });
  const host = html("div", { class: "drawn" }, line, curves);
  new ResizeObserver(() => drawCurves(host, curves, spans, text)).observe(host);
  const name = (i) => html("bdi", {}, text.words[i].trim() || "␣");
  const weights = text.links.map(([word, w], i) => [i ? ", " : "", `${tenths(w)} on `, name(word)]);
  const rest = Math.max(0, 1 - text.links.reduce((sum, [, w]) => sum + w, 0));
  return html("figure", {}, host, html("figcaption", {}, html("b", {}, name(text.query)), " looks: ", weights,
    `${weights.length ? "; " : ""}${tenths(rest)} on special tokens and words besides. `,
    html("span", { class: "source" }, text.name)));
}

// From the query word to each word that it looks at: above the words within a row, through the gap between rows.
function drawCurves(host, canvas, spans, text) {
  const frame = host.getBoundingClientRect();
  if (!frame.width) return;
  const place = (i) => {
    const [box] = spans[i].getClientRects();
    const x = (box?.left + box?.right) / 2 - frame.left;
    return box && { x, top: box.top - frame.top + 2, bottom: box.bottom - frame.top - 2 };
  };
  const curve = (from, to) => {
    const rise = Math.min(22, 7 + 0.09 * Math.abs(to.x - from.x));
    let [start, end, middle, second] = [from.top, to.top, from.top - rise, to.top - rise];
    if (Math.abs(to.top - from.top) > 6) {
      [start, end] = to.top < from.top ? [from.top, to.bottom] : [from.bottom, to.top];
      middle = second = (start + end) / 2;
    }
    return `M${from.x} ${start}C${from.x} ${middle} ${to.x} ${second} ${to.x} ${end}`;
  };
  const from = place(text.query);
  const links = text.links.filter(([word]) => word !== text.query && from && place(word));
  canvas.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  canvas.replaceChildren(...links.map(([word, w]) => {
    const style = `opacity:${Math.max(0.25, Math.sqrt(w)).toFixed(2)};stroke-width:${(1 + 3.5 * w).toFixed(1)}`;
    return svg("path", { d: curve(from, place(word)), "data-to": word, style });
  }));
}

// The text, where the query word looks (shaded) and what looks at it (underlined); below it the same as numbers.

// ---- the text --------------------------------------------------------------------------------------------------
let showUnit; // scrolls a unit of the text into sight

function textPart() {
  const box = html("div",
    { class: "text", dir: rightToLeft ? "rtl" : "ltr", role: "group", "aria-label": "the text" });
  const sample = (kind, text) => html("span", { class: `sample ${kind}` }, text);
  const hint = html("p", { class: "quiet hint" }, "Click a word. ", sample("fill", "Shaded"), phrases.shaded,
    sample("under", "underlined"), phrases.under,
    look.gold.length ? [" A ", sample("gold", "frame"), " is the binding of its name."] : null);
  let shown = null; // what is drawn: the level, the query, the matrices, the query's rows and column
  const text = blocks(box, (span, i) => { if (shown) dressUnit(span, i, shown); });
  const goTo = (share) => text.show(Math.min(current().n - 1, Math.floor(share * current().n)));
  const strip = isLong ? ruler(goTo) : null;
  box.addEventListener("click", pickUnit);
  const move = (by) => () => {
    const next = Math.min(Math.max(queryUnit() + by, 0), current().n - 1);
    setQuery(next);
    text.element(next).focus();
  };
  const forward = rightToLeft ? -1 : 1;
  onKeys(box, { Enter: pickUnit, " ": pickUnit, ArrowRight: move(forward), ArrowLeft: move(-forward) });
  showUnit = (i) => text.show(i);
  return {
    node: html("div", {}, html("div", { class: "page" }, box, strip && strip.canvas), hint),
    draw(matrices) {
      const [query, before] = [queryUnit(), shown];
      const gold = new Set(look.gold.filter(([from]) => unitOf(from) === query).map(([, to]) => unitOf(to)));
      const [rows, column] = [matrices.map((one) => one.row(query)), matrices[0].column(query)];
      shown = { level: state.level, query, gold, matrices, rows, column };
      if (before?.level !== state.level) text.layOut(current());
      text.dress();
      if (strip) strip.draw(rows[0], column, query);
      if (before?.level !== state.level || before.query !== query) text.show(query);
    },
  };
}

function dressUnit(span, i, { query, gold, matrices, rows, column }) {
  const under = isHidden(i) || column[i] < 0.01 ? 0 : Math.sqrt(column[i]);
  const tone = `color-mix(in srgb, var(--under) ${(30 + 70 * under).toFixed(0)}%, transparent)`;
  span.style.background = isHidden(i) ? "" : shading(rows.map((row) => row[i]));
  span.style.boxShadow = under ? `inset 0 ${-(1.5 + 3 * under).toFixed(1)}px 0 ${tone}` : "";
  const unread = current().units[i].unknown ? "the model reads an unknown token here; " : "";
  span.title = unread + weightText(matrices[0], query, rows[0][i]);
  span.classList.toggle("query", i === query);
  const paired = Boolean(state.pair) && [state.pair.from, state.pair.to].map(unitOf).includes(i);
  span.classList.toggle("joined", paired && i !== query);
  span.classList.toggle("gold", gold.has(i));
  span.tabIndex = i === query ? 0 : -1;
  span.setAttribute("aria-pressed", i === query);
}

function pickUnit(event) {
  const span = event.target.closest(".unit");
  if (!span) return;
  if (event.shiftKey) join(queryUnit(), +span.dataset.i);
  else setQuery(+span.dataset.i);
}

// One band of colour for each head that is shown; the square root keeps small weights visible.
function shading(weights) {
  const several = weights.length > 1;
  if (weights.every((w) => w < 0.002)) return "";
  const shades = weights.map((w, i) => {
    const strength = 100 * Math.sqrt(w) * (several ? 0.75 : 1);
    return `color-mix(in srgb, ${several ? hue(i) : "var(--sight)"} ${strength.toFixed(1)}%, transparent)`;
  });
  if (!several) return shades[0];
  const edge = (i) => `${((100 * i) / weights.length).toFixed(1)}%`;
  return `linear-gradient(to bottom, ${shades.map((shade, i) => `${shade} ${edge(i)} ${edge(i + 1)}`).join(", ")})`;
}

// ---- the numbers -----------------------------------------------------------------------------------------------
const MANY = 5; // rows of a list

function numbersPart() {
  const node = html("div", { class: "answer", "aria-live": "polite" });
  return {
    node,
    draw([one]) {
      const query = queryUnit();
      const keys = strongest(one.row(query));
      const queries = strongest(one.column(query)).filter(({ i }) => i !== query);
      const [best] = keys;
      const sentence = best?.w >= 0.005 ? [phrases.looks, quoted(best.i), ` ${percent(best.w)}`] : [phrases.nothing];
      node.replaceChildren(
        html("p", { class: "say" },
          quoted(query), ...sentence, html("small", {}, ` ${nameOf(state.shown[0])}`), predictedTag(query)),
        isOpening() ? html("p", { class: "quiet", id: "opens" }, look.opens) : "",
        html("div", { class: "two" },
          html("div", {}, html("h3", {}, quoted(query), phrases.looks.trimEnd()),
            barList(keys, "fill", (i) => join(query, i))),
          html("div", {}, html("h3", {}, phrases.back), barList(queries, "under", (i) => join(i, query)))),
        html("p", { class: "quiet rest" }, remainder(one, query, keys)));
    },
  };
}

function strongest(weights) {
  const least = weights.length > 5000 ? 1e-4 : 0;
  const links = [];
  weights.forEach((w, i) => { if (w > least && !isHidden(i)) links.push({ w, i }); });
  return links.sort((a, b) => b.w - a.w);
}

const barRow = (attributes, action, name, kind, w) => html("li", {}, button(attributes, action,
  html("span", { class: "name" }, name),
  html("span", { class: `measure ${kind}` }, html("i", { style: `width:${(100 * w).toFixed(1)}%` })),
  html("span", { class: "number" }, percent(w))));

function barList(links, kind, action) {
  const shown = links.filter(({ w }) => w >= 0.005).slice(0, MANY);
  if (!shown.length) return html("p", { class: "quiet" }, "nothing of 1% or more");
  return html("ul", { class: "bars" }, shown.map(({ w, i }) => barRow({ title: phrases.pair, "data-i": i },
    () => { action(i); showUnit(i); }, [spelled(current().units[i].text), occurrenceMark(i)], kind, w)));
}

// Which of several units that are spelled alike.
function occurrenceMark(i, level = current()) {
  const [number, count] = occurrence(i, level);
  return count > 1 ? html("sub", {}, grouped(number)) : null;
}

// What the shading does not show: hidden mass is stated, never spread over the rest.
function remainder(one, query, keys) {
  const [first, added] = [one.first[query], one.special[query]];
  const [unit] = current().units;
  const kind = state.level.slice(0, -1);
  const masses = [`${percent(first)} on ${isolated(unit.text.trim())}, the first ${kind}`];
  if (look.special.length) masses.push(`${percent(added)} on special tokens in all`);
  const omitted = state.hide ? added + (unit.special ? 0 : first) : 0;
  const others = Math.max(0, 1 - omitted - keys.slice(0, MANY).reduce((sum, { w }) => sum + w, 0));
  const left = state.hide ? " They are left out above, and not spread over the rest." : "";
  const links = one.whole ? "" : ` Of this head the page holds the ${look.links} strongest links of each ${kind}.`;
  return `${masses.join("; ")}.${left} ${percent(others)} on all other ${state.level}.${links}`;
}

// What a fitted model predicts for the text: under the title; of a tagger, beside the query word.
const certainty = (p) => (p > 0.9995 ? ">99.9%" : p < 0.001 ? "<0.1%" : tenths(p));
const dataName = (name) => html("bdi", {}, name.trim() ? name : JSON.stringify(name));

function predictions() {
  const { column, choices, of, values, tags } = look.predicts || {};
  const line = (...children) => html("p", { id: "predicts" }, ...children);
  if (values) {
    const numbers = values.map((v) => String(+v.toPrecision(6))).join(", ");
    return line("Predicts ", dataName(column), ": ", html("b", {}, numbers));
  }
  if (tags) return line("Predicts ", dataName(column), " for each word; that of the chosen word stands beside it.");
  if (!choices) return null;
  const [[best, p], ...rest] = choices;
  const others = rest.map(([name, q], i) => [i ? ", " : " then ", dataName(name), ` ${certainty(q)}`]);
  const more = of > choices.length ? `, and ${grouped(of - choices.length)} less likely` : "";
  return line(column ? ["Predicts ", dataName(column), ": "] : "Predicts as next token ",
    html("b", {}, dataName(best)), ` ${certainty(p)}`,
    rest.length ? html("span", { class: "quiet" }, ";", others, more) : null);
}

function predictedTag(i) {
  const { tags, column } = look.predicts || {};
  if (!tags || current().units[i].special) return "";
  const [tag, p] = tags[state.level === "words" ? i : levels.words.of[i]];
  return html("small", { class: "tag" },
    "predicted ", dataName(column), ": ", html("b", {}, dataName(tag)), ` ${certainty(p)}`);
}

// Whether the page shows what it opened with.
const isOpening = () => Boolean(look.opens) && state.shown.length === 1 && state.shown[0] === look.start.view
  && state.level === "words" && queryUnit() === look.start.from;

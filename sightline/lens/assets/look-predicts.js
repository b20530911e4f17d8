// What the model predicts for the text, where it was fitted to: under the title; of a tagger, beside the word that is asked.
const sure = (p) => (p > 0.9995 ? ">99.9%" : p < 0.001 ? "<0.1%" : `${(100 * p).toFixed(1)}%`);
const named = (name) => html("bdi", {}, name.trim() ? name : JSON.stringify(name));

function predicts() {
  const { column, choices, of, values, tags } = look.predicts || {};
  if (values) return html("p", { id: "predicts" }, "Predicts ", named(column), ": ", html("b", {}, values.map((v) => String(+v.toPrecision(6))).join(", ")));
  if (tags) return html("p", { id: "predicts" }, "Predicts ", named(column), " for each word; that of the chosen word stands beside it.");
  if (!choices) return null;
  const [[best, p], ...rest] = choices;
  const others = rest.map(([name, q], i) => [i ? ", " : " then ", named(name), ` ${sure(q)}`]);
  const more = of > choices.length ? `, and ${great(of - choices.length)} less likely` : "";
  return html("p", { id: "predicts" }, column ? ["Predicts ", named(column), ": "] : "Predicts as next token ", html("b", {}, named(best)), ` ${sure(p)}`,
    rest.length ? html("span", { class: "quiet" }, ";", others, more) : null);
}

function tagOf(i) {
  const { tags, column } = look.predicts || {};
  if (!tags || where().units[i].special) return "";
  const [tag, p] = tags[where() === levels.words ? i : levels.words.of[i]];
  return html("small", { class: "tag" }, "predicted ", named(column), ": ", html("b", {}, named(tag)), ` ${sure(p)}`);
}

// Whether what is shown is what the page opened with.
const opening = () => Boolean(look.opens) && state.shown.length === 1 && state.shown[0] === look.start.view
  && state.level === "words" && unit(state.asked) === look.start.from;

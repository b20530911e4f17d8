// One function that no encoder was trained on: what the heads look at in it, and the encoder's answers.
const isWrong = (token) => token.gold !== null && token.answer !== token.gold;

function exhibit({ about, tokens }) {
  const answer = html("p", { class: "prediction", "aria-live": "polite" });
  const host = html("div", {});
  drawLook(host, host, () => {
    host.querySelectorAll(".unit").forEach((span, i) => span.classList.toggle("wrong", isWrong(tokens[i])));
    answer.replaceChildren(...prediction(tokens, state.query));
  });
  return html("section", { id: "sight" }, html("h2", {}, "What the heads look at"),
    html("div", { class: "prose" }, about.map((text) => html("p", {}, prose(text))),
      html("p", { class: "quiet" }, "Click a name to see where the chosen head looks from there; the framed token ",
        "is the true binding, and a ", html("span", { class: "wrong" }, "wavy line"),
        " a wrong answer of the encoder.")),
    answer, host);
}

function prediction(tokens, query) {
  const { text, gold, answer, probability, binding } = tokens[query];
  if (gold === null) return [html("code", {}, text), " is no use of a name: the encoder answers nothing there."];
  const kind = isWrong(tokens[query]) ? "miss" : null;
  const sentence = [html("code", {}, text), `: ${gold}; predicted: `,
    html("span", { class: kind }, `${answer} (${percent(probability)})`), "."];
  if (binding === query) return [...sentence, " Here it is bound."];
  if (binding === null) return sentence;
  return [...sentence, ` Its binding lies ${Math.abs(query - binding)} tokens ${binding < query ? "back" : "ahead"}.`];
}

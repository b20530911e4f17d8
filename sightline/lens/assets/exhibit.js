// One function that no encoder was trained on: the page of a look in a frame, and beside it what the encoder answered for the name
// that is asked there.
const share = (x) => `${(100 * x).toFixed(0)}%`;

function exhibit(show) {
  const answer = html("p", { class: "answer", "aria-live": "polite" });
  const frame = html("iframe", { title: "what the heads look at", srcdoc: JSON.parse(document.getElementById("frame").textContent) });
  frame.addEventListener("load", () => {
    const inside = frame.contentDocument;
    if (!inside) return; // a browser that keeps them apart shows the look alone
    const follow = () => {
      const spans = inside.querySelectorAll(".unit");
      spans.forEach((span, i) => span.classList.toggle("wrong", mistaken(show.tokens[i])));
      const asked = inside.querySelector(".unit.asked");
      if (asked) answer.replaceChildren(...sentence(show.tokens, +asked.dataset.i));
    };
    const fit = () => { frame.style.height = `${Math.ceil(inside.getElementById("page").getBoundingClientRect().height)}px`; };
    new MutationObserver(follow).observe(inside.body, { attributes: true, attributeFilter: ["data-drawn"] });
    new ResizeObserver(fit).observe(inside.getElementById("page"));
    follow();
    fit();
  });
  return html("section", { id: "sight" }, html("h2", {}, "What the heads look at"),
    html("div", { class: "prose" }, show.about.map((text) => html("p", {}, prose(text))),
      html("p", { class: "quiet" }, "Click a name to ask where the chosen head looks from there; the framed token is the true binding, and a ",
        html("span", { class: "wrong" }, "wavy line"), " a wrong answer of the encoder.")),
    answer, html("div", { class: "frame" }, frame));
}

const mistaken = (token) => token.gold !== null && token.answer !== token.gold;

function sentence(tokens, asked) {
  const token = tokens[asked];
  if (token.gold === null) return [html("code", {}, token.text), " is no use of a name: nothing is asked there."];
  const said = [html("code", {}, token.text), `: ${token.gold}; predicted: `,
    html("span", { class: mistaken(token) ? "miss" : null }, `${token.answer} (${share(token.probability)})`), "."];
  if (token.binding === asked) return [...said, " Here it is bound."];
  if (token.binding === null) return said;
  return [...said, ` Its binding lies ${Math.abs(asked - token.binding)} tokens ${token.binding < asked ? "back" : "ahead"}.`];
}

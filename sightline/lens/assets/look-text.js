// The text, and in it what the asked word looks at (shaded) and what looks at it (underlined); beside it the same as numbers.

// ---- the text --------------------------------------------------------------------------------------------------
function reading() {
  const box = html("div", { class: "text", dir: backwards ? "rtl" : "ltr", role: "group", "aria-label": "the text" });
  const hint = html("p", { class: "quiet hint" }, "Click a word. ", html("span", { class: "sample fill" }, "Shaded"),
    says.shaded, html("span", { class: "sample under" }, "underlined"), says.under, look.gold.length ? [" A ", html("span", { class: "sample gold" }, "frame"), " is the binding of its name."] : null);
  let laid = null;
  let shown = null; // what is drawn: matrices, the rows of the asked unit and its column
  const text = blocks(box, (span, i) => { if (shown) dress(span, i, shown); });
  const strip = long ? ruler((share) => text.show(Math.min(where().n - 1, Math.floor(share * where().n)))) : null;
  box.addEventListener("click", (event) => pick(event, event.shiftKey));
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(event, event.shiftKey); }
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key] * (backwards ? -1 : 1);
    if (!by) return;
    event.preventDefault();
    const next = Math.min(Math.max(unit(state.asked) + by, 0), where().n - 1);
    ask(next);
    text.element(next).focus();
  });
  reveal = (i) => text.show(i);
  return {
    node: html("div", {}, html("div", { class: "page" }, box, strip && strip.canvas), hint),
    draw(matrices) {
      const asked = unit(state.asked);
      const moved = laid !== state.level || !shown || shown.asked !== asked;
      const gold = new Set(look.gold.filter(([from]) => unit(from) === asked).map(([, to]) => unit(to)));
      shown = { asked, gold, matrices, rows: matrices.map((one) => one.row(asked)), looked: matrices[0].column(asked) };
      if (laid !== state.level) {
        laid = state.level;
        text.lay(where());
      }
      text.dress();
      if (strip) strip.draw(shown.rows[0], shown.looked, asked);
      if (moved) text.show(asked); // a long text scrolls by itself
    },
  };
}
let reveal;

function dress(span, i, { asked, gold, matrices, rows, looked }) {
  span.style.background = hidden(i) ? "" : fill_of(rows.map((row) => row[i]));
  const under = hidden(i) || looked[i] < 0.01 ? 0 : Math.sqrt(looked[i]);
  span.style.boxShadow = under ? `inset 0 ${-(1.5 + 3 * under).toFixed(1)}px 0 color-mix(in srgb, var(--under) ${(30 + 70 * under).toFixed(0)}%, transparent)` : "";
  span.title = (where().units[i].unknown ? "the model reads an unknown token here; " : "") + (rows[0][i] || matrices[0].whole ? `${(100 * rows[0][i]).toFixed(1)}%` : `at most ${(100 * matrices[0].least(asked)).toFixed(1)}%`);
  span.classList.toggle("asked", i === asked);
  span.classList.toggle("joined", Boolean(state.pair) && (i === unit(state.pair.to) || i === unit(state.pair.from)) && i !== asked);
  span.classList.toggle("gold", gold.has(i));
  span.tabIndex = i === asked ? 0 : -1;
  span.setAttribute("aria-pressed", i === asked);
}

function pick(event, second) {
  const span = event.target.closest(".unit");
  if (!span) return;
  if (second) join(unit(state.asked), +span.dataset.i);
  else ask(+span.dataset.i);
}

// One band of colour for each head that is shown; the square root keeps small weights visible.
function fill_of(weights) {
  const shade = (w, i) => `color-mix(in srgb, ${weights.length > 1 ? hue(i) : "var(--sight)"} ${(100 * Math.sqrt(w) * (weights.length > 1 ? 0.75 : 1)).toFixed(1)}%, transparent)`;
  if (weights.every((w) => w < 0.002)) return "";
  if (weights.length === 1) return shade(weights[0], 0);
  const at = (i) => `${((100 * i) / weights.length).toFixed(1)}%`;
  return `linear-gradient(to bottom, ${weights.map((w, i) => `${shade(w, i)} ${at(i)} ${at(i + 1)}`).join(", ")})`;
}

// ---- the numbers -----------------------------------------------------------------------------------------------
const MANY = 5;

function answer() {
  const node = html("div", { class: "answer", "aria-live": "polite" });
  return {
    node,
    draw([one]) {
      const asked = unit(state.asked);
      const there = strongest(one.row(asked));
      const back = strongest(one.column(asked)).filter(({ i }) => i !== asked);
      const say = there.length && there[0].w >= 0.005 ? [says.looks, quoted(there[0].i), ` ${percent(there[0].w)}`] : [says.nothing];
      node.replaceChildren(
        html("p", { class: "say" }, quoted(asked), ...say, html("small", {}, ` ${nameOf(state.shown[0])}`), tagOf(asked)),
        opening() ? html("p", { class: "quiet", id: "opens" }, look.opens) : "",
        html("div", { class: "two" },
          html("div", {}, html("h3", {}, quoted(asked), says.looks.trimEnd()), bars(there, "fill", (i) => join(asked, i))),
          html("div", {}, html("h3", {}, says.back), bars(back, "under", (i) => join(i, asked)))),
        html("p", { class: "quiet rest" }, rest(one, asked, there)));
    },
  };
}

function strongest(weights) {
  const found = [];
  const least = weights.length > 5000 ? 1e-4 : 0;
  weights.forEach((w, i) => { if (w > least && !hidden(i)) found.push({ w, i }); });
  return found.sort((a, b) => b.w - a.w);
}

function bars(found, kind, click) {
  const shown = found.filter(({ w }) => w >= 0.005).slice(0, MANY);
  if (!shown.length) return html("p", { class: "quiet" }, "nothing of 1% or more");
  return html("ul", { class: "bars" }, shown.map(({ w, i }) => {
    const made = html("button", { type: "button", title: says.pair, "data-i": i },
      html("span", { class: "name" }, bare(where().units[i].text), times(i)),
      html("span", { class: `measure ${kind}` }, html("i", { style: `width:${(100 * w).toFixed(1)}%` })), html("span", { class: "number" }, percent(w)));
    made.addEventListener("click", () => { click(i); reveal(i); });
    return html("li", {}, made);
  }));
}

// Which of several words that are spelled alike.
function times(i, level = where()) {
  const [number, count] = which(i, level);
  return count > 1 ? html("sub", {}, great(number)) : null;
}

// What the shading does not show: nothing is spread over the rest.
function rest(one, asked, there) {
  const [first, added] = [one.first[asked], one.special[asked]];
  const begins = where().units[0];
  const kind = state.level.slice(0, -1);
  const masses = [`${percent(first)} on ${isolated(begins.text.trim())}, the first ${kind}`];
  if (look.special.length) masses.push(`${percent(added)} on special tokens in all`);
  const out = state.hide ? added + (begins.special ? 0 : first) : 0;
  const others = Math.max(0, 1 - out - there.slice(0, MANY).reduce((sum, { w }) => sum + w, 0));
  const left = state.hide ? " They are left out above, and not spread over the rest." : "";
  const held = one.whole ? "" : ` Of this head the page holds the ${look.links} strongest links of each ${kind}.`;
  return `${masses.join("; ")}.${left} ${percent(others)} on all other ${state.level}.${held}`;
}

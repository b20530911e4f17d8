// The page: what is chosen, the controls that choose it, and the parts that draw it.
const state = {
  level: "words",
  asked: levels.words.first[look.start.from], // a piece; its word is asked where words are shown
  pair: look.link && { from: levels.words.first[look.link.from], to: levels.words.first[look.link.to] },
  shown: [look.start.view], // the first is open, others are beside it, one hue each
  adding: false,
  hide: look.start.hide,
  every: false, // lines from every word
  sort: "layer",
  rising: false,
};
const LONG = 2048; // pieces
if (asks) Object.assign(look, { statistics: {}, profile: [] }); // they come later
const HUES = ["blue", "vermillion", "green", "purple", "orange", "black"];
const hue = (i) => `var(--${HUES[i % HUES.length]})`;
const where = () => levels[state.level];
const unit = (piece) => where().of[piece];
const hidden = (i, level = where()) => state.hide && (i === 0 || level.units[i].special);
const quoted = (i, level = where()) => html("b", { class: "word" }, bare(level.units[i].text), times(i, level));
const long = levels.pieces.n > LONG;
const dark = matchMedia("(prefers-color-scheme: dark)");

let drawing = 0;
async function draw() {
  const turn = ++drawing;
  let [matrices, ranks] = [[], null];
  try {
    matrices = await Promise.all(state.shown.map((view) => matrix(view, where(), unit(state.asked))));
    ranks = state.pair && await ranked(state.pair);
  } catch (error) {
    return lost(error);
  }
  if (turn !== drawing) return; // something else was chosen meanwhile
  for (const part of parts) part.draw(matrices, ranks);
  document.body.dataset.drawn = turn;
}

// ---- what one can do -------------------------------------------------------------------------------------------
const change = (values) => { Object.assign(state, values); draw(); };
const ask = (i, level = where()) => change({ asked: level.first[i] });
const join = (from, to, level = where()) => change({ pair: { from: level.first[from], to: level.first[to] } });

function open(view, beside) {
  const { shown } = state;
  if (!beside) return change({ shown: [view] });
  if (shown.includes(view)) return change({ shown: shown.length > 1 ? shown.filter((other) => other !== view) : shown });
  return change({ shown: [...shown, view].slice(-HUES.length) });
}

function step(by) {
  const i = views.indexOf(state.shown[0]);
  open(views[(i + by + views.length) % views.length], false);
}

// ---- controls --------------------------------------------------------------------------------------------------
function switched(label, name, key) {
  const box = html("input", { type: "checkbox", name });
  box.addEventListener("change", () => change({ [name]: box.checked }));
  return { node: html("label", { class: "switch", title: `key ${key}` }, box, html("span", {}, label)), draw: () => { box.checked = state[name]; } };
}

function chooser() {
  const select = (name, options) => html("select", { "aria-label": name }, options.map(([value, text]) => html("option", { value }, text)));
  const layer = select("layer", [...(asks ? [] : [["all", "all layers"]]), ...range(look.layers).map((i) => [i, `layer ${i}`])]);
  const head = select("head", [["mean", "mean of heads"], ...range(look.heads).map((i) => [i, `head ${i}`])]);
  const choose = () => open(layer.value === "all" ? "all" : head.value === "mean" ? layer.value : `${layer.value}.${head.value}`, false);
  layer.addEventListener("change", choose);
  head.addEventListener("change", choose);
  const button = (by, text, label) => {
    const made = html("button", { type: "button", "aria-label": label, title: label }, text);
    made.addEventListener("click", () => step(by));
    return made;
  };
  const chips = html("span", { class: "chips" });
  const node = html("div", { class: "chooser" }, button(-1, "‹", "the view before, key ["), layer, head, button(1, "›", "the next view, key ]"), chips);
  return {
    node,
    draw() {
      const [view] = state.shown;
      layer.value = layerOf(view) ?? "all";
      head.value = headOf(view) ?? "mean";
      head.disabled = view === "all";
      chips.replaceChildren(...(state.shown.length < 2 ? [] : state.shown.map(chip)));
    },
  };
}

function chip(view, i) {
  const name = isHead(view) || view === "all" ? view : `${view} mean`;
  const made = html("button", { type: "button", class: "chip", title: `take ${nameOf(view)} away` }, html("i", { style: `background:${hue(i)}` }), `${name} ×`);
  made.addEventListener("click", () => open(view, true));
  return made;
}

function segments() {
  const buttons = Object.keys(levels).map((name) => {
    const made = html("button", { type: "button", "data-level": name, title: "key p" }, capital(name));
    made.addEventListener("click", () => change({ level: name }));
    return made;
  });
  const draw = () => buttons.forEach((made) => made.setAttribute("aria-pressed", made.dataset.level === state.level));
  return { node: html("div", { class: "segments", role: "group", "aria-label": "what is shown" }, buttons), draw };
}

const KEYS = {
  "[": () => step(-1), "]": () => step(1),
  p: () => change({ level: state.level === "words" ? "pieces" : "words" }),
  h: () => change({ hide: !state.hide }), l: () => change({ every: !state.every }), a: () => change({ adding: !state.adding }),
  Escape: () => change({ pair: null }),
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("select, input[type=text]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

// ---- the page --------------------------------------------------------------------------------------------------
const tokens = look.special.length ? [...new Set(look.special.map((i) => look.pieces[i][1]))].slice(0, 3).join(", ") : "the first word";
const parts = [];
const part = (made) => { parts.push(made); return made.node; };
const counted = (n, name) => `${great(n)} ${name}${n === 1 ? "" : "s"}`;
const own = (units) => units.filter((one) => !one.special).length; // without what the tokenizer added
const facts = `${alone ? "influence" : `${counted(look.layers, "layer")} × ${counted(look.heads, "head")}`} · ${counted(own(levels.words.units), "word")} in ${counted(own(levels.pieces.units), "piece")}`;

document.getElementById("page").replaceChildren(
  html("header", {}, html("h1", {}, "What ", html("span", { class: "model" }, look.model), says.title), html("p", { class: "quiet" }, facts), predicts(),
    html("p", { id: "lost", role: "alert", hidden: "" }, "Nobody answers any more. What is shown stays; for more, start the program again and open its new address.")),
  html("div", { class: "stage" },
    html("div", { class: "reading" }, part(chooser()),
      html("div", { class: "bar" }, part(segments()), part(switched(`leave out ${tokens}`, "hide", "h"))),
      part(reading()), part(answer())),
    html("div", { class: "side" }, part(grid()), part(joining()))),
  part(lines()),
  html("div", { class: "both" }, part(map()), part(profile())),
  html("footer", { class: "quiet" }, html("p", {}, "Keys: ", keys([["←", "→", "the word before, the next"], ["[", "]", "the head before, the next"],
    ["p", "pieces or words"], ["h", `with or without ${tokens}`], ["l", "lines from every word"], ["a", "several heads"], ["Esc", "let go of the two words"]]))),
);
function keys(list) {
  return list.map(([...row]) => html("span", { class: "key" }, row.slice(0, -1).map((name) => html("kbd", {}, name)), ` ${row.at(-1)}`));
}
document.body.toggleAttribute("data-long", look.words.length > 120);
document.body.toggleAttribute("data-far", long);
document.body.toggleAttribute("data-code", look.gold.length > 0);
dark.addEventListener("change", draw);
draw();
if (asks) comeIn().catch(lost);

// Numbers and small pictures of the heads come in layer by layer; they are of some of the queries, where there are many.
async function comeIn() {
  const note = html("p", { class: "quiet hint", id: "sampled" });
  document.querySelector("#heads").append(note);
  for (let known = -1; known < look.layers;) {
    const told = await source.json("heads");
    if (told.layers !== known) {
      known = told.layers;
      Object.assign(look, { statistics: told.statistics, profile: told.profile });
      const some = told.rows < levels.pieces.n ? `Small pictures, numbers and distances are of ${great(told.rows)} of the ${great(levels.pieces.n)} rows, spread evenly.` : "";
      note.textContent = known < look.layers ? `${some} ${known} of ${look.layers} layers are in.` : some;
      repaint();
      await draw();
      document.body.dataset.known = known;
    }
    if (known < look.layers) await new Promise((done) => { setTimeout(done, 700); });
  }
}

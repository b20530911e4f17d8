// A look: what is chosen, the controls that choose it, and the parts that draw it, in an element of any page.
// `look` and `live` are of look-source.js, `levels` and `views` of look-data.js, `html` of elements.js.
const state = {
  level: "words",
  query: levels.words.first[look.start.from], // the chosen piece; where words are shown, its word
  pair: look.link && { from: levels.words.first[look.link.from], to: levels.words.first[look.link.to] },
  shown: [look.start.view], // the first is open, others are beside it, one hue each
  adding: false, // a click on a head shows it beside the others
  hide: look.start.hide,
  every: false, // lines from every word
  sort: "layer",
  rising: false, // heads are sorted from the smallest
};
const LONG = 2048; // pieces
if (live) Object.assign(look, { statistics: {}, profile: [] }); // these arrive later
const HUES = ["blue", "vermillion", "green", "purple", "orange", "black"];
const hue = (i) => `var(--${HUES[i % HUES.length]})`;
const current = () => levels[state.level];
const unitOf = (piece) => current().of[piece];
const queryUnit = () => unitOf(state.query);
const isHidden = (i, level = current()) => state.hide && (i === 0 || level.units[i].special);
const quoted = (i, level = current()) =>
  html("b", { class: "word" }, spelled(level.units[i].text), occurrenceMark(i, level));
const isLong = levels.pieces.n > LONG;
const dark = matchMedia("(prefers-color-scheme: dark)");
const omittedNames = look.special.length
  ? [...new Set(look.special.map((i) => look.pieces[i][1]))].slice(0, 3).join(", ") : "the first word";

// ---- drawing ---------------------------------------------------------------------------------------------------
const parts = []; // {node, draw(matrices of the views shown, ranks of the heads)}
let drawing = 0;
async function draw() {
  const turn = ++drawing;
  let [shown, ranks] = [[], null];
  try {
    shown = await Promise.all(state.shown.map((view) => matrix(view, current(), queryUnit())));
    ranks = state.pair && await rankHeads(state.pair);
  } catch (error) {
    return showLost(error);
  }
  if (turn !== drawing) return; // the choice has changed since
  for (const part of parts) part.draw(shown, ranks);
  document.body.dataset.drawn = turn;
}

// Fills an element; keys are taken from keyTarget, and afterDraw is called after each drawing.
function drawLook(host, keyTarget, afterDraw) {
  if (!live && typeof DecompressionStream === "undefined") {
    host.textContent = "This page unpacks its numbers with what browsers have since 2023; open it in a newer one.";
    return;
  }
  const add = (part) => { parts.push(part); return part.node; };
  host.classList.add("look");
  host.toggleAttribute("data-influence", influenceOnly);
  host.toggleAttribute("data-long", look.words.length > 120);
  host.toggleAttribute("data-far", isLong);
  host.toggleAttribute("data-code", look.gold.length > 0);
  host.append(
    html("div", { class: "stage" },
      html("div", {}, add(chooserPart()),
        html("div", { class: "bar" }, add(levelPart()), add(switchPart(`leave out ${omittedNames}`, "hide", "h"))),
        add(textPart()), add(numbersPart())),
      html("div", { class: "beside" }, add(headsPart()), add(joiningPart()))),
    add(linesPart()),
    html("div", { class: "both" }, add(mapPart()), add(profilePart())));
  if (afterDraw) parts.push({ draw: afterDraw });
  onKeys(keyTarget, KEYS);
  dark.addEventListener("change", draw);
  draw(); // later, as its data are unpacked; by then the element is in the document
}

// ---- choices ---------------------------------------------------------------------------------------------------
const change = (values) => { Object.assign(state, values); draw(); };
const setQuery = (i, level = current()) => change({ query: level.first[i] });
const join = (from, to, level = current()) => change({ pair: { from: level.first[from], to: level.first[to] } });

function openView(view, beside) {
  const { shown } = state;
  if (!beside) return change({ shown: [view] });
  if (!shown.includes(view)) return change({ shown: [...shown, view].slice(-HUES.length) });
  return change({ shown: shown.length > 1 ? shown.filter((other) => other !== view) : shown });
}

function stepView(by) {
  const i = views.indexOf(state.shown[0]);
  openView(views[(i + by + views.length) % views.length], false);
}

const KEYS = {
  "[": () => stepView(-1), "]": () => stepView(1),
  p: () => change({ level: state.level === "words" ? "pieces" : "words" }),
  h: () => change({ hide: !state.hide }), l: () => change({ every: !state.every }),
  a: () => change({ adding: !state.adding }), Escape: () => change({ pair: null }),
};

// ---- controls --------------------------------------------------------------------------------------------------
function switchPart(text, name, key) {
  const box = html("input", { type: "checkbox", name });
  box.addEventListener("change", () => change({ [name]: box.checked }));
  const node = html("label", { class: "choice", title: `key ${key}` }, box, html("span", {}, text));
  return { node, draw: () => { box.checked = state[name]; } };
}

function levelPart() {
  const choices = Object.keys(levels).map((name) => [name, capital(name), "key p"]);
  const { node, press } = segments("what is shown", "level", choices, (level) => change({ level }));
  return { node, draw: () => press(state.level) };
}

function chooserPart() {
  const choose = () => openView(
    layer.value === "all" ? "all" : head.value === "mean" ? layer.value : `${layer.value}.${head.value}`, false);
  const numbered = (name, count) => range(count).map((i) => option([i, `${name} ${i}`]));
  const layer = selection({ "aria-label": "layer" }, choose,
    live ? null : option(["all", "all layers"]), numbered("layer", look.layers));
  const head = selection({ "aria-label": "head" }, choose,
    option(["mean", "mean of heads"]), numbered("head", look.heads));
  const step = (by, text, title) => button({ class: "plain", "aria-label": title, title }, () => stepView(by), text);
  const chips = html("span", { class: "chips" });
  return {
    node: html("div", { class: "bar chooser" }, step(-1, "‹", "the view before, key ["), layer, head,
      step(1, "›", "the next view, key ]"), chips),
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
  return button({ class: "chip", title: `take ${nameOf(view)} away` }, () => openView(view, true),
    html("i", { style: `background:${hue(i)}` }), `${name} ×`);
}

// All layers and heads as small maps, in the order of the model or of a number; and which heads join two words.

// ---- small maps ------------------------------------------------------------------------------------------------
const SORTS = {
  layer: "layer and head", entropy: "entropy", distance: "distance", previous: "on the word before", next: "on the next word",
  first: "on the first piece", special: "on special tokens", binding: "on the binding", there: "", back: "",
};
const UNITS = { entropy: "nats", distance: "pieces" };

function grid() {
  const select = html("select", { "aria-label": "order of the heads" });
  const turn = html("button", { type: "button", class: "turn" });
  const cells = html("div", { class: "grid" });
  const adding = switched("several at once", "adding", "a");
  const buttons = new Map(views.map((view) => [view, thumbnail(view)]));
  select.addEventListener("change", () => change({ sort: select.value }));
  turn.addEventListener("click", () => change({ rising: !state.rising }));
  let arranged = "";
  return {
    node: html("section", { id: "heads" }, html("h2", {}, "Heads"), html("div", { class: "bar" }, select, turn, adding.node), cells,
      html("p", { class: "quiet hint" }, "Layers down, heads across; first the mean. In each, rows look and columns are looked at. Click one to open it.")),
    draw(matrices, ranks) {
      adding.draw();
      if (!ranks && ["there", "back"].includes(state.sort)) state.sort = "layer";
      const names = Object.keys(SORTS).filter((name) => name === "layer" || look.statistics[name] || (ranks && ranks[name]));
      select.replaceChildren(...names.map((name) => html("option", { value: name }, name === "layer" ? "in their order" : `by ${title(name)}`)));
      select.value = state.sort;
      turn.hidden = state.sort === "layer";
      turn.textContent = state.rising ? "smallest first" : "largest first";
      const key = [state.sort, state.rising, ranks && JSON.stringify(state.pair), state.level].join();
      if (key !== arranged) cells.replaceChildren(...(state.sort === "layer" ? inOrder(buttons) : sorted(buttons, ranks)));
      arranged = key;
      cells.classList.toggle("flow", state.sort !== "layer");
      for (const [view, button] of buttons) {
        const i = state.shown.indexOf(view);
        button.setAttribute("aria-pressed", i >= 0);
        button.style.setProperty("--mine", i >= 0 ? (state.shown.length > 1 ? hue(i) : "var(--ink)") : "transparent");
        paint(button.querySelector("canvas"), view);
      }
    },
  };
}

const short = (i) => cropped(where().units[i].text.trim(), 20);
function title(name) {
  if (name === "there") return `${short(unit(state.pair.from))} → ${short(unit(state.pair.to))}`;
  if (name === "back") return `${short(unit(state.pair.to))} → ${short(unit(state.pair.from))}`;
  return `${["entropy", "distance"].includes(name) ? "" : "weight "}${SORTS[name]}`;
}

function thumbnail(view) {
  const canvas = html("canvas", { width: look.size, height: look.size });
  const name = isHead(view) ? `layer ${layerOf(view)}, head ${headOf(view)}` : nameOf(view);
  const button = html("button", { type: "button", class: isHead(view) ? "head" : "head mean", "data-view": view, "aria-label": name, title: name },
    canvas, html("span", {}));
  button.addEventListener("click", (event) => open(view, state.adding || event.shiftKey || event.ctrlKey || event.metaKey));
  return button;
}

function inOrder(buttons) {
  const cell = (view) => { buttons.get(view).lastChild.textContent = ""; return buttons.get(view); };
  const top = ["mean", ...range(look.heads)].map((name) => html("span", { class: "column" }, String(name)));
  const cells = range(look.layers).flatMap((layer) =>
    [html("span", { class: "row" }, String(layer)), cell(String(layer)), ...range(look.heads).map((head) => cell(`${layer}.${head}`))]);
  const all = views.includes("all") ? [html("span", { class: "row" }, "all"), cell("all")] : [];
  const box = html("div", { class: "table", style: `--heads:${look.heads}` }, html("span"), top, cells, all);
  return [box];
}

function sorted(buttons, ranks) {
  const given = ranks && new Map((ranks[state.sort] || []).map(([view, w]) => [view, w]));
  const value = (view) => (given && given.size ? given.get(view) ?? 0 : statistic(state.sort, view));
  const order = [...heads].sort((a, b) => (state.rising ? 1 : -1) * (value(a) - value(b)));
  return order.map((view) => {
    const number = UNITS[state.sort] ? rounded(value(view)) : percent(value(view));
    buttons.get(view).lastChild.replaceChildren(html("b", {}, view), ` ${number}`);
    return buttons.get(view);
  });
}

const PAPER = () => (dark.matches ? [20, 21, 23] : [255, 255, 255]);
const INK = () => (dark.matches ? [134, 208, 255] : [0, 64, 120]);
const blend = (from, to, t) => from.map((low, i) => low + (to[i] - low) * t);

let painting = 0;
function repaint() { // since there are new ones
  thumbnails = undefined;
  painting++;
}

async function paint(canvas, view) {
  const scheme = `${dark.matches ? "dark" : "light"} ${painting}`;
  if (canvas.dataset.painted === scheme) return;
  canvas.dataset.painted = scheme;
  const bytes = await thumbnailOf(view);
  const context = canvas.getContext("2d");
  const image = context.createImageData(look.size, look.size);
  const [none, full] = [PAPER(), INK()];
  bytes.forEach((byte, i) => image.data.set([...blend(none, full, byte / 255), 255], 4 * i));
  context.putImageData(image, 0, 0);
}

// ---- which heads join two words --------------------------------------------------------------------------------
// {there, back: [[view, weight]], strongest first}. What the page was asked for when it was made is exact; else what links say.
async function ranked({ from, to }) {
  const [a, b] = [unit(from), unit(to)];
  if (asks) return source.json("pair", { level: state.level, from: a, to: b });
  if (look.link && state.level === "words" && a === look.link.from && b === look.link.to) return look.link;
  const all = await Promise.all(heads.map(async (view) => [view, await matrix(view, where())]));
  const order = (q, k) => all.map(([view, one]) => [view, one.row(q)[k]]).sort((x, y) => y[1] - x[1]);
  return { there: order(a, b), back: order(b, a) };
}

function joining() {
  const node = html("section", { class: "joining", id: "joining" });
  return {
    node,
    draw(matrices, ranks) {
      node.hidden = !ranks;
      if (!ranks) return;
      const [from, to] = [unit(state.pair.from), unit(state.pair.to)];
      const swap = html("button", { type: "button", class: "plain" }, "let go");
      swap.addEventListener("click", () => change({ pair: null }));
      node.replaceChildren(html("h2", {}, "Which heads join ", quoted(from), " and ", quoted(to), "? ", swap),
        html("div", { class: "two" }, column(from, to, ranks.there), column(to, from, ranks.back)));
    },
  };
}

function column(from, to, found) {
  const strong = found.filter(([, w]) => w >= 0.005).slice(0, MANY);
  const list = strong.map(([view, w]) => {
    const made = html("button", { type: "button", "data-view": view, "aria-pressed": state.shown.includes(view), title: `open ${nameOf(view)}` },
      html("span", { class: "name" }, html("b", {}, view)), html("span", { class: "measure fill" }, html("i", { style: `width:${(100 * w).toFixed(1)}%` })),
      html("span", { class: "number" }, percent(w)));
    made.addEventListener("click", () => change({ asked: where().first[from], shown: [view] }));
    return html("li", {}, made);
  });
  return html("div", {}, html("h3", {}, quoted(from), " → ", quoted(to)),
    strong.length ? html("ul", { class: "bars" }, list) : html("p", { class: "quiet" }, "no head gives it 1% or more"));
}

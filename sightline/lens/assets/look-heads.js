// All layers and heads as small maps, in the order of the model or of a number; and which heads join two words.

// ---- small maps ------------------------------------------------------------------------------------------------
function headsPart() {
  const select = selection({ "aria-label": "order of the heads" }, (sort) => change({ sort }));
  const turn = button({ class: "plain turn" }, () => change({ rising: !state.rising }));
  const cells = html("div", { class: "grid" });
  const adding = switchPart("several at once", "adding", "a");
  const buttons = new Map(views.map((view) => [view, thumbnailButton(view)]));
  let arranged = "";
  return {
    node: html("section", { id: "heads" }, html("h2", {}, "Heads"),
      html("div", { class: "bar" }, select, turn, adding.node), cells,
      html("p", { class: "quiet hint" }, "Layers down, heads across; first the mean. In each, rows look and columns ",
        "are looked at. Click one to open it.")),
    draw(_, ranks) {
      adding.draw();
      if (!ranks && ["there", "back"].includes(state.sort)) state.sort = "layer";
      select.replaceChildren(...["layer", ...knownStatistics(), ...(ranks ? ["there", "back"] : [])].map((name) =>
        option([name, name === "layer" ? "in their order" : `by ${sortTitle(name)}`])));
      select.value = state.sort;
      turn.hidden = state.sort === "layer";
      turn.textContent = state.rising ? "smallest first" : "largest first";
      const key = [state.sort, state.rising, ranks && JSON.stringify(state.pair), state.level].join();
      if (key !== arranged) {
        cells.replaceChildren(...(state.sort === "layer" ? [inOrder(buttons)] : sorted(buttons, ranks)));
      }
      arranged = key;
      cells.classList.toggle("flow", state.sort !== "layer");
      for (const [view, node] of buttons) {
        const i = state.shown.indexOf(view);
        node.setAttribute("aria-pressed", i >= 0);
        const several = state.shown.length > 1;
        node.style.setProperty("--hue", i < 0 ? "transparent" : several ? hue(i) : "var(--ink)");
        paintThumbnail(node.querySelector("canvas"), view);
      }
    },
  };
}

function sortTitle(name) {
  const short = (piece) => cropped(current().units[unitOf(piece)].text.trim(), 20);
  if (name === "there") return `${short(state.pair.from)} → ${short(state.pair.to)}`;
  if (name === "back") return `${short(state.pair.to)} → ${short(state.pair.from)}`;
  const [title, , unit] = STATISTICS[name];
  return unit ? title : `weight ${title}`;
}

function thumbnailButton(view) {
  const canvas = html("canvas", { width: look.size, height: look.size });
  const attributes = { "data-view": view, "aria-label": nameOf(view), title: nameOf(view) };
  return button({ class: isHead(view) ? "head" : "head mean", ...attributes },
    (event) => openView(view, state.adding || event.shiftKey || event.ctrlKey || event.metaKey),
    canvas, html("span", {}));
}

function inOrder(buttons) {
  const cell = (view) => { buttons.get(view).lastChild.textContent = ""; return buttons.get(view); };
  const row = (name, members) => [html("span", { class: "row" }, name), members.map(cell)];
  const top = ["mean", ...range(look.heads)].map((name) => html("span", { class: "column" }, String(name)));
  const rows = range(look.layers).map((layer) =>
    row(String(layer), [String(layer), ...range(look.heads).map((head) => `${layer}.${head}`)]));
  return html("div", { class: "table", style: `--heads:${look.heads}` },
    html("span"), top, rows, views.includes("all") ? row("all", ["all"]) : []);
}

function sorted(buttons, ranks) {
  const ranked = new Map(ranks?.[state.sort] || []);
  const value = (view) => (ranked.size ? ranked.get(view) ?? 0 : statistic(state.sort, view));
  const order = [...heads].sort((a, b) => (state.rising ? 1 : -1) * (value(a) - value(b)));
  const [, write] = STATISTICS[state.sort] || [null, percent];
  return order.map((view) => {
    buttons.get(view).lastChild.replaceChildren(html("b", {}, view), ` ${write(value(view))}`);
    return buttons.get(view);
  });
}

let thumbnailVersion = 0;
function renewThumbnails() {
  thumbnails = undefined;
  thumbnailVersion++;
}

async function paintThumbnail(canvas, view) {
  const version = `${dark.matches ? "dark" : "light"} ${thumbnailVersion}`;
  if (canvas.dataset.painted === version) return;
  canvas.dataset.painted = version;
  const shades = palette();
  paintPixels(canvas, await thumbnailOf(view), (byte) => shades[byte]);
}

// ---- which heads join two words --------------------------------------------------------------------------------
// {there, back: [[view, weight]], strongest first}. The pair that the page was made for is exact; others are as exact
// as the links that the page holds.
async function rankHeads({ from, to }) {
  const [a, b] = [unitOf(from), unitOf(to)];
  if (live) return source.json("pair", { level: state.level, from: a, to: b });
  if (look.link && state.level === "words" && a === look.link.from && b === look.link.to) return look.link;
  const all = await Promise.all(heads.map(async (view) => [view, await matrix(view, current())]));
  const order = (q, k) => all.map(([view, one]) => [view, one.row(q)[k]]).sort((x, y) => y[1] - x[1]);
  return { there: order(a, b), back: order(b, a) };
}

function joiningPart() {
  const node = html("section", { class: "joining", id: "joining" });
  return {
    node,
    draw(_, ranks) {
      node.hidden = !ranks;
      if (!ranks) return;
      const [from, to] = [unitOf(state.pair.from), unitOf(state.pair.to)];
      const release = button({ class: "plain" }, () => change({ pair: null }), "let go");
      node.replaceChildren(
        html("h2", {}, "Which heads join ", quoted(from), " and ", quoted(to), "? ", release),
        html("div", { class: "two" }, headList(from, to, ranks.there), headList(to, from, ranks.back)));
    },
  };
}

function headList(from, to, ranks) {
  const strong = ranks.filter(([, w]) => w >= 0.005).slice(0, MANY);
  const rows = strong.map(([view, w]) => barRow(
    { "data-view": view, "aria-pressed": state.shown.includes(view), title: `open ${nameOf(view)}` },
    () => change({ query: current().first[from], shown: [view] }), html("b", {}, view), "fill", w));
  return html("div", {}, html("h3", {}, quoted(from), " → ", quoted(to)),
    rows.length ? html("ul", { class: "bars" }, rows) : html("p", { class: "quiet" }, "no head gives it 1% or more"));
}

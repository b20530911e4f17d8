// One sequence as it was written, every layer and head beside it: click a name, see where the chosen head looks.

function exhibit(show) {
  const weight = weights(show);
  const state = { ...show.chosen, asked: show.start, pinned: show.start };
  const spans = show.tokens.map(word);
  const answer = html("p", { class: "answer", "aria-live": "polite" });
  const heads = [];
  const draw = () => {
    shade(show, state, spans, weight);
    answer.replaceChildren(...sentence(show, state, weight));
    for (const h of heads) h.button.setAttribute("aria-pressed", h.layer === state.layer && h.head === state.head);
  };
  const ask = (asked, pinned) => { Object.assign(state, { asked, pinned }); draw(); };
  const code = html("pre", {}, show.tokens.map((token, i) => [token.space, spans[i]]));
  listen(code, state, ask);

  const columns = `auto repeat(${show.heads}, minmax(2rem, ${show.heads > 2 ? 5.2 : 7}rem))`;
  const names = Array.from({ length: show.heads }, (_, head) => html("span", { class: "column" }, `head ${head}`));
  const grid = html("div", { class: "heads", style: `grid-template-columns: ${columns}` }, html("span"), names);
  show.masses.forEach((row, layer) => {
    grid.append(html("span", { class: "row" }, `layer ${layer}`));
    row.forEach((mass, head) => {
      const canvas = html("canvas", { width: 96, height: 96 });
      const place = { type: "button", "data-layer": layer, "data-head": head, "aria-label": `layer ${layer}, head ${head}` };
      const button = html("button", { class: "head", ...place }, canvas, share(mass));
      button.addEventListener("click", () => { Object.assign(state, { layer, head }); draw(); });
      heads.push({ button, canvas, layer, head });
      grid.append(button);
    });
  });
  const paint = () => heads.forEach((h) => thumbnail(h.canvas, show.tokens.length, (q, k) => weight(h.layer, h.head, q, k)));
  dark.addEventListener("change", paint);
  paint();
  draw();
  return html("section", { id: "sight" }, html("h2", {}, "What the heads look at"),
    html("div", { class: "prose" }, show.about.map((text) => html("p", {}, prose(text))), legend()),
    html("div", { class: "sight" }, html("div", { class: "code" }, code), html("div", { class: "side" }, grid, answer)));
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const share = (x) => `${(100 * x).toFixed(0)}%`;

function weights(show) {
  const n = show.tokens.length;
  const words = new DataView(Uint8Array.from(atob(show.weights), (c) => c.charCodeAt(0)).buffer);
  return (layer, head, query, key) => words.getUint16(2 * (((layer * show.heads + head) * n + query) * n + key), true) / 65535;
}

function word(token, i) {
  const use = token.gold !== null;
  const kinds = ["token", use && "use", use && token.answer !== token.gold && "wrong", token.layout && "layout"];
  const button = use ? { tabindex: 0, role: "button" } : {};
  return html("span", { class: kinds.filter(Boolean).join(" "), "data-i": i, ...button }, token.text);
}

function listen(code, state, ask) {
  const use = (event) => event.target.closest(".use");
  code.addEventListener("click", (event) => { if (use(event)) ask(+use(event).dataset.i, +use(event).dataset.i); });
  code.addEventListener("keydown", (event) => {
    if (!use(event) || (event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    ask(+use(event).dataset.i, +use(event).dataset.i);
  });
  code.addEventListener("pointerover", (event) => {
    if (use(event) && event.pointerType === "mouse") ask(+use(event).dataset.i, state.pinned);
  });
  code.addEventListener("pointerleave", () => ask(state.pinned, state.pinned));
}

function shade(show, state, spans, weight) {
  const binding = show.tokens[state.asked].binding;
  spans.forEach((span, key) => {
    const w = weight(state.layer, state.head, state.asked, key);
    const strength = (100 * Math.sqrt(w)).toFixed(1);
    span.style.background = w < 0.001 ? "" : `color-mix(in srgb, var(--sight) ${strength}%, transparent)`;
    span.title = w.toFixed(3);
    span.classList.toggle("asked", key === state.asked);
    span.classList.toggle("gold", key === binding);
  });
}

function sentence(show, { layer, head, asked }, weight) {
  const token = show.tokens[asked];
  const { binding } = token;
  const to = (key) => weight(layer, head, asked, key);
  const others = show.tokens.reduce((sum, other, key) =>
    sum + (other.text === token.text && key !== binding && key !== asked ? to(key) : 0), 0);
  const parts = [
    html("code", {}, token.text), `: ${token.gold}; predicted: `,
    html("span", { class: token.answer === token.gold ? null : "miss" }, `${token.answer} (${share(token.probability)})`), ". ",
  ];
  if (binding === asked) parts.push("Here it is bound. ");
  else if (binding !== null) parts.push(`Its binding lies ${Math.abs(asked - binding)} tokens ${binding < asked ? "back" : "ahead"}. `);
  parts.push(`Layer ${layer}, head ${head} gives `);
  if (binding !== null && binding !== asked) parts.push(html("b", {}, share(to(binding))), " of its weight to the binding, ");
  parts.push(`${share(others)} to other mentions of it, ${share(to(asked))} to itself.`);
  return parts;
}

function legend() {
  return html("p", { class: "quiet" },
    "Click an underlined name to ask where the chosen head looks from there: the shading grows with the square root ",
    "of the weight; the ",
    html("span", { class: "token gold" }, "marked token"), " is the true binding; a ",
    html("span", { class: "token wrong" }, "wavy line"), " is a wrong prediction. Under each head stands the share ",
    "of its weight that falls on the binding, over all uses. In the small maps a row is a token that looks, a column one that is looked at.");
}

// A matrix in a few pixels: each pixel takes the strongest weight it covers, so that one strong link does not vanish.
function thumbnail(canvas, n, weight) {
  const size = canvas.width;
  const strongest = new Float32Array(size * size);
  const covers = (i) => {
    const first = Math.floor((i * size) / n);
    return [first, Math.max(first + 1, Math.ceil(((i + 1) * size) / n))];
  };
  for (let query = 0; query < n; query++) {
    const [top, bottom] = covers(query);
    for (let key = 0; key < n; key++) {
      const w = weight(query, key);
      const [left, right] = covers(key);
      for (let r = top; r < bottom; r++) {
        for (let c = left; c < right; c++) strongest[r * size + c] = Math.max(strongest[r * size + c], w);
      }
    }
  }
  const [none, full] = dark.matches ? [[20, 21, 23], [134, 208, 255]] : [[255, 255, 255], [0, 64, 120]];
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  strongest.forEach((w, i) => {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = none[c] + (full[c] - none[c]) * Math.sqrt(w);
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}

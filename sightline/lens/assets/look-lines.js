// The text twice, and a line from each word to what it looks at, as strong as the weight.

const LONGEST_PICTURE = 72; // units; more cannot be told apart

function linesPart() {
  const host = html("div", { class: "lines" });
  const every = switchPart("from every word", "every", "l");
  const node = html("section", { id: "lines" }, html("h2", {}, "Lines"), html("div", { class: "bar" }, every.node),
    host, html("p", { class: "quiet hint" }, phrases.lines));
  let last = null;
  const redraw = () => { if (last && host.clientWidth) drawLines(host, last); };
  onWidth(host, redraw);
  return {
    node,
    draw(matrices) {
      every.draw();
      node.hidden = current().n > LONGEST_PICTURE;
      last = node.hidden ? null : matrices;
      redraw();
    },
  };
}

// The links to draw, weakest first: {q, k, w, i: which of the heads shown}.
function linksOf(matrices, query) {
  const links = [];
  matrices.forEach((one, i) => range(current().n).forEach((q) => {
    if (q !== query && (!state.every || isHidden(q))) return;
    one.row(q).forEach((w, k) => { if (w >= 0.01 && !isHidden(k)) links.push({ q, k, w, i }); });
  }));
  return links.sort((a, b) => a.w - b.w);
}

function drawLines(host, matrices) {
  const width = host.clientWidth;
  const { n, units } = current();
  const longest = Math.max(...units.map(({ text }) => text.length));
  const place = lineLayout(width, n, longest);
  const query = queryUnit();
  const links = linksOf(matrices, query);
  const paths = links.map(({ q, k, w, i }) => {
    const opacity = (Math.sqrt(w) * (q === query ? 1 : 0.45)).toFixed(2);
    return svg("path", {
      class: "link", d: place.path(q, k), "data-from": q, "data-to": k, "data-view": state.shown[i],
      style: `stroke:${hue(i)};opacity:${opacity};stroke-width:${(1 + 3.5 * w).toFixed(1)}`,
    });
  });
  const bands = links.filter(({ q }) => q === query).map(({ k, w, i }) => svg("rect",
    { ...place.band(k, i, matrices.length), style: `fill:${hue(i)};opacity:${(0.55 * Math.sqrt(w)).toFixed(2)}` }));
  const name = (i, second) => {
    const kind = i === query && !second ? "name query" : isHidden(i) ? "name faint" : "name";
    const node = svg("text", { ...place.text(i, second), class: kind, "data-i": i },
      isolated(units[i].text.trim() || "␣"));
    node.addEventListener("click", (event) => (second || event.shiftKey ? join(query, i) : setQuery(i)));
    return node;
  };
  const canvas = { viewBox: `0 0 ${width} ${place.height}`, height: place.height };
  host.replaceChildren(svg("svg", { ...canvas, role: "img", "aria-label": "lines between words" },
    place.mark(query), bands, paths, [false, true].map((second) => range(n).map((i) => name(i, second)))));
}

// Where the words, lines, bands and the mark stand: queries above, keys below, words upright; or, where the text is
// long or the page narrow, queries to the left and keys to the right.
function lineLayout(width, n, longest) {
  const rows = width / n >= 17;
  const pitch = rows ? Math.min(34, width / n) : 22;
  const room = rows ? Math.min(130, 10 + 7.4 * longest) : Math.min(0.36 * width, 14 + 7.6 * longest); // of the words
  const between = rows ? Math.min(260, 140 + 4 * n) : Math.min(width - 2 * room, 320);
  const [queries, start] = rows ? [room, (width - pitch * n) / 2] : [(width - between) / 2, 0];
  const keys = queries + between;
  const middle = (queries + keys) / 2;
  const along = (i) => start + pitch * ((rows && rightToLeft ? n - 1 - i : i) + 0.5);
  const point = (i, across) => (rows ? `${along(i)} ${across}` : `${across} ${along(i)}`);
  const box = (from, across, thickness, length) => (rows
    ? { x: from, y: across, width: thickness, height: length }
    : { x: across, y: from, width: length, height: thickness });
  return {
    height: rows ? keys + room : pitch * n,
    path: (q, k) => `M${point(q, queries + 5)}C${point(q, middle)} ${point(k, middle)} ${point(k, keys - 5)}`,
    text: (i, second) => ({
      transform: `translate(${point(i, second ? keys : queries)})${rows ? " rotate(-90)" : ""}`, dy: "0.33em",
      "text-anchor": second === rows ? "end" : "start",
      style: `font-size:${rows ? Math.min(14, pitch * 0.72).toFixed(1) : 14}px`,
    }),
    band: (k, i, count) =>
      ({ ...box(along(k) + 0.9 * pitch * (i / count - 0.5), keys - 3, (0.9 * pitch) / count, room), rx: 2 }),
    mark: (i) => svg("rect",
      { class: "mark", ...box(along(i) - 0.45 * pitch, queries - room, 0.9 * pitch, room + 3), rx: 3 }),
  };
}

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
  const place = (width / n >= 17 ? twoRows : twoColumns)(width, n, longest);
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

// Queries above, keys below, words upright.
function twoRows(width, n, longest) {
  const pitch = Math.min(34, width / n);
  const left = (width - pitch * n) / 2 + pitch / 2;
  const room = Math.min(130, 10 + 7.4 * longest);
  const [top, bottom] = [room, room + Math.min(260, 140 + 4 * n)];
  const middle = (top + bottom) / 2;
  const x = (i) => left + pitch * (rightToLeft ? n - 1 - i : i);
  const style = `font-size:${Math.min(14, pitch * 0.72).toFixed(1)}px`;
  const bar = (count) => (pitch * 0.9) / count;
  return {
    height: bottom + room,
    path: (q, k) => `M${x(q)} ${top + 5}C${x(q)} ${middle} ${x(k)} ${middle} ${x(k)} ${bottom - 5}`,
    text: (i, second) => ({
      transform: `translate(${x(i)} ${second ? bottom : top}) rotate(-90)`, dy: "0.33em",
      "text-anchor": second ? "end" : "start", style,
    }),
    band: (k, i, count) =>
      ({ x: x(k) - pitch * 0.45 + bar(count) * i, y: bottom - 3, width: bar(count), height: room, rx: 2 }),
    mark: (i) => svg("rect",
      { class: "mark", x: x(i) - pitch * 0.45, y: 0, width: bar(1), height: top + 3, rx: 3 }),
  };
}

// Queries to the left, keys to the right, where the text is long or the page narrow.
function twoColumns(width, n, longest) {
  const pitch = 22;
  const room = Math.min(0.36 * width, 14 + 7.6 * longest);
  const between = Math.min(width - 2 * room, 320);
  const [left, right, middle] = [(width - between) / 2, (width + between) / 2, width / 2];
  const y = (i) => pitch * (i + 0.5);
  return {
    height: pitch * n,
    path: (q, k) => `M${left + 5} ${y(q)}C${middle} ${y(q)} ${middle} ${y(k)} ${right - 5} ${y(k)}`,
    text: (i, second) => ({
      x: second ? right : left, y: y(i), dy: "0.33em", "text-anchor": second ? "start" : "end", style: "font-size:14px",
    }),
    band: (k, i, count) => ({ x: right - 3, y: y(k) - 9 + (18 * i) / count, width: room, height: 18 / count, rx: 2 }),
    mark: (i) => svg("rect", { class: "mark", x: left - room, y: y(i) - 10, width: room + 3, height: 20, rx: 3 }),
  };
}

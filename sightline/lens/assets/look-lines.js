// The picture of the article: the text twice, and a line from each word to what it looks at, as strong as the weight.

const LONGEST_PICTURE = 72; // units; more cannot be told apart

function lines() {
  const host = html("div", { class: "lines" });
  const every = switched("from every word", "every", "l");
  const node = html("section", { id: "lines" }, html("h2", {}, "Lines"), html("div", { class: "bar" }, every.node), host,
    html("p", { class: "quiet hint" }, says.lines));
  let last = null;
  const redraw = () => { if (last && host.clientWidth) picture(host, last); };
  new ResizeObserver(() => { if (host.clientWidth !== +host.dataset.width) redraw(); }).observe(host);
  return {
    node,
    draw(matrices) {
      every.draw();
      node.hidden = where().n > LONGEST_PICTURE;
      last = node.hidden ? null : matrices;
      redraw();
    },
  };
}

function picture(host, matrices) {
  const width = host.clientWidth;
  host.dataset.width = width;
  const { n, units } = where();
  const longest = Math.max(...units.map(({ text }) => text.length));
  const across = width / n >= 17; // words upright along two rows; else along two columns
  const place = across ? placesAcross(width, n, longest) : placesDown(width, n, longest);
  const asked = unit(state.asked);
  const strokes = [];
  matrices.forEach((one, i) => {
    for (let q = 0; q < n; q++) {
      if (!state.every && q !== asked) continue;
      one.row(q).forEach((w, k) => { if (w >= 0.01 && !hidden(k) && !(hidden(q) && q !== asked)) strokes.push({ q, k, w, i }); });
    }
  });
  strokes.sort((a, b) => a.w - b.w);
  const marks = units.map(() => matrices.map(() => 0));
  for (const { q, k, w, i } of strokes) if (q === asked) marks[k][i] = w;
  const drawn = strokes.map(({ q, k, w, i }) => svg("path", {
    class: "link", d: place.path(q, k), "data-from": q, "data-to": k, "data-view": state.shown[i],
    style: `stroke:${hue(i)};opacity:${(Math.sqrt(w) * (state.every && q !== asked ? 0.45 : 1)).toFixed(2)};stroke-width:${(1 + 3.5 * w).toFixed(1)}`,
  }));
  const name = (i, second) => {
    const made = svg("text", { ...place.text(i, second), class: i === asked && !second ? "name asked" : hidden(i) ? "name faint" : "name", "data-i": i }, isolated(units[i].text.trim() || "␣"));
    made.addEventListener("click", (event) => (second || event.shiftKey ? join(asked, i) : ask(i)));
    return made;
  };
  const bands = units.flatMap((_, k) => marks[k].map((w, i) => (w < 0.01 ? null
    : svg("rect", { ...place.band(k, i, matrices.length), style: `fill:${hue(i)};opacity:${(0.55 * Math.sqrt(w)).toFixed(2)}` }))).filter(Boolean));
  host.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${place.height}`, height: place.height, role: "img", "aria-label": "lines between words" },
    place.mark(asked), bands, drawn, range(n).map((i) => name(i, false)), range(n).map((i) => name(i, true))));
}

// Two rows: those who look above, what they look at below.
function placesAcross(width, n, longest) {
  const pitch = Math.min(34, width / n);
  const left = (width - pitch * n) / 2 + pitch / 2;
  const room = Math.min(130, 10 + 7.4 * longest);
  const [top, bottom] = [room, room + Math.min(260, 140 + 4 * n)];
  const x = (i) => left + pitch * (backwards ? n - 1 - i : i);
  const size = `font-size:${Math.min(14, pitch * 0.72).toFixed(1)}px`;
  return {
    height: bottom + room,
    path: (q, k) => `M${x(q)} ${top + 5}C${x(q)} ${(top + bottom) / 2} ${x(k)} ${(top + bottom) / 2} ${x(k)} ${bottom - 5}`,
    text: (i, second) => {
      const y = second ? bottom : top;
      return { transform: `translate(${x(i)} ${y}) rotate(-90)`, dy: "0.33em", "text-anchor": second ? "end" : "start", style: size };
    },
    band: (k, i, count) => ({ x: x(k) - pitch * 0.45 + (pitch * 0.9 * i) / count, y: bottom - 3, width: (pitch * 0.9) / count, height: room, rx: 2 }),
    mark: (i) => svg("rect", { class: "mark", x: x(i) - pitch * 0.45, y: 0, width: pitch * 0.9, height: top + 3, rx: 3 }),
  };
}

// Two columns, where the text is long or the page narrow.
function placesDown(width, n, longest) {
  const pitch = 22;
  const room = Math.min(0.36 * width, 14 + 7.6 * longest);
  const middle = Math.min(width - 2 * room, 320);
  const left = (width - middle) / 2;
  const right = left + middle;
  const y = (i) => pitch * (i + 0.5);
  return {
    height: pitch * n,
    path: (q, k) => `M${left + 5} ${y(q)}C${(left + right) / 2} ${y(q)} ${(left + right) / 2} ${y(k)} ${right - 5} ${y(k)}`,
    text: (i, second) => ({ x: second ? right : left, y: y(i), dy: "0.33em", "text-anchor": second ? "start" : "end", style: "font-size:14px" }),
    band: (k, i, count) => ({ x: right - 3, y: y(k) - 9 + (18 * i) / count, width: room, height: 18 / count, rx: 2 }),
    mark: (i) => svg("rect", { class: "mark", x: left - room, y: y(i) - 10, width: room + 3, height: 20, rx: 3 }),
  };
}

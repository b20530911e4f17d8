// How far the open head looks: its weight by distance, back to the left and ahead to the right; and its numbers.

const NUMBERS = {
  entropy: ["entropy", (x) => `${rounded(x)} nats`], distance: ["mean distance", (x) => `${rounded(x)} pieces`],
  previous: ["on the piece before", percent], next: ["on the next piece", percent], first: ["on the first piece", percent],
  special: ["on special tokens", percent], binding: ["on the binding, from a use", percent],
};

function profile() {
  const host = html("div", { class: "plot" });
  const name = html("small", {});
  const table = html("dl", { class: "numbers" });
  let last = null;
  const redraw = () => { if (last && host.clientWidth) host.replaceChildren(histogram(host.clientWidth, profileOf(last))); };
  new ResizeObserver(redraw).observe(host);
  return {
    node: html("section", { id: "profile" }, html("h2", {}, "Distance ", name), host,
      html("p", { class: "quiet hint" }, `Share of the weight by how many pieces lie between, over all that look${look.special.length ? "; weight on special tokens is not in it" : ""}.`),
      table, html("p", { class: "honest" }, "Weight is not cause: it says where a head looks, not what the model's answer depends on.")),
    draw() {
      [last] = state.shown;
      name.textContent = `of ${nameOf(last)}`;
      table.replaceChildren(...Object.entries(NUMBERS).filter(([key]) => look.statistics[key] && (key !== "special" || look.special.length))
        .flatMap(([key, [words, write]]) => [html("dt", {}, words), html("dd", {}, write(statistic(key, last)))]));
      redraw();
    },
  };
}

const binned = ([low, high]) => {
  const [near, far] = [Math.min(Math.abs(low), Math.abs(high)), Math.max(Math.abs(low), Math.abs(high))];
  return near === far ? String(near) : `${near}–${far}`;
};

function histogram(width, shares) {
  const box = { left: 34, right: width - 4, top: 18, bottom: 190 };
  const most = Math.max(0.1, ...shares);
  const pitch = (box.right - box.left) / shares.length;
  const y = (share) => box.bottom - (share / most) * (box.bottom - box.top);
  const skip = Math.ceil((8 + 7 * Math.max(...look.bins.map((bin) => binned(bin).length))) / pitch);
  const middle = look.bins.findIndex(([low, high]) => low === 0 && high === 0);
  const ticks = [0, most / 2, most];
  return svg("svg", { viewBox: `0 0 ${width} 236`, height: 236, role: "img", "aria-label": "share of the weight by distance" },
    ticks.map((t) => [svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(t), y2: y(t) }),
      svg("text", { x: box.left - 6, y: y(t) + 4, "text-anchor": "end" }, percent(t))]),
    shares.map((share, i) => [
      svg("rect", { class: "column", x: box.left + pitch * i + 1.5, y: y(share), width: Math.max(pitch - 3, 1), height: box.bottom - y(share), rx: 2, "data-share": share },
        svg("title", {}, `${binned(look.bins[i])} ${i === middle ? "itself" : i < middle ? "back" : "ahead"}: ${(100 * share).toFixed(1)}%`)),
      (i - middle) % skip === 0 ? svg("text", { x: box.left + pitch * (i + 0.5), y: box.bottom + 16, "text-anchor": "middle" }, i === middle ? "itself" : binned(look.bins[i])) : null,
    ]),
    svg("text", { x: box.left, y: box.bottom + 38 }, "← back"), svg("text", { x: box.right, y: box.bottom + 38, "text-anchor": "end" }, "ahead →"));
}

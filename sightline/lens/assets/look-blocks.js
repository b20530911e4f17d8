// A text of any length in a box that scrolls. Of a long text, only the words in sight, or nearly, are in the document.

const BLOCK = 300; // units of one block at least; it ends with a line, or at a space soon after
const AT_ONCE = 2500; // units of a text that is one block
const LONG_WORD = 16; // letters; a longer word may be broken at the end of a line
const AHEAD = 1200; // pixels beyond the box's edges that are filled too

function spaceBefore(i) {
  const { units } = current();
  return units[i].space || (i && units[i].special !== units[i - 1].special ? " " : "");
}

function blockBounds(units) {
  if (units.length <= AT_ONCE) return [0, units.length];
  const bounds = [0];
  for (let i = 1; i < units.length; i++) {
    const size = i - bounds.at(-1);
    const { space } = units[i];
    const ends = space.includes("\n") || (size >= 2 * BLOCK && space) || size >= 4 * BLOCK;
    if (size >= BLOCK && ends) bounds.push(i);
  }
  return [...bounds, units.length];
}

// The height in pixels that units will need, estimated from their letters.
function estimatedHeight(units, lettersPerLine) {
  const lines = units.map(({ space, text }) => space + text).join("").split("\n");
  return 31 * lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / lettersPerLine)), 0);
}

function unitElement({ text, special: added, unknown: unread }, i) {
  const kinds = ["unit", added && "added", unread && "unread", text.length > LONG_WORD && "long"];
  const attributes = { class: kinds.filter(Boolean).join(" "), role: "button", "data-i": i, tabindex: -1 };
  // Words flow with the text, so that their order is that of the script; added tokens stand apart.
  return html("span", attributes, added ? html("bdi", {}, text) : text);
}

// dress(span, i) styles a unit's element whenever it enters the document or its style changes.
function blocks(box, dress) {
  let units = [];
  let bounds = [0];
  let holders = [];
  const filled = new Map(); // block -> elements of its units
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const block = +target.dataset.block;
      if (isIntersecting) fillBlock(block);
      else if (filled.has(block) && holders.length > 1 && !target.contains(document.activeElement)) emptyBlock(block);
    }
  }, { root: box, rootMargin: `${AHEAD}px 0px` });

  function fillBlock(block) {
    if (filled.has(block)) return;
    const [start, stop] = [bounds[block], bounds[block + 1]];
    const spans = range(stop - start).map((j) => unitElement(units[start + j], start + j));
    const lineEnd = (i) => spaceBefore(i).indexOf("\n") + 1; // the line before a block ends in that block's space
    const nodes = spans.flatMap((span, j) => {
      const space = spaceBefore(start + j);
      return [j || !block ? space : space.slice(lineEnd(start)), span];
    });
    nodes.push(stop < units.length ? spaceBefore(stop).slice(0, lineEnd(stop)) : current().end);
    holders[block].replaceChildren(...nodes);
    holders[block].style.height = "";
    filled.set(block, spans);
    spans.forEach((span, j) => dress(span, start + j));
  }

  function emptyBlock(block) {
    holders[block].style.height = `${holders[block].offsetHeight}px`;
    holders[block].replaceChildren();
    filled.delete(block);
  }

  return {
    layOut(level) {
      observer.disconnect();
      filled.clear();
      ({ units } = level);
      bounds = blockBounds(units);
      const perLine = Math.max(10, box.clientWidth / 8.3);
      holders = range(bounds.length - 1).map((block) => {
        const height = estimatedHeight(units.slice(bounds[block], bounds[block + 1]), perLine);
        return html("div", { class: "block", "data-block": block, style: `height:${height}px` });
      });
      box.replaceChildren(...holders);
      if (holders.length === 1) fillBlock(0);
      else holders.forEach((holder) => observer.observe(holder));
    },
    element(i) {
      const block = bounds.findLastIndex((bound) => bound <= i);
      fillBlock(block);
      return filled.get(block)[i - bounds[block]];
    },
    dress() {
      for (const [block, spans] of filled) spans.forEach((span, j) => dress(span, bounds[block] + j));
    },
    // Scrolls a unit into sight at once, also from far away.
    show(i) {
      const [frame, at] = [box, this.element(i)].map((element) => element.getBoundingClientRect());
      const visible = at.top >= frame.top && at.bottom <= frame.bottom - 20;
      if (!visible) box.scrollTop += at.top - frame.top - box.clientHeight / 3;
    },
  };
}

// A strip beside a long text: to the left where the query word looks, to the right where from it is looked at.
// A click goes there.
function ruler(goTo) {
  const canvas = html("canvas", { class: "ruler", title: phrases.ruler });
  canvas.addEventListener("click", ({ clientY }) =>
    goTo((clientY - canvas.getBoundingClientRect().top) / canvas.clientHeight));
  return {
    canvas,
    draw(row, column, query) {
      const [width, height] = [canvas.width = 18, canvas.height = Math.max(1, canvas.clientHeight)];
      const context = canvas.getContext("2d");
      const { n } = current();
      [["--sight", row], ["--under", column]].forEach(([name, weights], side) => {
        const most = new Float32Array(height);
        weights.forEach((w, i) => {
          const y = Math.min(height - 1, Math.floor((i * height) / n));
          if (!isHidden(i) && w > most[y]) most[y] = w;
        });
        context.fillStyle = cssColor(name);
        most.forEach((w, y) => {
          if (w < 0.003) return;
          context.globalAlpha = Math.min(1, 0.15 + Math.sqrt(w));
          context.fillRect(side * 9 + 1, y - 0.5, 7, 2);
        });
      });
      context.globalAlpha = 1;
      context.fillStyle = cssColor("--ink");
      context.fillRect(0, Math.floor((query * height) / n) - 1, width, 2);
    },
  };
}

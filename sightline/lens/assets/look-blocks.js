// A text of any length in a box that scrolls: of a long one, only the words that are in sight, or nearly, are in the document.

const BLOCK = 300; // units of one block at least; it ends where a line does, or at a blank soon after
const AT_ONCE = 2500; // units of a text that is there as a whole
const LONG_WORD = 16; // letters; a longer word may be broken at the end of a line
const AHEAD = 1200; // pixels beyond the box's edges that are filled too

const gap = (i) => where().units[i].space || (i && where().units[i].special !== where().units[i - 1].special ? " " : "");

// Bounds of the blocks of a level.
function cut(units) {
  if (units.length <= AT_ONCE) return [0, units.length];
  const bounds = [0];
  for (let i = 1; i < units.length; i++) {
    const size = i - bounds.at(-1);
    const { space } = units[i];
    if (size >= BLOCK && (space.includes("\n") || (size >= 2 * BLOCK && space) || size >= 4 * BLOCK)) bounds.push(i);
  }
  return [...bounds, units.length];
}

// A box of text; `dress(span, i)` gives a unit's element its looks, whenever it comes into sight or they change.
function blocks(box, dress) {
  let units = [];
  let bounds = [0];
  let holders = [];
  const filled = new Map(); // block: its units' elements
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const block = +target.dataset.block;
      if (isIntersecting) fill(block);
      else if (filled.has(block) && holders.length > 1 && !target.contains(document.activeElement)) empty(block);
    }
  }, { root: box, rootMargin: `${AHEAD}px 0px` });

  function fill(block) {
    if (filled.has(block)) return;
    const [start, stop] = [bounds[block], bounds[block + 1]];
    const spans = range(stop - start).map((j) => {
      const { text: word, special: added, unknown: unread } = units[start + j];
      const kind = ["unit", added && "added", unread && "unread", word.length > LONG_WORD && "long"].filter(Boolean).join(" ");
      // Words are in the line of the text, so that the order of several is that of their writing; what is added stands apart.
      return html("span", { class: kind, role: "button", "data-i": start + j, tabindex: -1 }, added ? html("bdi", {}, word) : word);
    });
    const line = (i) => gap(i).indexOf("\n") + 1; // what ends the line before a block stands there
    const nodes = spans.flatMap((span, j) => [j || !block ? gap(start + j) : gap(start).slice(line(start)), span]);
    nodes.push(stop < units.length ? gap(stop).slice(0, line(stop)) : where().end);
    holders[block].replaceChildren(...nodes);
    holders[block].style.height = "";
    filled.set(block, spans);
    spans.forEach((span, j) => dress(span, start + j));
  }

  function empty(block) {
    holders[block].style.height = `${holders[block].offsetHeight}px`;
    holders[block].replaceChildren();
    filled.delete(block);
  }

  const blockOf = (i) => {
    let [low, high] = [0, bounds.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (bounds[middle] <= i) low = middle;
      else high = middle;
    }
    return low;
  };

  return {
    // Heights of what is not there yet are guessed from the letters, and become right when it comes.
    lay(level) {
      sight.disconnect();
      filled.clear();
      ({ units } = level);
      bounds = cut(units);
      const across = Math.max(10, box.clientWidth / 8.3);
      holders = range(bounds.length - 1).map((block) => {
        let lines = 0;
        let letters = 0;
        for (let i = bounds[block]; i < bounds[block + 1]; i++) {
          const breaks = units[i].space.split("\n").length - 1;
          if (breaks) [lines, letters] = [lines + breaks - 1 + Math.max(1, Math.ceil(letters / across)), 0];
          letters += units[i].space.length + units[i].text.length;
        }
        return html("div", { class: "block", "data-block": block, style: `height:${Math.round(31 * (lines + Math.ceil(letters / across)))}px` });
      });
      box.replaceChildren(...holders);
      if (holders.length === 1) fill(0);
      else holders.forEach((holder) => sight.observe(holder));
    },
    element(i) {
      const block = blockOf(i);
      fill(block);
      return filled.get(block)[i - bounds[block]];
    },
    dress() {
      for (const [block, spans] of filled) spans.forEach((span, j) => dress(span, bounds[block] + j));
    },
    // Brings a unit into sight, if it is not; at once, also from far away.
    show(i) {
      const span = this.element(i);
      const [frame, at] = [box.getBoundingClientRect(), span.getBoundingClientRect()];
      if (at.top < frame.top || at.bottom > frame.bottom - 20) box.scrollTop += at.top - frame.top - box.clientHeight / 3;
    },
  };
}

// Where in a long text the weight lies: a strip beside it, as high as the box, with what is looked at to the left and what looks to the
// right; a click goes there.
function ruler(go) {
  const canvas = html("canvas", { class: "ruler", title: says.ruler });
  canvas.addEventListener("click", (event) => go((event.clientY - canvas.getBoundingClientRect().top) / canvas.clientHeight));
  return {
    canvas,
    draw(row, column, asked) {
      const [width, height] = [canvas.width = 18, canvas.height = Math.max(1, canvas.clientHeight)];
      const context = canvas.getContext("2d");
      const style = getComputedStyle(document.body);
      const { n } = where();
      const most = [row, column].map((weights) => {
        const found = new Float32Array(height);
        weights.forEach((w, i) => { const y = Math.min(height - 1, Math.floor((i * height) / n)); if (!hidden(i) && w > found[y]) found[y] = w; });
        return found;
      });
      ["--sight", "--under"].forEach((name, side) => {
        context.fillStyle = style.getPropertyValue(name);
        most[side].forEach((w, y) => { if (w >= 0.003) { context.globalAlpha = Math.min(1, 0.15 + Math.sqrt(w)); context.fillRect(side * 9 + 1, y - 0.5, 7, 2); } });
      });
      context.globalAlpha = 1;
      context.fillStyle = style.getPropertyValue("--ink");
      context.fillRect(0, Math.floor((asked * height) / n) - 1, width, 2);
    },
  };
}

// A map that the page holds, as pictures: a pixel a cell, and then each four of them as their strongest. Where the page holds only a
// head's links, they stand, in blue, before a grey and coarse picture of the rest.

function pictures(see) {
  let [matrix, made, drawn] = [null, "", []];
  return {
    tools: null,
    about: (one) => (one.whole ? "" : ` The page holds the ${look.links} strongest links of each row, exact, in blue; in grey, the strongest weight of each part of the map${state.hide ? ", what is left out included" : ""}.`),
    async take(view, one) {
      const key = [view, state.level, state.hide, dark.matches].join();
      if (made === key) return;
      const coarse = one.whole ? null : await thumbnailOf(view);
      if (view === state.shown[0]) [matrix, made, drawn] = [one, key, pyramid(one, coarse)];
    },
    fill(context, { cell, x, y, gutter, side }) {
      let i = 0;
      while (i + 1 < drawn.length && cell * 2 ** i < 0.75) i++;
      const size = cell * 2 ** i;
      context.drawImage(drawn[i], gutter - x * cell, gutter - y * cell, drawn[i].width * size, drawn[i].height * size);
      if (cell < 30) return;
      for (let q = Math.floor(y); q < Math.min(see.n, y + side / cell); q++) {
        const weights = matrix.row(q);
        for (let k = Math.floor(x); k < Math.min(see.n, x + side / cell); k++) if (!hidden(k)) written(context, see, q, k, weights[k]);
      }
    },
    told({ q, k }, say) {
      const w = matrix.row(q)[k];
      say(w || matrix.whole ? `${(100 * w).toFixed(1)}%` : `at most ${(100 * matrix.least(q)).toFixed(1)}%`);
      return [quoted(q), " → ", quoted(k)];
    },
  };
}

// A weight, in its cell, where that is large enough.
function written(context, { cell, x, y, gutter }, q, k, w) {
  if (w < 0.005) return;
  const style = getComputedStyle(document.body);
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = style.getPropertyValue(w > 0.3 ? "--paper" : "--ink");
  context.fillText((100 * w).toFixed(0), gutter + (k + 0.5 - x) * cell, gutter + (q + 0.5 - y) * cell);
}

function pyramid(one, coarse) {
  const { n } = one;
  const found = new Float32Array(n * n);
  const rough = coarse && new Float32Array(n * n);
  const pieces = look.pieces.length;
  const part = (i) => Math.min(look.size - 1, Math.floor((where().first[i] * look.size) / pieces));
  for (let q = 0; q < n; q++) {
    found.set(one.row(q), q * n);
    for (let k = 0; k < n; k++) {
      if (hidden(k)) found[q * n + k] = 0;
      else if (coarse) rough[q * n + k] = WEIGHTS[coarse[part(q) * look.size + part(k)]];
    }
  }
  const pictures = [];
  for (let [values, grey, size] = [found, rough, n]; ; [values, grey, size] = [halved(values, size), grey && halved(grey, size), Math.ceil(size / 2)]) {
    pictures.push(picture_of(values, grey, size));
    if (size <= 128) return pictures;
  }
}

function halved(values, size) {
  const half = Math.ceil(size / 2);
  const out = new Float32Array(half * half);
  values.forEach((w, i) => {
    const at = (Math.floor(i / size) >> 1) * half + ((i % size) >> 1);
    if (w > out[at]) out[at] = w;
  });
  return out;
}

function picture_of(values, grey, size) {
  const canvas = html("canvas", { width: size, height: size });
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  const [none, full, quiet] = [PAPER(), INK(), dark.matches ? [120, 124, 130] : [150, 153, 158]];
  values.forEach((w, i) => {
    const back = grey ? blend(none, quiet, Math.sqrt(grey[i])) : none;
    image.data.set([...blend(back, full, Math.sqrt(w)), 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

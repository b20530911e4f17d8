// A map that the page holds, as pictures: one pixel per cell, then smaller ones of each four cells' largest. Of a
// sparse map, the links are blue before a grey and coarse picture of the rest.

const paper = () => (dark.matches ? [20, 21, 23] : [255, 255, 255]);
const ink = () => (dark.matches ? [134, 208, 255] : [0, 64, 120]);
const grey = () => (dark.matches ? [120, 124, 130] : [150, 153, 158]);
const blend = (from, to, t) => from.map((low, i) => low + (to[i] - low) * t);

// The shade of each byte, which is the square root of a weight.
function palette() {
  const [low, high] = [paper(), ink()];
  return range(256).map((byte) => blend(low, high, byte / 255));
}

// One pixel per value; color(value, i) is [red, green, blue].
function paintPixels(canvas, values, color) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  values.forEach((value, i) => {
    const [red, green, blue] = color(value, i);
    image.data[4 * i] = red;
    image.data[4 * i + 1] = green;
    image.data[4 * i + 2] = blue;
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

function pictureContent(view) {
  let [matrix, key, levels] = [null, "", []];
  return {
    tools: null,
    note: null,
    about(one) {
      if (one.whole) return "";
      const omitted = state.hide ? ", what is left out included" : "";
      return ` The page holds the ${look.links} strongest links of each row, exact, in blue; in grey, the strongest`
        + ` weight of each part of the map${omitted}.`;
    },
    async open(name, one) {
      const newKey = [name, state.level, state.hide, dark.matches].join();
      if (key === newKey) return;
      const coarse = one.whole ? null : await thumbnailOf(name);
      if (name === state.shown[0]) [matrix, key, levels] = [one, newKey, pyramid(one, coarse)];
    },
    paint(context, { cell, x, y, gutter }) {
      let i = 0;
      while (i + 1 < levels.length && cell * 2 ** i < 0.75) i++;
      const size = cell * 2 ** i;
      const { width, height } = levels[i];
      context.drawImage(levels[i], gutter - x * cell, gutter - y * cell, width * size, height * size);
      writeWeights(context, view, (q) => {
        const row = matrix.row(q);
        return (k) => (isHidden(k) ? 0 : row[k]);
      });
    },
    describe({ q, k }, write) {
      write(weightText(matrix, q, matrix.row(q)[k]));
      return [quoted(q), " → ", quoted(k)];
    },
  };
}

function pyramid(one, coarse) {
  const { n } = one;
  const exact = new Float32Array(n * n);
  const rough = coarse && new Float32Array(n * n);
  const part = (i) => Math.min(look.size - 1, Math.floor((current().first[i] * look.size) / look.pieces.length));
  for (let q = 0; q < n; q++) {
    exact.set(one.row(q), q * n);
    for (let k = 0; k < n; k++) {
      if (isHidden(k)) exact[q * n + k] = 0;
      else if (coarse) rough[q * n + k] = WEIGHTS[coarse[part(q) * look.size + part(k)]];
    }
  }
  const pictures = [];
  for (let [values, back, size] = [exact, rough, n]; ;) {
    pictures.push(pictureOf(values, back, size));
    if (size <= 128) return pictures;
    [values, back, size] = [halved(values, size), back && halved(back, size), Math.ceil(size / 2)];
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

function pictureOf(values, back, size) {
  const [none, full, behind] = [paper(), ink(), grey()];
  const shade = (w, i) => blend(back ? blend(none, behind, Math.sqrt(back[i])) : none, full, Math.sqrt(w));
  return paintPixels(html("canvas", { width: size, height: size }), values, shade);
}

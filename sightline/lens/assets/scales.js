// Scales: evenly spaced, logarithmic, or one place per name; with ticks that a person would choose.
// A scale is {ticks, at: value -> 0..1}.
function linear(low, high, steps) {
  const rough = (high - low || 1) / steps;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => power * m >= rough * 0.999);
  const from = Math.floor(low / step + 1e-9) * step;
  const to = Math.ceil(high / step - 1e-9) * step;
  const ticks = [];
  for (let i = 0; from + i * step <= to + step / 2; i++) ticks.push(+(from + i * step).toPrecision(12));
  return { ticks, at: (x) => (x - from) / (to - from || 1) };
}

function logarithmic(low, high, steps, margin) {
  const from = Math.log(low / margin);
  const to = Math.log(high * margin);
  const inside = (marks) => {
    const ticks = [];
    for (let power = Math.floor(from / Math.LN10); power <= to / Math.LN10; power++) {
      for (const mark of marks) ticks.push(+(mark * 10 ** power).toPrecision(2));
    }
    return ticks.filter((t) => Math.log(t) >= from && Math.log(t) <= to);
  };
  const choices = [inside([1, 1.5, 2, 3, 5, 7]), inside([1, 2, 5]), inside([1])];
  const ticks = choices.find((some) => some.length <= steps) || choices[2];
  return { ticks, at: (x) => (Math.log(x) - from) / (to - from) };
}

const categories = (names) => ({ ticks: range(names.length), at: (i) => (i + 0.5) / names.length });

// The smallest and the largest value under these keys of the points of all lines.
function extent(lines, ...keys) {
  const values = lines.flatMap((line) => line.points.flatMap((point) => keys.map((key) => point[key])));
  const known = values.filter((v) => v !== undefined);
  return [Math.min(...known), Math.max(...known)];
}

// From values to pixels in a box, by a scale for x and one for y.
const placement = (box, x, y) => ({
  x: (v) => box.left + x.at(v) * (box.right - box.left),
  y: (v) => box.bottom - y.at(v) * (box.bottom - box.top),
});

// A horizontal line at each tick, with its number to the left.
const gridRows = (box, ticks, y, write) => ticks.map((tick) => [
  svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }),
  svg("text", { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, write(tick)),
]);

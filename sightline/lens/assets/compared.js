// The three plots of a comparison: by distance, against time, against tokens.

// One run of each encoder is drawn strong; its other seeds are thin lines beneath.
function runs(points, marks) {
  const lines = report.encoders.flatMap((e) =>
    e.runs.map((run) => ({ kind: e.kind, label: e.kind, points: points(run), marks, other: run.seed !== e.shown })));
  return lines.filter((line) => line.points.length).sort((a, b) => b.other - a.other);
}

const tick = (v) => (percent ? String(+(100 * v).toPrecision(3)) : digits(v));

function byDistance() {
  const apart = (bucket) => !/^\d/.test(bucket); // such as "outside": no distance, so it stands before the lines
  const order = [...report.buckets].sort((a, b) => apart(b) - apart(a));
  const point = (of) => (bucket, x) => ({ x, apart: apart(bucket), ...of(bucket) });
  const points = (of) => order.map(point(of)).filter((p) => Number.isFinite(p.y));
  const spread = (s) => (s ? { y: s.median, low: s.low, high: s.high } : {});
  const lines = report.encoders
    .map((e) => ({ kind: e.kind, label: e.kind, marks: true, points: points((bucket) => spread(e.distance[bucket])) }));
  const baselines = report.baselines.map((b) => ({ label: b.name, points: points((bucket) => ({ y: b.distance[bucket] })) }));
  const some = (line) => line.points.length;
  const joined = baselines.map((b) => ({ ...b, points: b.points.filter((p) => !p.apart) })); // what sets the scale
  const [low, high] = extent([...lines, ...joined], "y", "low", "high");
  for (const b of baselines) b.points = b.points.filter((p) => p.y >= low && p.y <= high);
  return {
    lines: lines.filter(some), baselines: baselines.filter(some),
    x: () => categories(order), y: (steps) => linear(low, high, steps),
    xname: report.distance_name, yname: report.measure.name + (percent ? ", %" : ""),
    xtick: (i) => order[i], ytick: tick, xhover: (i) => order[i], yhover: value,
  };
}

function byTime() {
  const lines = runs((run) => run.loss.filter(([, , loss]) => loss > 0).map(([x, , y]) => ({ x, y })), false);
  const end = extent(lines, "x")[1];
  const seconds = (steps) => ({ ticks: linear(0, end, steps).ticks.filter((t) => t <= end), at: (x) => x / end });
  return {
    lines, baselines: [], x: seconds, y: (steps) => logarithmic(...extent(lines, "y"), steps + 1, 1.05),
    xname: "seconds of training", yname: `${report.loss_name} (log scale)`,
    xtick: digits, ytick: digits, xhover: (s) => `${s.toFixed(1)} s`, yhover: digits,
  };
}

function byTokens() {
  const lines = runs((run) => run.milestones.filter(([tokens]) => tokens > 0).map(([x, , y]) => ({ x, y })), true);
  return {
    lines, baselines: [],
    x: (steps) => logarithmic(...extent(lines, "x"), steps, 1.15), y: (steps) => linear(...extent(lines, "y"), steps),
    xname: "tokens seen in training (log scale)", yname: `validation ${report.measure.name}${percent ? ", %" : ""}`,
    xtick: count, ytick: tick, xhover: (t) => `${count(t)} tokens`, yhover: value,
  };
}

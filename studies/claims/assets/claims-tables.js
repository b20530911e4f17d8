// The tables behind a claim: values with their ranges over seeds, folded until somebody opens them.

const isSpread = (v) => typeof v === "object" && v !== null;
const isWordy = (v) => typeof v === "string" && v.length > 24;
const cellNumber = (v, unit) => (unit === "%" ? (100 * v).toFixed(1) : numberText(v));

function cell(v, unit, highest) {
  if (v === null || v === undefined) {
    return html("td", { class: "none" }, html("span", { "aria-label": "not measured" }, NONE));
  }
  if (isSpread(v)) {
    const [median, low, high] = [v.median, v.low, v.high].map((one) => cellNumber(one, unit));
    const range = v.high > v.low ? html("small", {}, `${low}–${high}`) : null;
    return html("td", { class: highest ? "best" : null }, median, range);
  }
  if (typeof v === "number") return html("td", {}, cellNumber(v, unit));
  return html("td", { class: isWordy(v) ? "words" : "word" }, String(v));
}

// The row that is certainly highest in a column: of shares over several seeds, where its range meets no other's.
function highestRow({ rows, unit, columns }, column) {
  const spreads = rows.map((row, i) => ({ i, v: row[column] })).filter(({ v }) => isSpread(v));
  const seeds = spreads.some(({ v }) => v.high > v.low);
  if (unit !== "%" || columns[0] !== "encoder" || spreads.length < 2 || !seeds) return null;
  const [first, ...others] = spreads.sort((a, b) => b.v.median - a.v.median);
  return others.every(({ v }) => v.high < first.v.low) ? first.i : null;
}

function tableOf(one, open) {
  const { title, columns: names, rows, unit } = one;
  const best = names.map((_, column) => highestRow(one, column));
  const ranges = rows.some((row) => row.some((v) => isSpread(v) && v.high > v.low));
  const notes = [
    ranges ? "Median, and below it the lowest and the highest seed." : "",
    best.some((i) => i !== null) ? "Bold: the highest of its column, where its range meets no other's." : "",
  ].filter(Boolean);
  const isEncoder = (name) => names[0] === "encoder" && familyOf(name) !== "other";
  const label = (name) => html("th", { scope: "row" }, isEncoder(name) ? encoderName(name) : name);
  const wordy = names.map((_, column) => rows.some((row) => isWordy(row[column])));
  const head = names.map((name, i) => html("th", { scope: "col", class: i && wordy[i] ? "words" : null }, name));
  const body = rows.map(([name, ...values], i) => html("tr", {}, label(String(name)),
    values.map((v, column) => cell(v, unit, best[column + 1] === i))));
  const heading = unit ? `${title}, ${unit}` : title;
  return html("details", { class: "table", open: open ? "" : null },
    html("summary", {}, html("span", { class: "kind" }, "Table"), html("span", {}, prose(heading))),
    scrollable(heading, html("table", { class: "values" },
      html("thead", {}, html("tr", {}, head)), html("tbody", {}, body))),
    notes.length ? html("p", { class: "quiet" }, notes.join(" ")) : null);
}

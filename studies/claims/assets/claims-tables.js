// The tables behind a claim: values with their ranges over seeds, folded until they are asked for.

const isSpread = (v) => typeof v === "object" && v !== null;
const isWordy = (v) => typeof v === "string" && v.length > 24;
const number = (v, unit) => (unit === "%" ? (100 * v).toFixed(1) : whole(v));

function cell(v, unit, highest) {
  if (v === null || v === undefined) return html("td", { class: "none" }, html("span", { "aria-label": "not measured" }, "–"));
  if (isSpread(v)) {
    const range = v.high > v.low ? html("small", {}, `${number(v.low, unit)}–${number(v.high, unit)}`) : null;
    return html("td", { class: highest ? "best" : null }, number(v.median, unit), range);
  }
  if (typeof v === "number") return html("td", {}, number(v, unit));
  return html("td", { class: isWordy(v) ? "words" : "word" }, String(v));
}

// The row that is highest in a column for certain: of shares over several seeds, where its range meets no other's.
function highest({ rows, unit, columns: names }, column) {
  const some = rows.map((row, i) => ({ i, v: row[column] })).filter(({ v }) => isSpread(v));
  if (unit !== "%" || names[0] !== "encoder" || some.length < 2 || !some.some(({ v }) => v.high > v.low)) return null;
  const [first, ...others] = some.sort((a, b) => b.v.median - a.v.median);
  return others.every(({ v }) => v.high < first.v.low) ? first.i : null;
}

function table(one, open) {
  const { title, columns: names, rows, unit } = one;
  const best = names.map((_, column) => highest(one, column));
  const ranges = rows.some((row) => row.some((v) => isSpread(v) && v.high > v.low));
  const notes = [ranges ? "Median, and below it the lowest and the highest seed." : "",
    best.some((i) => i !== null) ? "Bold: the highest of its column, where its range meets no other's." : ""].filter(Boolean);
  const label = (name) => (family(String(name)) !== "other" && names[0] === "encoder" ? named(String(name)) : String(name));
  const wordy = names.map((_, column) => rows.some((row) => isWordy(row[column])));
  const body = rows.map((row, i) => html("tr", {}, row.map((v, column) => (column ? cell(v, unit, best[column] === i) : html("th", { scope: "row" }, label(v))))));
  const heading = unit ? `${title}, ${unit}` : title;
  return html("details", { class: "table", open: open ? "" : null },
    html("summary", {}, html("span", { class: "kind" }, "Table"), html("span", {}, prose(heading))),
    html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": heading },
      html("table", { class: "values" }, html("thead", {}, html("tr", {}, names.map((name, i) => html("th", { scope: "col", class: i && wordy[i] ? "words" : null }, name)))), html("tbody", {}, body))),
    notes.length ? html("p", { class: "quiet" }, notes.join(" ")) : null);
}

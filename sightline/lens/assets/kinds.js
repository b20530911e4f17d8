// What all pages write and colour alike: an encoder has one colour wherever it is seen, and numbers one form.
const KINDS = {
  "self-attention": "blue", lstm: "vermillion", rnn: "orange", convolution: "green", "fully-connected": "purple",
};
const color = (kind) => `var(--${kind ? KINDS[kind] || "black" : "quiet"})`;
// A variant of an encoder is a ring in its colour, its second a dotted one, as its line; what is no encoder has a dashed one.
const dot = (kind, variant) =>
  html("span", !kind ? { class: "dot hollow" } : variant ? { class: "dot ring", style: `border-color:${color(kind)};border-style:${["solid", "dotted", "double"][(variant - 1) % 3]}` }
    : { class: "dot", style: `background:${color(kind)}` });

// Text in which `names` stand between backticks.
const prose = (text) => text.split("`").map((part, i) => (i % 2 ? html("code", {}, part) : part));

const digits = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : String(+x.toPrecision(3)));
const count = (x) =>
  x >= 1e6 ? `${digits(x / 1e6)}M` : x >= 1e4 ? `${digits(x / 1e3)}k` : Math.round(x).toLocaleString("en");

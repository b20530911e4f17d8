// An encoder has one colour on all pages.
const KINDS = {
  "self-attention": "blue", lstm: "vermillion", rnn: "orange", convolution: "green", "fully-connected": "purple",
};
const color = (kind) => `var(--${kind ? KINDS[kind] || "black" : "quiet"})`;

// A variant of an encoder is a ring in its colour; a baseline, which has no kind, a dashed ring.
function dot(kind, variant) {
  if (!kind) return html("span", { class: "dot hollow" });
  if (!variant) return html("span", { class: "dot", style: `background:${color(kind)}` });
  const border = ["solid", "dotted", "double"][(variant - 1) % 3];
  return html("span", { class: "dot ring", style: `border-color:${color(kind)};border-style:${border}` });
}

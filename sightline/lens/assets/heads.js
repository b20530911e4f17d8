// Lays the page out, and opens the sheet of a head from wherever one is chosen.
function opening(head, go = true) {
  state.head = head;
  cloudOf.draw();
  sheetOf.draw();
  if (go) {
    sheetOf.node.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    sheetOf.title.focus({ preventScroll: true });
  }
}
const cloudOf = scatter(opening);
const sheetOf = sheet((by) => opening(HEADS[(HEADS.indexOf(state.head) + by + HEADS.length) % HEADS.length], false));
const notes = [...new Set(models.flatMap((model) => model.notes))];

// First the head of the first relation, or the first of all.
const lead = relations.map(({ models: rows }) => rows[0]).find((row) => row && row.accuracy !== null);
if (lead) state.head = headOf(0, lead.layer, lead.head);
document.getElementById("page").replaceChildren(...[
  html("header", {}, html("h1", {}, report.title), html("p", { class: "lede" }, report.about.join(" "))),
  table(opening).node,
  html("div", { class: "stage" }, cloudOf.node, sheetOf.node),
  ablation(),
  notes.length ? html("ul", { class: "notes" }, notes.map((note) => html("li", {}, note))) : null,
].filter(Boolean));
sheetOf.draw();
document.body.dataset.drawn = "yes";

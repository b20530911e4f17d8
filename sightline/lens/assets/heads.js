// The page of a report on heads, where each part can open the sheet of a head.
function openHead(head, scroll = true) {
  state.head = head;
  scatter.draw();
  sheet.draw();
  if (scroll) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    sheet.node.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
    sheet.title.focus({ preventScroll: true });
  }
}
const scatter = scatterPart(openHead);
const sheet = sheetPart((by) => openHead(HEADS[(HEADS.indexOf(state.head) + by + HEADS.length) % HEADS.length], false));
const notes = [...new Set(models.flatMap((model) => model.notes))];

// At first the head of the first relation, or the first of all.
const lead = relations.map(({ models: rows }) => rows[0]).find((row) => row && row.accuracy !== null);
if (lead) state.head = headAt(0, lead.layer, lead.head);
showPage(
  header(report.title, lede(report.about.join(" "))),
  relationsPart(openHead),
  html("div", { class: "stage" }, scatter.node, sheet.node),
  ablationPart(),
  notes.length ? list("notes", notes) : null,
);
sheet.draw();
document.body.dataset.drawn = "yes";

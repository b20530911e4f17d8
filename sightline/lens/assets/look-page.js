// The page of a look alone: title, facts, notes and predictions, the look, its keys.
const KEY_NAMES = [
  ["←", "→", "the word before, the next"], ["[", "]", "the head before, the next"], ["p", "pieces or words"],
  ["h", `with or without ${omittedNames}`], ["l", "lines from every word"], ["a", "several heads"],
  ["Esc", "let go of the two words"],
];
const LOST = "Nobody answers any more. What is shown stays; for more, start the program again and open its new "
  + "address.";

function facts() {
  const texts = ({ units }) => units.filter((unit) => !unit.special).length; // without tokens that were added
  const model = influenceOnly ? "influence" : `${counted(look.layers, "layer")} × ${counted(look.heads, "head")}`;
  return `${model} · ${counted(texts(levels.words), "word")} in ${counted(texts(levels.pieces), "piece")}`;
}

// Statistics and small pictures of the heads arrive layer by layer; of many queries, they are of some.
async function receiveStatistics() {
  const note = html("p", { class: "quiet hint", id: "sampled" });
  document.querySelector("#heads").append(note);
  const rows = levels.pieces.n;
  for (let known = -1; known < look.layers;) {
    const news = await source.json("heads");
    if (news.layers !== known) {
      known = news.layers;
      Object.assign(look, { statistics: news.statistics, profile: news.profile });
      const sample = news.rows < rows ? "Small pictures, numbers and distances are of "
        + `${grouped(news.rows)} of the ${grouped(rows)} rows, spread evenly.` : "";
      note.textContent = known < look.layers ? `${sample} ${known} of ${look.layers} layers are in.` : sample;
      renewThumbnails();
      await draw();
      document.body.dataset.known = known;
    }
    if (known < look.layers) await sleep(700);
  }
}

const main = document.getElementById("page");
showPage(
  header(["What ", html("span", { class: "model" }, look.model), phrases.title],
    html("p", { class: "quiet" }, facts()), predictions(),
    html("p", { id: "lost", role: "alert", hidden: "" }, LOST),
    (look.notes || []).map((note) => html("p", { class: "quiet note" }, note))),
);
drawLook(main, document);
main.append(html("footer", { class: "quiet" }, html("p", {}, "Keys: ", KEY_NAMES.map((names) =>
  html("span", { class: "key" }, names.slice(0, -1).map((name) => html("kbd", {}, name)), ` ${names.at(-1)}`)))));
if (live) receiveStatistics().catch(showLost);

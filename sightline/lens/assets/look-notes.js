// What one must know of a page's numbers before one reads them, under the title.
document.querySelector("header").append(...(look.notes || []).map((note) => html("p", { class: "quiet note" }, note)));

// The start of every page: its data, which must have the version that these scripts read, and its header.
function readData(id) {
  const data = JSON.parse(document.getElementById(id).textContent);
  if (data.version !== 1) throw new Error(`this page reads version 1, the data say ${data.version}`);
  return data;
}
const report = readData("data");

// Text in which `code` stands between backticks.
const prose = (text) => text.split("`").map((part, i) => (i % 2 ? html("code", {}, part) : part));
const header = (title, ...children) => html("header", {}, html("h1", { tabindex: -1 }, title), ...children);
const lede = (text) => html("p", { class: "lede" }, prose(text));
const list = (kind, sentences) =>
  html("ul", { class: kind }, sentences.map((sentence) => html("li", {}, prose(sentence))));

function showPage(...parts) {
  document.getElementById("page").replaceChildren(...parts.filter(Boolean));
}

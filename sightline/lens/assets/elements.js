// Elements and controls. Data become text nodes and attributes; nothing is parsed as HTML.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...children.flat(Infinity).filter((child) => child !== null));
  return node;
}
const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const range = (n) => Array.from({ length: n }, (_, i) => i);
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const cssColor = (name) => getComputedStyle(document.body).getPropertyValue(name);

// ---- controls --------------------------------------------------------------------------------------------------
function button(attributes, action, ...children) {
  const node = html("button", { type: "button", ...attributes }, ...children);
  node.addEventListener("click", action);
  return node;
}

// Children are options and groups of them.
function selection(attributes, action, ...children) {
  const node = html("select", attributes, ...children);
  node.addEventListener("change", () => action(node.value));
  return node;
}
const option = ([value, text]) => html("option", { value }, text);

// Buttons side by side, one of them pressed; a choice is [name, text, title].
function segments(label, key, choices, action) {
  const buttons = choices.map(([name, text, title = null]) =>
    button({ [`data-${key}`]: name, title }, () => action(name), text));
  return {
    node: html("div", { class: "segments", role: "group", "aria-label": label }, buttons),
    press: (name) => buttons.forEach((node, i) => node.setAttribute("aria-pressed", choices[i][0] === name)),
  };
}

// ---- tables ----------------------------------------------------------------------------------------------------
const headings = (names) => html("tr", {}, names.map((name) => html("th", { scope: "col" }, name)));
const scrollable = (label, table) =>
  html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, table);
const settingsTable = (settings) => html("table", { class: "settings" }, html("tbody", {},
  Object.entries(settings).map(([name, value]) =>
    html("tr", {}, html("th", { scope: "row" }, name), html("td", {}, String(value))))));

const definitions = (kind, rows) =>
  html("dl", { class: kind }, rows.map(([term, text]) => [html("dt", {}, term), html("dd", {}, text)]));

// ---- width, keys and pointer -----------------------------------------------------------------------------------
// Calls draw when the element gets a width and whenever the width changes.
function onWidth(host, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (!host.clientWidth || host.clientWidth === width) return;
    width = host.clientWidth;
    draw(width);
  }).observe(host);
}

// Calls the action of a key, unless the key belongs to a field or, with a modifier, to the browser.
function onKeys(target, actions) {
  target.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(actions, event.key)) return;
    if (event.target.closest("select, input[type=text]")) return;
    event.preventDefault();
    actions[event.key](event);
  });
}

function onPointer(target, show, hide) {
  target.addEventListener("pointermove", show);
  target.addEventListener("pointerdown", show);
  target.addEventListener("pointerleave", hide);
}

// A box beside the pointer, within its host: to the right of x, or to the left where it would not fit.
function tooltip(host, attributes = {}) {
  const node = html("div", { class: "tip", ...attributes });
  const place = (x, y) => {
    const fits = x + 16 + node.offsetWidth <= host.clientWidth;
    node.style.left = `${fits ? x + 16 : Math.max(0, x - 16 - node.offsetWidth)}px`;
    node.style.top = `${Math.max(0, y)}px`;
  };
  return {
    node,
    place,
    hide: () => { node.style.visibility = "hidden"; },
    show(x, y, ...children) {
      node.replaceChildren(...children);
      node.style.visibility = "visible";
      place(x, y);
    },
  };
}

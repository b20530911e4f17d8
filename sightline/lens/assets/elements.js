// Making elements: whatever stands in the data becomes text nodes and attributes, and is never parsed as HTML.
function fill(node, attributes, children) {
  for (const [name, v] of Object.entries(attributes || {})) if (v !== null) node.setAttribute(name, v);
  node.append(...children.flat(Infinity).filter((child) => child !== null));
  return node;
}
const html = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

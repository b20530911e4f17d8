// The page of a look in a notebook's cell, in a frame of its own: its questions go to Python, and the answers to it.
function render({ model, el }) {
  const frame = document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts");
  frame.title = "what a model looks at";
  frame.style.cssText = `width:100%;height:${model.get("height")}px;border:0;resize:vertical;overflow:auto`;
  frame.srcdoc = model.get("page");
  const view = String(Math.random()); // one of several cells that show this widget
  const ask = ({ source, data }) => {
    if (source !== frame.contentWindow || data?.sightline !== 1) return;
    model.send({ view, id: data.id, name: data.name, params: data.params });
  };
  const answer = ({ view: receiver, ...message }, buffers) => {
    if (receiver !== view) return;
    const bytes = buffers?.[0];
    if (bytes) message.bytes = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    frame.contentWindow?.postMessage({ sightline: 1, ...message }, "*", bytes ? [message.bytes] : []);
  };
  window.addEventListener("message", ask);
  model.on("msg:custom", answer);
  el.append(frame);
  return () => {
    window.removeEventListener("message", ask);
    model.off("msg:custom", answer);
  };
}
export default { render };

// Where a look gets its data: from the page itself, from a server, or from the page around its frame. Each answers
// source.ask(name, params) with bytes: lens/inline.py describes those of the first, lens/page_queries.py the others.
const look = document.getElementById("look") ? readData("look") : report;
const live = Boolean(look.asks); // whether there is somebody to ask; else the page holds everything
if (live && look.asks !== 1) throw new Error(`this page asks in version 1, the data say ${look.asks}`);

const sleep = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

async function askPage(name) {
  const bytes = Uint8Array.from(atob(look.blocks[name]), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).arrayBuffer();
}

async function askServer(name, params = {}, signal = undefined) {
  for (let wait = 200; ; wait = Math.min(2 * wait, 5000)) {
    const answer = await fetch(`ask/${name}?${new URLSearchParams(params)}`, { signal });
    if (answer.ok) return answer.arrayBuffer();
    if (answer.status !== 503) throw new Error(await answer.text());
    await sleep(wait); // the server is busy
  }
}

const waiting = new Map(); // id of a question -> what resolves or rejects its promise
let questions = 0;
function askParent(name, params = {}) {
  return new Promise((resolve, reject) => {
    waiting.set(++questions, [resolve, reject]);
    parent.postMessage({ sightline: 1, id: questions, name, params }, "*");
  });
}
addEventListener("message", ({ source: sender, data }) => {
  if (sender !== parent || data?.sightline !== 1 || !waiting.has(data.id)) return;
  const [resolve, reject] = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error === undefined) resolve(data.bytes);
  else reject(new Error(data.error));
});

const source = {
  ask: { page: askPage, server: askServer, message: askParent }[look.by || "page"],
  has: (name) => !live && Object.hasOwn(look.blocks, name),
  bytes: async (name) => new Uint8Array(await source.ask(name)),
  json: async (name, params) => JSON.parse(new TextDecoder().decode(await source.ask(name, params))),
};

// Says once, on the page, that nobody answers.
function showLost(error) {
  if (error.name === "AbortError") return;
  const line = document.getElementById("lost");
  if (line) line.hidden = false;
  document.body.dataset.lost = error.message;
}

// Where a look gets its data: from the page itself, from a server, or from the page around its frame. Each answers
// source.ask(name, params) with bytes: lens/inline.py describes those of the first, lens/page_queries.py the others.
const look = document.getElementById("look") ? readData("look") : report;
const live = Boolean(look.asks); // whether there is somebody to ask; else the page holds everything
if (live && look.asks !== 1) throw new Error(`this page asks in version 1, the data say ${look.asks}`);

const SOURCES = {
  page: () => ({
    async ask(name) {
      const bytes = Uint8Array.from(atob(look.blocks[name]), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
      return new Response(stream).arrayBuffer();
    },
  }),

  server: () => ({
    async ask(name, params = {}, signal = undefined) {
      for (let wait = 200; ; wait = Math.min(2 * wait, 5000)) {
        const answer = await fetch(`ask/${name}?${new URLSearchParams(params)}`, { signal });
        if (answer.ok) return answer.arrayBuffer();
        if (answer.status !== 503) throw new Error(await answer.text());
        await sleep(wait); // the server is busy
      }
    },
  }),

  message: () => {
    const waiting = new Map();
    let last = 0;
    addEventListener("message", ({ source: sender, data }) => {
      if (sender !== parent || data?.sightline !== 1 || !waiting.has(data.id)) return;
      const [resolve, reject] = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.error === undefined) resolve(data.bytes);
      else reject(new Error(data.error));
    });
    return {
      ask: (name, params = {}) => new Promise((resolve, reject) => {
        waiting.set(++last, [resolve, reject]);
        parent.postMessage({ sightline: 1, id: last, name, params }, "*");
      }),
    };
  },
};
const sleep = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });
const source = SOURCES[look.by || "page"]();
source.has = (name) => !live && Object.hasOwn(look.blocks, name);
source.bytes = async (name) => new Uint8Array(await source.ask(name));
source.json = async (name, params) => JSON.parse(new TextDecoder().decode(await source.ask(name, params)));

// Says once, on the page, that nobody answers.
function showLost(error) {
  if (error.name === "AbortError") return;
  const line = document.getElementById("lost");
  if (line) line.hidden = false;
  document.body.dataset.lost = error.message;
}

// Where a page has its data from: itself, a server, or the page around it. To all three the same question is put, `source.ask(name,
// params)`, and each answers with bytes. sightline/lens/inline.py describes the blocks of the first, answers.py the questions of the others.
const look = JSON.parse(document.getElementById("data").textContent);
if (look.page !== "look" || look.version !== 1) throw new Error(`this page reads version 1, the data say ${look.version}`);
const asks = Boolean(look.asks); // whether anything can be asked; else all there is stands in the page
if (asks && look.asks !== 1) throw new Error(`this page asks in version 1, the data say ${look.asks}`);
if (!asks && typeof DecompressionStream === "undefined") {
  document.getElementById("page").textContent = "This page unpacks its numbers with what browsers have since 2023; open it in a newer one.";
  throw new Error("no DecompressionStream");
}

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
        await new Promise((done) => { setTimeout(done, wait); }); // too much is asked at once
      }
    },
  }),

  message: () => {
    const waiting = new Map();
    let last = 0;
    addEventListener("message", ({ source: from, data }) => {
      if (from !== parent || data?.sightline !== 1 || !waiting.has(data.id)) return;
      const [done, failed] = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.error === undefined) done(data.bytes);
      else failed(new Error(data.error));
    });
    return {
      ask: (name, params = {}) => new Promise((done, failed) => {
        waiting.set(++last, [done, failed]);
        parent.postMessage({ sightline: 1, id: last, name, params }, "*");
      }),
    };
  },
};
const source = SOURCES[look.by || "page"]();
source.has = (name) => !asks && Object.hasOwn(look.blocks, name);
source.bytes = async (name) => new Uint8Array(await source.ask(name));
source.json = async (name, params) => JSON.parse(new TextDecoder().decode(await source.ask(name, params)));

// What is asked for in vain is said once, on the page.
function lost(error) {
  if (error.name === "AbortError") return;
  const line = document.getElementById("lost");
  if (line) line.hidden = false;
  document.body.dataset.lost = error.message;
}

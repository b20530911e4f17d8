// Ten claims and their verdicts: all at a glance first, then each with its pictures, tables, rule and what is missing.
// Everything enters the document as text nodes or attributes; nothing is ever parsed as HTML.
const report = JSON.parse(document.getElementById("data").textContent);
if (report.version !== 1) throw new Error(`this page reads version 1, the data say ${report.version}`);
const { claims } = report;

// ---- verdicts ----------------------------------------------------------------------------------------------------------
const SHAPES = { // each verdict has a form of its own, so that no colour is needed to tell them apart
  "holds": () => [svg("circle", { cx: 10, cy: 10, r: 9 }), svg("path", { class: "cut", d: "M5.6 10.4l3 3L14.6 7" })],
  "holds when": () => [svg("path", { class: "rim", d: "M10 1.6L18.4 10 10 18.4 1.6 10z" }), svg("path", { d: "M10 1.6V18.4L1.6 10z" })],
  "does not hold": () => [svg("rect", { x: 1.5, y: 1.5, width: 17, height: 17, rx: 2 }), svg("path", { class: "cut", d: "M6.2 6.2l7.6 7.6M13.8 6.2l-7.6 7.6" })],
  "not settled": () => [svg("circle", { class: "rim", cx: 10, cy: 10, r: 8 }), svg("line", { x1: 6, y1: 10, x2: 14, y2: 10 })],
  "not run": () => [svg("circle", { class: "rim dashed", cx: 10, cy: 10, r: 8 })],
};
const known = (verdict) => (Object.hasOwn(SHAPES, verdict) ? verdict : "not run");
const mark = (verdict) => svg("svg", { class: "mark", viewBox: "0 0 20 20", "aria-hidden": "true" }, SHAPES[known(verdict)]());
const badge = (verdict) => html("span", { class: "badge", "data-verdict": known(verdict) }, mark(verdict), html("span", {}, verdict));

// ---- words -------------------------------------------------------------------------------------------------------------
const lasted = (s) => (s < 120 ? `${+s.toPrecision(3)} s` : s < 7200 ? `${(s / 60).toFixed(0)} min` : `${(s / 3600).toFixed(1)} h`);
const times = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const id = (claim) => `claim-${claim.number}`;
const counted = ({ measured, planned }) => `${measured.toLocaleString("en")} of ${planned.toLocaleString("en")}`;

function stage() {
  if (!claims.some((claim) => claim.cells.measured)) return "Nothing has been run yet.";
  if (report.stage === "quick") return "Quick run: one seed, seconds of training; a full run may find otherwise.";
  return report.gpu ? "Full run, with the larger grid on a GPU, wholly or in part." : "Full run. Not run: the larger grid, which needs a GPU.";
}

function meter({ measured, planned }) {
  const part = planned ? (100 * measured) / planned : 0;
  return html("span", { class: "meter", "aria-hidden": "true" }, html("span", { style: `width:${part.toFixed(1)}%` }));
}

// ---- the first screen --------------------------------------------------------------------------------------------------
function overview() {
  const tally = report.verdicts.map((verdict) => ({ verdict, n: claims.filter((claim) => claim.verdict === verdict).length })).filter(({ n }) => n);
  const row = (claim) => html("li", {}, html("a", { class: "verdict", href: `#${id(claim)}`, "data-verdict": known(claim.verdict) },
    html("span", { class: "no" }, String(claim.number)), html("span", { class: "title" }, prose(claim.title)), badge(claim.verdict),
    html("span", { class: "why" }, prose(claim.said[0] || "")),
    html("span", { class: "done" }, meter(claim.cells), html("span", {}, counted(claim.cells)))));
  return html("section", { id: "verdicts" },
    html("header", {}, html("h1", { tabindex: -1 }, report.title), report.about.map((text, i) => html("p", { class: i ? "quiet" : "lede" }, prose(text)))),
    html("ul", { class: "tally" }, tally.map(({ verdict, n }) => html("li", { "data-verdict": known(verdict) }, mark(verdict), html("b", {}, String(n)), html("span", {}, verdict))),
      html("li", { class: "stage" }, stage())),
    html("ol", { class: "verdicts" }, claims.map(row)),
    html("p", { class: "quiet foot" }, "The bar of each claim: measurements run of those planned. ", html("span", { class: "keyhint" }, html("kbd", {}, "J"), " ", html("kbd", {}, "K"), " or ", html("kbd", {}, "←"), " ", html("kbd", {}, "→"), " go from claim to claim.")));
}

// ---- one claim ---------------------------------------------------------------------------------------------------------
function missing({ left_out: entries, cells: { measured, planned } }) {
  if (!entries.length) return null;
  const list = entries.map(({ why, what }) => [html("dt", {}, /\bGPU\b/.test(why) ? html("span", { class: "chip" }, "GPU") : null, why[0].toUpperCase() + why.slice(1)),
    html("dd", {}, what.map(({ group, missing: n, planned: of }, i) => [i ? ", " : null, html("b", {}, group), ` ${n} of ${of}`]))]);
  return html("aside", { class: "missing" }, html("p", {}, mark("not run"), html("b", {}, `Not run: ${times(planned - measured, "measurement", "measurements")} of ${planned.toLocaleString("en")}`)),
    html("dl", {}, list));
}

function follows(claim) {
  const rows = [
    ["Measured", prose(claim.measured)],
    ["Rule", prose(claim.rule)],
    ["Run", [`${times(claim.cells.measured, "measurement", "measurements")} of ${claim.cells.planned.toLocaleString("en")} planned`, claim.cells.measured ? `, in ${lasted(claim.seconds)}` : ""]],
    ["Again", html("code", {}, claim.command)],
    ["Sources", html("ul", {}, claim.sources.map((source) => html("li", {}, prose(source))))],
  ];
  return html("dl", { class: "follows" }, rows.map(([name, what]) => [html("dt", {}, name), html("dd", {}, what)]));
}

function shown(claim, i) {
  const [first, ...said] = claim.said;
  const pictures = claim.pictures.map(picture);
  const beside = 1 + Math.floor(said.join("").length / 700); // as many as are about as tall as the sentences
  const [lead, more] = [pictures.slice(0, beside), pictures.slice(beside)];
  const sentences = said.length ? html("ul", { class: "said" }, said.map((text) => html("li", {}, prose(text)))) : null;
  return html("section", { class: "claim", id: id(claim), "data-verdict": known(claim.verdict) },
    html("p", { class: "no" }, `Claim ${claim.number} of ${claims.length}`),
    html("h2", { tabindex: -1 }, prose(claim.title)),
    html("blockquote", {}, prose(claim.says)),
    html("div", { class: "answer" }, badge(claim.verdict), html("p", {}, prose(first || ""))),
    lead.length ? html("div", { class: sentences ? "sight" : "sight alone" }, html("div", { class: "lead" }, lead), sentences) : sentences,
    more.length ? html("div", { class: "pictures" }, more) : null,
    missing(claim),
    claim.tables.length ? html("div", { class: "tables" }, claim.tables.map((one) => table(one, !lead.length && claim.tables.length === 1))) : null,
    follows(claim));
}

function method() {
  const pairs = (values) => html("table", { class: "settings" }, html("tbody", {},
    Object.entries(values).map(([name, v]) => html("tr", {}, html("th", { scope: "row" }, name), html("td", {}, String(v))))));
  return html("section", { id: "method" }, html("h2", {}, "How it was measured"),
    html("ul", { class: "said" }, report.protocol.map((text) => html("li", {}, prose(text)))),
    html("p", {}, "All of it again: ", html("code", {}, report.command)),
    report.machines.map((machine) => html("div", { class: "scroll" }, pairs(machine))));
}

// ---- the page ----------------------------------------------------------------------------------------------------------
const bar = html("nav", { "aria-label": "claims" }, html("a", { href: "#verdicts", "aria-label": "all verdicts" }, "all"),
  claims.map((claim) => html("a", { href: `#${id(claim)}`, "data-verdict": known(claim.verdict), title: claim.title, "aria-label": `claim ${claim.number}: ${claim.verdict}` },
    mark(claim.verdict), html("span", {}, String(claim.number)))));
const screens = [overview(), ...claims.map(shown)];
document.getElementById("page").replaceChildren(...screens, method());
document.body.prepend(bar);

const here = () => screens.findLastIndex((screen) => screen.getBoundingClientRect().top <= 120);
const follow = () => [...bar.children].forEach((link, i) => (i === here() ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
addEventListener("scroll", follow, { passive: true });

function go(i) {
  const screen = screens[Math.min(Math.max(i, 0), screens.length - 1)];
  location.hash = screen.id;
  screen.scrollIntoView();
  screen.querySelector("h1, h2").focus({ preventScroll: true });
}
const WAYS = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 };
addEventListener("keydown", (event) => {
  const way = WAYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  const scrolls = event.key.length > 1 && event.target.closest(".scroll");
  if (!way || scrolls || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  event.preventDefault();
  go(Math.max(here(), 0) + way);
});

// Paper has no folds.
let folded = [];
addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; for (const one of folded) one.open = true; });
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });

// The pictures take their room first, so that a link to a claim lands on it.
requestAnimationFrame(() => requestAnimationFrame(() => {
  const asked = screens.find((screen) => `#${screen.id}` === location.hash);
  if (asked) asked.scrollIntoView();
  follow();
  document.body.dataset.drawn = "yes";
}));

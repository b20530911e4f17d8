// Ten claims and their verdicts: all at a glance, then each with its pictures, tables, rule and what is missing.
const { claims } = report;

// ---- verdicts --------------------------------------------------------------------------------------------------
const circle = (attributes) => svg("circle", { cx: 10, cy: 10, ...attributes });
const path = (kind, d) => svg("path", { class: kind, d });
const SHAPES = { // each verdict has a form of its own, so that colour is not the only difference
  holds: () => [circle({ r: 9 }), path("cut", "M5.6 10.4l3 3L14.6 7")],
  "holds when": () => [path("rim", "M10 1.6L18.4 10 10 18.4 1.6 10z"), path(null, "M10 1.6V18.4L1.6 10z")],
  "does not hold": () => [svg("rect", { x: 1.5, y: 1.5, width: 17, height: 17, rx: 2 }),
    path("cut", "M6.2 6.2l7.6 7.6M13.8 6.2l-7.6 7.6")],
  "not settled": () => [circle({ class: "rim", r: 8 }), svg("line", { x1: 6, y1: 10, x2: 14, y2: 10 })],
  "not run": () => [circle({ class: "rim dashed", r: 8 })],
};
const known = (verdict) => (Object.hasOwn(SHAPES, verdict) ? verdict : "not run");
const mark = (verdict) =>
  svg("svg", { class: "mark", viewBox: "0 0 20 20", "aria-hidden": "true" }, SHAPES[known(verdict)]());
const badge = (verdict) =>
  html("span", { class: "badge", "data-verdict": known(verdict) }, mark(verdict), html("span", {}, verdict));

// ---- words -----------------------------------------------------------------------------------------------------
function duration(s) {
  return s < 120 ? `${+s.toPrecision(3)} s` : s < 7200 ? `${(s / 60).toFixed(0)} min` : `${(s / 3600).toFixed(1)} h`;
}
const id = (claim) => `claim-${claim.number}`;

function stage() {
  if (!claims.some((claim) => claim.cells.measured)) return "Nothing has been run yet.";
  if (report.stage === "quick") return "Quick run: one seed, seconds of training; a full run may find otherwise.";
  return report.gpu ? "Full run, with the larger grid on a GPU, wholly or in part."
    : "Full run. Not run: the larger grid, which needs a GPU.";
}

function meter({ measured, planned }) {
  const part = planned ? (100 * measured) / planned : 0;
  return html("span", { class: "meter", "aria-hidden": "true" }, html("span", { style: `width:${part.toFixed(1)}%` }));
}

// ---- the first screen ------------------------------------------------------------------------------------------
function verdictRow(claim) {
  const { measured, planned } = claim.cells;
  const link = { class: "verdict", href: `#${id(claim)}`, "data-verdict": known(claim.verdict) };
  return html("li", {}, html("a", link,
    html("span", { class: "no" }, String(claim.number)), html("span", { class: "title" }, prose(claim.title)),
    badge(claim.verdict), html("span", { class: "why" }, prose(claim.said[0] || "")),
    html("span", { class: "done" },
      meter(claim.cells), html("span", {}, `${grouped(measured)} of ${grouped(planned)}`))));
}

function overview() {
  const tally = report.verdicts
    .map((verdict) => ({ verdict, n: claims.filter((claim) => claim.verdict === verdict).length }))
    .filter(({ n }) => n);
  const keys = (names) => names.map((name) => [html("kbd", {}, name), " "]);
  const [first, ...others] = report.about;
  return html("section", { id: "verdicts" },
    header(report.title, lede(first || ""), others.map((text) => html("p", { class: "quiet" }, prose(text)))),
    html("ul", { class: "tally" }, tally.map(({ verdict, n }) => html("li", { "data-verdict": known(verdict) },
      mark(verdict), html("b", {}, String(n)), html("span", {}, verdict))), html("li", { class: "stage" }, stage())),
    html("ol", { class: "verdicts" }, claims.map(verdictRow)),
    html("p", { class: "quiet foot" }, "The bar of each claim: measurements run of those planned. ",
      html("span", { class: "keyhint" }, keys(["J", "K"]), "or ", keys(["←", "→"]), "go from claim to claim.")));
}

// ---- one claim -------------------------------------------------------------------------------------------------
function missing({ left_out: entries, cells: { measured, planned } }) {
  if (!entries.length) return null;
  const isGpu = (why) => /\bGPU\b/.test(why);
  const list = entries.map(({ why, what }) => [
    html("dt", {}, isGpu(why) ? html("span", { class: "chip" }, "GPU") : null, capital(why)),
    html("dd", {}, what.map(({ group, missing: n, planned: of }, i) =>
      [i ? ", " : null, html("b", {}, group), ` ${n} of ${of}`])),
  ]);
  const title = `Not run: ${counted(planned - measured, "measurement")} of ${grouped(planned)}`;
  return html("aside", { class: "missing" },
    html("p", {}, mark("not run"), html("b", {}, title)), html("dl", {}, list));
}

function details(claim) {
  const { measured, planned } = claim.cells;
  const run = `${counted(measured, "measurement")} of ${grouped(planned)} planned`;
  const rows = [
    ["Measured", prose(claim.measured)],
    ["Rule", prose(claim.rule)],
    ["Run", measured ? `${run}, in ${duration(claim.seconds)}` : run],
    ["Again", html("code", {}, claim.command)],
    ["Sources", html("ul", {}, claim.sources.map((source) => html("li", {}, prose(source))))],
  ];
  return definitions("follows", rows);
}

function screenOf(claim) {
  const [first, ...others] = claim.said;
  const pictures = claim.pictures.map(pictureOf);
  const beside = 1 + Math.floor(others.join("").length / 700); // as many as are about as tall as the sentences
  const [lead, more] = [pictures.slice(0, beside), pictures.slice(beside)];
  const sentences = others.length ? list("sentences", others) : null;
  const openTable = !lead.length && claim.tables.length === 1;
  return html("section", { class: "claim", id: id(claim), "data-verdict": known(claim.verdict) },
    html("p", { class: "no" }, `Claim ${claim.number} of ${claims.length}`),
    html("h2", { tabindex: -1 }, prose(claim.title)),
    html("blockquote", {}, prose(claim.says)),
    html("div", { class: "answer" }, badge(claim.verdict), html("p", {}, prose(first || ""))),
    lead.length
      ? html("div", { class: sentences ? "sight" : "sight alone" }, html("div", { class: "lead" }, lead), sentences)
      : sentences,
    more.length ? html("div", { class: "pictures" }, more) : null,
    missing(claim),
    claim.tables.length
      ? html("div", { class: "tables" }, claim.tables.map((one) => tableOf(one, openTable))) : null,
    details(claim));
}

function method() {
  return html("section", { id: "method" }, html("h2", {}, "How it was measured"), list("sentences", report.protocol),
    html("p", {}, "All of it again: ", html("code", {}, report.command)),
    report.machines.map((machine) => html("div", { class: "scroll" }, settingsTable(machine))));
}

// ---- the page --------------------------------------------------------------------------------------------------
const claimLink = (claim) => html("a", {
  href: `#${id(claim)}`, "data-verdict": known(claim.verdict), title: claim.title,
  "aria-label": `claim ${claim.number}: ${claim.verdict}`,
}, mark(claim.verdict), html("span", {}, String(claim.number)));
const bar = html("nav", { "aria-label": "claims" },
  html("a", { href: "#verdicts", "aria-label": "all verdicts" }, "all"), claims.map(claimLink));
const screens = [overview(), ...claims.map(screenOf)];
showPage(...screens, method());
document.body.prepend(bar);

const visibleScreen = () => screens.findLastIndex((screen) => screen.getBoundingClientRect().top <= 120);
function markVisible() {
  const visible = visibleScreen();
  [...bar.children].forEach((link, i) => (
    i === visible ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
}
addEventListener("scroll", markVisible, { passive: true });

function go(by) {
  const screen = screens[Math.min(Math.max(visibleScreen(), 0) + by, screens.length - 1)] || screens[0];
  location.hash = screen.id;
  screen.scrollIntoView();
  screen.querySelector("h1, h2").focus({ preventScroll: true });
}
const STEPS = { j: 1, J: 1, ArrowRight: 1, k: -1, K: -1, ArrowLeft: -1 };
addEventListener("keydown", (event) => {
  const scrolls = event.key.length > 1 && event.target.closest(".scroll"); // arrows move a wide table
  const modified = event.ctrlKey || event.metaKey || event.altKey || event.shiftKey;
  if (!Object.hasOwn(STEPS, event.key) || scrolls || modified) return;
  event.preventDefault();
  go(STEPS[event.key]);
});

// On paper everything is unfolded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });

// The pictures take their room first, so that a link to a claim leads to it.
requestAnimationFrame(() => requestAnimationFrame(() => {
  screens.find((screen) => `#${screen.id}` === location.hash)?.scrollIntoView();
  markVisible();
  document.body.dataset.drawn = "yes";
}));

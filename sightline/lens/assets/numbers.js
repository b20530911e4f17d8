// Numbers as text.
const NONE = "–";
const PENDING = "…"; // a number that has not arrived yet

const grouped = (n) => n.toLocaleString("en"); // 12,345
const counted = (n, noun) => `${grouped(n)} ${noun}${n === 1 ? "" : "s"}`;
const digits = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : String(+x.toPrecision(3)));
const count = (x) =>
  x >= 1e6 ? `${digits(x / 1e6)}M` : x >= 1e4 ? `${digits(x / 1e3)}k` : grouped(Math.round(x));
const decimals = (x) =>
  Number.isNaN(x) ? PENDING : x.toFixed(Math.abs(x) >= 100 ? 0 : Math.abs(x) >= 10 ? 1 : 2);

// Shares: in whole percent, and to a tenth of one.
const percent = (share) =>
  Number.isNaN(share) ? PENDING : share > 0 && share < 0.005 ? "<1%" : `${(100 * share).toFixed(0)}%`;
const tenths = (share) => (share === null || share === undefined ? NONE : `${(100 * share).toFixed(1)}%`);
const percentTick = (share) => String(+(100 * share).toPrecision(3)); // on an axis whose name says %

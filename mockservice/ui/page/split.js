// The split: each lane's share with its confidence interval, the expected share and the history.

import { byId, drawn, element, percent, setText, whole } from "./dom.js";
import { total } from "./tally.js";

// The standard normal quantile for a two-sided 95 % interval.
const Z = 1.96;

// The Wilson score interval of a share.
function interval(seen, requests) {
  if (requests === 0) return [0, 1];
  const share = seen / requests;
  const weight = 1 + Z ** 2 / requests;
  const middle = (share + Z ** 2 / (2 * requests)) / weight;
  const half =
    (Z / weight) * Math.sqrt((share * (1 - share)) / requests + Z ** 2 / (4 * requests ** 2));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

/** Return weights as shares, by lane. */
export function sharesOf(weights) {
  if (weights === null) return null;
  const known = new Map(Object.entries(weights));
  const sum = total(known);
  return new Map([...known].map(([lane, weight]) => [lane, weight / sum]));
}

const rows = new Map();

/** Show the shares of `lanes`; `colour` returns a lane's class. */
export function showSplit(tally, lanes, expected, colour) {
  const shares = byId("shares");
  for (const [lane, row] of rows) {
    if (!lanes.includes(lane)) {
      row.root.remove();
      rows.delete(lane);
    }
  }
  const now = total(tally.windowByLane);
  const all = total(tally.byLane);
  lanes.forEach((lane, place) => {
    if (!rows.has(lane)) rows.set(lane, newRow(lane));
    const row = rows.get(lane);
    if (shares.children[place] !== row.root) shares.insertBefore(row.root, shares.children[place]);
    row.root.className = `share ${colour(lane)}`;
    const seen = tally.windowByLane.get(lane) ?? 0;
    const [low, high] = interval(seen, now);
    setText(row.now, now === 0 ? "–" : percent(seen / now));
    setText(row.range, now === 0 ? "" : `${(low * 100).toFixed(0)}–${(high * 100).toFixed(0)} %`);
    row.fill.style.width = `${now === 0 ? 0 : (seen / now) * 100}%`;
    row.band.style.left = `${low * 100}%`;
    row.band.style.width = `${(high - low) * 100}%`;
    row.band.hidden = now === 0;
    const seenEver = tally.byLane.get(lane) ?? 0;
    setText(row.all, all === 0 ? "–" : `${percent(seenEver / all)} of all ${whole(all)}`);
    const share = expected === null ? null : (expected.get(lane) ?? 0);
    row.tick.hidden = share === null;
    if (share !== null) row.tick.style.left = `${share * 100}%`;
    setText(row.expected, share === null ? "" : `expected ${percent(share)}`);
  });
}

/** Draw the history of the shares. */
export function showHistory(tally, lanes, colour) {
  byId("history").setAttribute("viewBox", `0 0 ${Math.max(60, tally.samples.length) - 1} 100`);
  const lines = lanes.flatMap((lane) => [
    line(tally, (sample) => sample.expected && (sample.expected.get(lane) ?? 0), "expected", lane),
    line(tally, (sample) => sample.shares.get(lane) ?? (sample.shares.size ? 0 : null), "", lane),
  ]);
  function line({ samples }, shareOf, kind, lane) {
    let path = "";
    let isDown = false;
    samples.forEach((sample, place) => {
      const share = shareOf(sample);
      if (share !== null) {
        path += `${isDown ? "L" : "M"}${place} ${(98 - share * 96).toFixed(1)}`;
      }
      isDown = share !== null;
    });
    return drawn("path", { d: path, class: `${kind} ${colour(lane)}` });
  }
  byId("history").replaceChildren(...lines);
}

function newRow(lane) {
  const fill = element("div", { className: "fill" });
  const band = element("div", { className: "band" });
  const tick = element("div", { className: "tick" });
  const now = element("strong");
  const range = element("span", { className: "range" });
  const all = element("span", { className: "all" });
  const expected = element("span", { className: "expected" });
  const root = element(
    "div",
    { data: { lane } },
    element("span", { className: "name" }, lane),
    element("div", { className: "bar", ariaHidden: "true" }, fill, band, tick),
    now,
    range,
    expected,
    all,
  );
  return { root, fill, band, tick, now, range, all, expected };
}

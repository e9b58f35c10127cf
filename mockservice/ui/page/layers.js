// The columns of a tree: which apps stand in which column, and in which order.
//
// Each app stands behind all of its callers (a layered graph, as Sugiyama draws it). An edge that
// skips columns has a passage in each of them, so that it runs beside the nodes and not through
// them. The order within a column is the one with the fewest crossings that was found.

const SWEEPS = 8;
const MAX_PASSAGES = 100;

/**
 * Return the columns, each a list of items: `{ app }`, or `{ call }` for a passage.
 *
 * `calls` are `{ from, to }`; `from` is null for calls from the gateway. Of a circle, the call that
 * comes last counts for no column.
 */
export function layersOf(apps, calls) {
  const forward = withoutCircles(calls);
  const depths = depthsOf(apps, forward);
  const columns = [];
  const put = (column, item) => {
    while (columns.length <= column) columns.push([]);
    columns[column].push({ item, before: [], behind: [] });
    return columns[column].at(-1);
  };
  const entries = new Map(apps.map((app) => [app, put(depths.get(app), { app })]));
  let passages = 0;
  for (const call of forward) {
    const { from, to } = call;
    const first = from === null ? 0 : depths.get(from) + 1;
    const last = depths.get(to);
    passages += last - first;
    let before = entries.get(from) ?? null;
    for (let column = first; column <= last; column += 1) {
      // With too many passages, the edges run straight.
      if (column < last && passages > MAX_PASSAGES) continue;
      const entry = column === last ? entries.get(to) : put(column, { call });
      if (before !== null) {
        before.behind.push(entry);
        entry.before.push(before);
      }
      before = entry;
    }
  }
  return sorted(columns).map((column) => column.map(({ item }) => item));
}

function withoutCircles(calls) {
  const behind = new Map();
  return calls.filter(({ from, to }) => {
    if (from === null) return true;
    if (reaches(to, from, behind)) return false;
    behind.set(from, [...(behind.get(from) ?? []), to]);
    return true;
  });
}

function reaches(from, to, behind) {
  const seen = new Set([from]);
  for (const app of seen) {
    if (app === to) return true;
    for (const next of behind.get(app) ?? []) seen.add(next);
  }
  return false;
}

// The length of the longest way from the gateway to each app.
function depthsOf(apps, calls) {
  const depths = new Map(apps.map((app) => [app, 0]));
  for (let round = 0; round < apps.length; round += 1) {
    let isDone = true;
    for (const { from, to } of calls) {
      if (from === null || depths.get(to) > depths.get(from)) continue;
      depths.set(to, depths.get(from) + 1);
      isDone = false;
    }
    if (isDone) break;
  }
  return depths;
}

// Each sweep puts the items of a column in the order of their neighbours in the one before or
// behind it (the barycenter method).
function sorted(columns) {
  let best = columns;
  let fewest = crossings(columns);
  let current = columns;
  for (let sweep = 0; sweep < SWEEPS && fewest > 0; sweep += 1) {
    const isForward = sweep % 2 === 0;
    current = current.map((column) => [...column]);
    const order = isForward ? current : [...current].reverse();
    const places = new Map();
    for (const column of order) {
      const middles = new Map();
      column.forEach((entry, place) => {
        const neighbours = isForward ? entry.before : entry.behind;
        const known = neighbours.map((one) => places.get(one)).filter((one) => one !== undefined);
        middles.set(entry, known.length > 0 ? mean(known) : (place + 0.5) / column.length);
      });
      column.sort((one, other) => middles.get(one) - middles.get(other));
      column.forEach((entry, place) => places.set(entry, (place + 0.5) / column.length));
    }
    const found = crossings(current);
    if (found < fewest) [best, fewest] = [current, found];
  }
  return best;
}

function mean(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

function crossings(columns) {
  let found = 0;
  columns.slice(1).forEach((column, before) => {
    const places = new Map(columns[before].map((entry, place) => [entry, place]));
    const edges = column.flatMap((entry, to) => entry.before.map((one) => [places.get(one), to]));
    for (const [from, to] of edges) {
      for (const [otherFrom, otherTo] of edges) if (from < otherFrom && to > otherTo) found += 1;
    }
  });
  return found;
}

// Lists of requests: leaks and failures by kind, and the latest requests. A click opens a request.

import { byId, clock, element, milliseconds, setText, whole } from "./dom.js";

// Hops and failures of a chain in a list; the request itself shows them all.
const MAX_IN_LINE = 32;

/** Return the chain of a result in a line, with leaks, fallbacks and failures marked. */
export function chainOf(result) {
  const parts = partsOf(result);
  const chain = element("span", { className: result.isTree ? "chain tree" : "chain" });
  let shown = 0;
  const put = (place) => {
    const parting = parts.get(place) ?? [];
    if (place !== null && parting.length > 0) chain.append(" → ");
    if (parting.length > 1) chain.append("[");
    for (const [branch, { node, place: next }] of parting.entries()) {
      if (branch > 0) chain.append("; ");
      shown += 1;
      if (shown > MAX_IN_LINE) {
        chain.append("…");
        break;
      }
      chain.append(node());
      if (next !== undefined) put(next);
    }
    if (parting.length > 1) chain.append("]");
  };
  put(null);
  return chain;
}

/** Return the same with each branch of a tree in a line of its own. */
export function treeOf(result) {
  const parts = partsOf(result);
  const put = (place, into) => {
    const parting = parts.get(place) ?? [];
    if (place !== null && parting.length > 0) into.append(" → ");
    const list = parting.length > 1 ? element("ul", { className: "branches" }) : null;
    for (const { node, place: next } of parting) {
      const line = list === null ? into : element("li");
      list?.append(line);
      line.append(node());
      if (next !== undefined) put(next, line);
    }
    if (list !== null) into.append(list);
  };
  const tree = element("div", { className: "chain" });
  put(null, tree);
  return tree;
}

// What follows each hop, in call order: hops, with their places, failures and foreign answers. Each
// is a function that makes the node, as a line shows few of many hops.
function partsOf(result) {
  const parts = new Map();
  const put = (caller, part) => parts.set(caller, [...(parts.get(caller) ?? []), part]);
  const { hops, ends, isTree } = result;
  let next = 0;
  for (let place = 0; place <= hops.length; place += 1) {
    for (; next < ends.length && ends[next].at === place; next += 1) {
      const { last, fault } = ends[next];
      if (fault !== null) put(last, { node: () => failureNode(fault) });
      else if (isTree) put(last, { node: () => "not a hop" });
    }
    if (place < hops.length) put(hops[place].caller, { node: () => hopNode(result, place), place });
  }
  return parts;
}

function hopNode({ hops, leaks }, place) {
  const hop = hops[place];
  const className = hop.isLeak ? "leak" : hop.isFallback ? "fallback" : "";
  const title = leaks.find((leak) => leak.place === place)?.text ?? "";
  return element("span", { className, title }, `${hop.app}(${hop.version})`);
}

function failureNode({ status, hop, reason, isOwed }) {
  const text = `${status ?? ""} ${hop}: ${reason}`.trim();
  if (isOwed) return `${text} (its lane has no pods there, so it is to fail)`;
  return element("span", { className: "leak" }, text);
}

/** Return a function that lists kinds of requests with counts; a click opens the latest one. */
export function kindsIn(list, open) {
  const entries = new Map();
  return (kinds) => {
    for (const [key, entry] of entries) {
      if (!kinds.has(key)) {
        entry.root.remove();
        entries.delete(key);
      }
    }
    for (const [key, kind] of kinds) {
      if (!entries.has(key)) {
        const made = newEntry(key, kind.latest);
        entries.set(key, made);
        list.append(made.root);
      }
      const entry = entries.get(key);
      entry.latest = kind.latest;
      setText(entry.text, kind.text);
      setText(entry.count, whole(kind.count));
      setText(entry.time, clock(kind.latest.time));
    }
  };

  function newEntry(key, latest) {
    const entry = {
      latest,
      count: element("span", { className: "count" }),
      time: element("span", { className: "time" }),
      text: element("span", { className: "reason" }),
    };
    const onclick = () => open(entry.latest);
    const button = element("button", { type: "button", onclick });
    button.append(entry.count, chainOf(latest), entry.time, entry.text);
    entry.root = element("li", {}, button);
    return entry;
  }
}

/** Return a function that shows the latest requests, but not while the user picks or views one. */
export function latestIn(list, open) {
  let shown = null;
  return (recent) => {
    const isInUse = list.matches(":hover, :focus-within") || byId("request").open;
    if (recent[0] === shown || (isInUse && recent.length > 0)) return;
    // Entries that are still shown stay as they are.
    const known = recent.indexOf(shown);
    if (known === -1) list.replaceChildren();
    const added = known === -1 ? recent : recent.slice(0, known);
    list.prepend(...added.map(entryOf));
    while (list.children.length > recent.length) list.lastChild.remove();
    shown = recent[0];
  };

  function entryOf(result) {
    const button = element("button", { type: "button", onclick: () => open(result) });
    button.append(
      element("span", { className: "time" }, clock(result.time)),
      chainOf(result),
      element("span", { className: "ms" }, milliseconds(result.ms)),
    );
    return element("li", {}, button);
  }
}

// Lists of requests: leaks and failures by kind, and the latest requests. A click opens a request.

import { byId, clock, element, milliseconds, setText, whole } from "./dom.js";

/** Return the chain of a result, with leaks and fallbacks marked. */
export function chainOf(result) {
  const chain = element("span", { className: "chain" });
  result.hops.forEach((hop, place) => {
    if (place > 0) chain.append(" → ");
    const className = hop.isLeak ? "leak" : hop.isFallback ? "fallback" : "";
    const title = result.leaks.find((leak) => leak.place === place)?.text ?? "";
    chain.append(element("span", { className, title }, `${hop.app}(${hop.version})`));
  });
  if (result.fault !== null) {
    if (result.hops.length > 0) chain.append(" → ");
    const { status, hop, reason, isOwed } = result.fault;
    const text = `${status ?? ""} ${hop}: ${reason}`.trim();
    if (isOwed) chain.append(`${text} (its lane has no pods there, so it is to fail)`);
    else chain.append(element("span", { className: "leak" }, text));
  }
  return chain;
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
    shown = recent[0];
    list.replaceChildren(...recent.map(entryOf));
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

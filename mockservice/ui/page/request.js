// The details of one request: its hops, their times and headers, and a curl command to repeat it.

import { byId, clock, element, milliseconds } from "./dom.js";
import { chainOf, treeOf } from "./lists.js";

const MAX_INDENT = 8;

const dialog = byId("request");
dialog.addEventListener("click", (event) => {
  // A click outside the content.
  if (event.target === dialog) dialog.close();
});

/** Open a result; `traceUrl` is the URL of traces, with `{id}` for the trace id, or null. */
export function openRequest(result, traceUrl) {
  const close = element("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const status = result.status === null ? "no answer" : `status ${result.status}`;
  const facts = [clock(result.time), status, milliseconds(result.ms)];
  if (result.lane !== null) facts.unshift(`lane ${result.lane}`);
  const content = element("div", { className: "content" });
  content.append(
    element("div", { className: "title" }, element("h2", { id: "request-title" }, "Request"), close),
    element("p", { className: "facts" }, facts.join(" · ")),
    result.isTree ? treeOf(result) : element("p", {}, chainOf(result)),
    ...result.leaks.map(({ text }) => element("p", { className: "reason" }, text)),
  );
  content.append(...bodies(result));
  if (result.hops.some((hop) => hop.ms !== null)) content.append(...waterfall(result));
  content.append(...headers(result), ...trace(result, traceUrl), ...repeat(result));
  dialog.replaceChildren(content);
  dialog.showModal();
}

// The answers of upstreams that are not hops.
function bodies({ body, hops, ends, isTree }) {
  const preformatted = (text) => element("pre", { tabIndex: 0 }, text);
  if (!isTree) return body === null ? [] : [preformatted(body)];
  return ends
    .filter((end) => end.body !== null)
    .flatMap((end) => [
      element("p", { className: "facts" }, `answer to ${nameOf(hops[end.last])}, not of a hop:`),
      preformatted(end.body),
    ]);
}

function nameOf(hop) {
  return `${hop.app}(${hop.version})`;
}

function waterfall({ hops, ms, isTree }) {
  const rows = [bar("gateway", 0, ms, hops[0].ms === null ? null : ms - hops[0].ms, ms)];
  const spans = new Map([[null, { start: 0, around: ms, depth: 0 }]]);
  hops.forEach((hop, place) => {
    // A hop reports its duration but not its start: centre it within the hop that called it.
    let { start, around, depth } = spans.get(hop.caller);
    if (hop.ms !== null) {
      start += Math.max(0, around - hop.ms) / 2;
      around = hop.ms;
    }
    spans.set(place, { start, around, depth: depth + 1 });
    const name = hop.fault ? `${nameOf(hop)}, injected: ${hop.fault}` : nameOf(hop);
    rows.push(bar(name, start, hop.ms, hop.ownMs, ms, isTree ? depth : 0));
  });
  return [element("h3", {}, "Time per hop"), element("div", { className: "waterfall" }, ...rows)];
}

function bar(name, start, duration, ownDuration, whole, depth = 0) {
  const fill = element("div", { className: "fill" });
  if (duration !== null) {
    const left = Math.min(99.5, (start / whole) * 100);
    fill.style.left = `${left}%`;
    fill.style.width = `${Math.min(100 - left, Math.max(0.5, (duration / whole) * 100))}%`;
  }
  const time = duration === null ? "not reported" : milliseconds(duration);
  const ownTime = ownDuration === null ? "" : `own ${milliseconds(Math.max(0, ownDuration))}`;
  const title = element("span", { className: "name" }, name);
  // The calls of a tree are indented below their callers.
  title.style.paddingLeft = `${Math.min(depth, MAX_INDENT)}ch`;
  return element(
    "div",
    { className: "row" },
    title,
    element("div", { className: "bar", ariaHidden: "true" }, fill),
    element("span", { className: "ms" }, time),
    element("span", { className: "own" }, ownTime),
  );
}

function headers({ hops, sent }) {
  const values = new Map();
  for (const [name, value] of sent) {
    values.set(name, values.has(name) ? `${values.get(name)},${value}` : value);
  }
  const names = new Set(values.keys());
  for (const hop of hops) for (const name of Object.keys(hop.headers ?? {})) names.add(name);
  const heads = ["header", "sent", ...hops.map(nameOf)];
  const rows = [...names].map((name) => {
    // The hops in whose branch it is missing.
    const gone = new Set();
    const cells = hops.map((hop, place) => {
      const value = own(hop.headers ?? {}, name);
      const loss = own(hop.lost, name);
      if (value === undefined && (gone.has(hop.caller) || loss === "missing")) gone.add(place);
      if (hop.headers === null) return cell("not reported", "unknown");
      if (gone.has(place)) return cell("missing", "leak");
      if (value === undefined) return cell("–", "unknown");
      return loss === "changed" ? cell(`changed: ${value}`, "leak") : cell(value, "");
    });
    const sentValue = values.get(name);
    const sentCell = sentValue === undefined ? cell("–", "unknown") : cell(sentValue, "");
    return element("tr", {}, element("th", { scope: "row" }, name), sentCell, ...cells);
  });
  const table = element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...heads.map(columnHead))),
    element("tbody", {}, ...rows),
  );
  const region = { className: "headers", tabIndex: 0, role: "group", ariaLabel: "Headers received" };
  return [element("h3", {}, "Lane and trace headers received"), element("div", region, table)];
}

// A header may have the name of an inherited property, such as "constructor".
function own(values, name) {
  return Object.hasOwn(values, name) ? values[name] : undefined;
}

function columnHead(text) {
  return element("th", { scope: "col" }, text);
}

function cell(text, className) {
  return element("td", { className, title: text }, text);
}

function trace({ traceId }, traceUrl) {
  if (traceId === null) return [];
  const id = element("code", {}, traceId);
  const url = traceUrl?.replaceAll("{id}", encodeURIComponent(traceId));
  const link = url && element("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, id);
  return [element("h3", {}, "Trace"), element("p", {}, link || id)];
}

function repeat({ curl }) {
  const line = element("pre", { tabIndex: 0 }, curl);
  const copy = element("button", { type: "button" }, "Copy");
  copy.onclick = async () => {
    try {
      await navigator.clipboard.writeText(curl);
      copy.textContent = "Copied";
    } catch {
      // Without access to the clipboard, select the line so that the user can copy it.
      getSelection().selectAllChildren(line);
    }
  };
  return [element("h3", {}, "Repeat this request"), element("div", { className: "curl" }, line, copy)];
}

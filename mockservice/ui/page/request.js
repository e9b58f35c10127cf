// The details of one request: its hops, their times and headers, and a curl command to repeat it.

import { byId, clock, element, milliseconds } from "./dom.js";
import { chainOf } from "./lists.js";

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
    element("p", {}, chainOf(result)),
    ...result.leaks.map(({ text }) => element("p", { className: "reason" }, text)),
  );
  if (result.body !== null) content.append(element("pre", { tabIndex: 0 }, result.body));
  if (result.hops.some((hop) => hop.ms !== null)) content.append(...waterfall(result));
  content.append(...headers(result), ...trace(result, traceUrl), ...repeat(result));
  dialog.replaceChildren(content);
  dialog.showModal();
}

function waterfall({ hops, ms }) {
  const rows = [bar("gateway", 0, ms, hops[0].ms === null ? null : ms - hops[0].ms, ms)];
  let start = 0;
  let around = ms;
  for (const hop of hops) {
    // A hop reports its duration but not its start: centre it within the previous hop.
    if (hop.ms !== null) {
      start += Math.max(0, around - hop.ms) / 2;
      around = hop.ms;
    }
    const name = `${hop.app}(${hop.version})`;
    rows.push(bar(hop.fault ? `${name}, injected: ${hop.fault}` : name, start, hop.ms, hop.ownMs, ms));
  }
  return [element("h3", {}, "Time per hop"), element("div", { className: "waterfall" }, ...rows)];
}

function bar(name, start, duration, ownDuration, whole) {
  const fill = element("div", { className: "fill" });
  if (duration !== null) {
    const left = Math.min(99.5, (start / whole) * 100);
    fill.style.left = `${left}%`;
    fill.style.width = `${Math.min(100 - left, Math.max(0.5, (duration / whole) * 100))}%`;
  }
  const time = duration === null ? "not reported" : milliseconds(duration);
  const ownTime = ownDuration === null ? "" : `own ${milliseconds(Math.max(0, ownDuration))}`;
  return element(
    "div",
    { className: "row" },
    element("span", { className: "name" }, name),
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
  const heads = ["header", "sent", ...hops.map((hop) => `${hop.app}(${hop.version})`)];
  const rows = [...names].map((name) => {
    let isGone = false;
    const cells = hops.map((hop) => {
      const value = own(hop.headers ?? {}, name);
      const loss = own(hop.lost, name);
      isGone = value === undefined && (isGone || loss === "missing");
      if (hop.headers === null) return cell("not reported", "unknown");
      if (isGone) return cell("missing", "leak");
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

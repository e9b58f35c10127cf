// The swimlanes: a table with apps as columns, lanes as rows and pods in the cells, and the
// requests that run through it.

import { byId, drawn, element, percent, setText, whole } from "./dom.js";
import { GATEWAY, total } from "./tally.js";

// The column for failures behind an app whose next app is unknown.
const UNKNOWN = "";
// Milliseconds that a dot needs from the gateway to the last hop.
const TRAVEL = 1100;
const MAX_DOTS = 150;
// Width of an edge, in rem: with no requests and with all requests.
const WIDTHS = [0.1, 0.9];

const table = byId("pods");
const edgesDrawing = byId("edges");
const movingDrawing = byId("moving");
const paths = drawn("g");
const labels = drawn("g");
edgesDrawing.append(paths, labels);
const still = matchMedia("(prefers-reduced-motion: reduce)");

let structure = "";
let nodes = new Map();
let anchors = new Map();
let trails = new Map();
let edges = new Map();
let laneShares = new Map();
// The node at which each failure is shown: a pod of its app and lane, if there is one.
let targets = new Map();
const dots = new Set();

/** Show pods and edges; `colour` returns a lane's class. */
export function showSwimlanes(tally, lanes, colour, isPaused) {
  const cells = cellsOf(tally, lanes);
  const columns = [...tally.apps];
  if ([...cells.values()].some((cell) => cell.app === UNKNOWN)) columns.push(UNKNOWN);
  const wanted = JSON.stringify([columns, lanes, [...cells]]);
  if (wanted !== structure) {
    structure = wanted;
    build(tally, lanes, columns, cells, colour);
    measure();
  }
  update(tally, lanes, isPaused);
  drawEdges(tally, colour);
}

/** Let a dot run along the path of a request. */
export function move(route, colour) {
  if (still.matches || document.hidden || dots.size >= MAX_DOTS || route.steps.length < 2) return;
  const trail = trailOf(route);
  if (trail === null) return;
  const circle = drawn("circle", { class: `dot ${colour(route.lane)}` });
  movingDrawing.append(circle);
  dots.add({ circle, trail, start: performance.now(), isFailed: route.fault !== null });
  if (dots.size === 1) requestAnimationFrame(step);
}

// The pods of each cell, by lane and app, and the failures that have no pod to be shown at.
function cellsOf(tally, lanes) {
  const cells = new Map();
  const cellOf = (lane, app) => {
    const key = JSON.stringify([lane, app]);
    if (!cells.has(key)) cells.set(key, { lane, app, keys: [] });
    return cells.get(key);
  };
  for (const pod of tally.pods.values()) {
    if (lanes.includes(pod.lane)) cellOf(pod.lane, pod.app).keys.push(pod.key);
  }
  targets = new Map();
  for (const { key, app, before, lane } of tally.faults.values()) {
    if (lane === null || !lanes.includes(lane)) continue;
    const { keys } = cellOf(lane, app ?? tally.appBehind(before) ?? UNKNOWN);
    // If there are several pods, take the one whose last answer is oldest.
    const pods = keys.filter((one) => tally.pods.has(one));
    pods.sort((one, other) => tally.pods.get(one).seen - tally.pods.get(other).seen);
    if (pods.length === 0 && keys.length === 0) keys.push(key);
    targets.set(key, pods[0] ?? keys[0]);
  }
  return cells;
}

function build(tally, lanes, columns, cells, colour) {
  nodes = new Map();
  laneShares = new Map();
  const heads = ["lane", "", ...columns.map((app) => (app === UNKNOWN ? "next hop" : app))];
  const rows = lanes.map((lane, place) => {
    const share = element("span", { className: "share-of" });
    laneShares.set(lane, share);
    const name = element("span", { className: "name", title: lane }, lane);
    const row = element("tr", { className: colour(lane) });
    row.append(element("th", { scope: "row" }, name, share));
    if (place === 0) row.append(gatewayCell(lanes.length));
    for (const app of columns) {
      const keys = cells.get(JSON.stringify([lane, app]))?.keys ?? [];
      row.append(element("td", {}, ...keys.map((key) => newNode(key, tally.pods.get(key)))));
    }
    return row;
  });
  if (rows.length === 0) {
    rows.push(element("tr", {}, element("td"), gatewayCell(1), element("td")));
    heads.push("");
  }
  const named = heads.map((text) => element("th", { scope: "col", title: text }, text));
  table.replaceChildren(
    element("thead", {}, element("tr", {}, ...named)),
    element("tbody", {}, ...rows),
  );
}

function gatewayCell(rowSpan) {
  return element("td", { rowSpan, className: "gateway" }, newNode(GATEWAY, null));
}

function newNode(key, pod) {
  const count = element("span", { className: "count" });
  const fault = element("span", { className: "fault-of" });
  const root = element("div", { className: "node" });
  if (key === GATEWAY) root.append(element("strong", {}, GATEWAY));
  if (pod) {
    root.title = `${pod.app} ${pod.version} ${pod.ip}`;
    root.append(element("strong", {}, pod.version), element("span", { className: "ip" }, pod.ip));
  }
  if (!pod && key !== GATEWAY) root.classList.add("only-fault");
  root.append(count, fault);
  nodes.set(key, { root, count, fault });
  return root;
}

function update(tally, lanes, isPaused) {
  const known = total(tally.windowByLane);
  for (const lane of lanes) {
    const share = (tally.windowByLane.get(lane) ?? 0) / known;
    setText(laneShares.get(lane), known === 0 ? "–" : percent(share));
  }
  const failures = new Map();
  for (const { key, count, reason } of tally.faults.values()) {
    const target = shownAt(key);
    failures.set(target, { count: (failures.get(target)?.count ?? 0) + count, reason });
  }
  const passed = tally.passed();
  for (const [key, { root, count, fault }] of nodes) {
    const pod = tally.pods.get(key);
    const failure = failures.get(key);
    if (pod) setText(count, whole(pod.count));
    if (key === GATEWAY) setText(count, whole(tally.requests));
    root.classList.toggle("idle", !isPaused && pod !== undefined && !passed.has(key));
    root.classList.toggle("failed", failure !== undefined);
    setText(fault, failure ? `✕ ${whole(failure.count)} · ${failure.reason}` : "");
    fault.title = fault.textContent;
  }
}

// The positions of the nodes, in pixels within the stage.
function measure() {
  const origin = table.getBoundingClientRect();
  for (const drawing of [edgesDrawing, movingDrawing]) {
    drawing.setAttribute("width", origin.width);
    drawing.setAttribute("height", origin.height);
  }
  anchors = new Map();
  for (const [key, { root }] of nodes) {
    const box = root.getBoundingClientRect();
    anchors.set(key, {
      left: box.left - origin.left,
      right: box.right - origin.left,
      y: box.top - origin.top + box.height / 2,
    });
  }
  trails = new Map();
}

// The key of the node that shows a pod or a failure.
function shownAt(key) {
  return targets.get(key) ?? key;
}

function anchorOf(key) {
  return anchors.get(shownAt(key));
}

function curve(from, to) {
  const reach = Math.max(20, Math.abs(to.left - from.right) / 2);
  return `C${from.right + reach} ${from.y} ${to.left - reach} ${to.y} ${to.left} ${to.y}`;
}

function drawEdges(tally, colour) {
  const shown = [...tally.edges.values()].filter(({ from, to }) => anchorOf(from) && anchorOf(to));
  const keys = new Set(shown.map(({ key }) => key));
  for (const [key, edge] of edges) {
    if (!keys.has(key)) {
      edge.path.remove();
      edge.label.remove();
      edges.delete(key);
    }
  }
  for (const edge of shown) {
    const from = anchorOf(edge.from);
    const to = anchorOf(edge.to);
    if (!edges.has(edge.key)) edges.set(edge.key, newEdge(edge.kind));
    const { path, label } = edges.get(edge.key);
    const share = edge.count / tally.window.length;
    path.setAttribute("d", `M${from.right} ${from.y}${curve(from, to)}`);
    path.style.strokeWidth = `${(WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * share).toFixed(2)}rem`;
    const lane = tally.pods.get(shownAt(edge.to))?.lane ?? null;
    path.setAttribute("class", `edge ${edge.kind} ${colour(lane)}`);
    const at = path.getPointAtLength(path.getTotalLength() * labelPart(edge, shown, from, to));
    label.setAttribute("x", at.x);
    label.setAttribute("y", at.y - 8);
    setText(label, `${(share * 100).toFixed(0)} %`);
  }
}

// Where on an edge its label goes, so that labels do not overlap where edges part, cross or meet.
function labelPart(edge, shown, from, to) {
  const leaving = shown.filter((other) => other.from === edge.from).length;
  const coming = shown.filter((other) => other.to === edge.to).length;
  // It runs beside the edge of successful requests.
  if (edge.kind === "fault" && targets.has(edge.to)) return 0.86;
  if (coming === 1) return leaving === 1 ? 0.5 : 0.72;
  if (leaving === 1) return 0.28;
  return Math.abs(from.y - to.y) < 2 ? 0.5 : 0.26;
}

function newEdge(kind) {
  const made = { path: drawn("path"), label: drawn("text", { class: "weight" }) };
  // Draw leaks and failures above all other edges.
  if (kind === "leak" || kind === "fault") paths.append(made.path);
  else paths.prepend(made.path);
  labels.append(made.label);
  return made;
}

// The path of a request, and the part of it that lies before a leak.
function trailOf({ steps, leak }) {
  const key = `${leak} ${steps.join(" ")}`;
  if (!trails.has(key)) trails.set(key, newTrail(steps, leak));
  return trails.get(key);
}

function newTrail(steps, leak) {
  const points = steps.map(anchorOf);
  if (points.includes(undefined)) return null;
  const pathTo = (end) => {
    let path = `M${points[0].right} ${points[0].y}`;
    for (let place = 1; place <= end; place += 1) {
      path += curve(points[place - 1], points[place]);
      if (place < end) path += `L${points[place].right} ${points[place].y}`;
    }
    return drawn("path", { d: path });
  };
  const path = pathTo(steps.length - 1);
  const length = path.getTotalLength();
  const leaksFrom = leak === null ? null : pathTo(leak - 1).getTotalLength() / length;
  return { path, length, leaksFrom };
}

function step(now) {
  for (const dot of dots) {
    const { circle, trail, start, isFailed } = dot;
    const part = (now - start) / TRAVEL;
    if (part >= 1) {
      circle.remove();
      dots.delete(dot);
      continue;
    }
    const at = trail.path.getPointAtLength(trail.length * part);
    circle.setAttribute("cx", at.x);
    circle.setAttribute("cy", at.y);
    if (trail.leaksFrom !== null && part > trail.leaksFrom) circle.classList.add("leak");
    if (isFailed && part > 0.8) circle.classList.add("leak");
  }
  if (dots.size > 0) requestAnimationFrame(step);
}

new ResizeObserver(measure).observe(table);

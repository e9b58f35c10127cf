// The swimlanes: apps as columns, lanes as rows, pods in them, and requests that run through.

import { byId, drawn, element, percent, setText, whole } from "./dom.js";
import { GATEWAY, total } from "./tally.js";

// The column of failures behind an app of which the next one has not been seen.
const UNKNOWN = "";
// Milliseconds from the gateway to the end of a way.
const TRAVEL = 1100;
const MAX_DOTS = 150;
// Width of an edge, in rem: of none of the requests, and of all.
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
let ways = new Map();
let edges = new Map();
let laneShares = new Map();
// Where a failure is shown: at a pod of its app and lane, if there is one.
let targets = new Map();
const dots = new Set();

/** Show pods and edges; `colour` gives a lane's class. */
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

/** Let a request run along its way. */
export function move(route, colour) {
  if (still.matches || document.hidden || dots.size >= MAX_DOTS || route.steps.length < 2) return;
  const way = wayOf(route);
  if (way === null) return;
  const circle = drawn("circle", { class: `dot ${colour(route.lane)}` });
  movingDrawing.append(circle);
  dots.add({ circle, way, start: performance.now(), isFailed: route.fault !== null });
  if (dots.size === 1) requestAnimationFrame(step);
}

// Which pods stand in which cell, by lane and app, and failures where there is no pod to show them.
function cellsOf(tally, lanes) {
  const cells = new Map();
  const cellOf = (lane, app) => {
    const key = JSON.stringify([lane, app]);
    if (!cells.has(key)) cells.set(key, { lane, app, keys: [] });
    return cells.get(key);
  };
  for (const pod of tally.pods.values()) {
    if (lanes.includes(pod.version)) cellOf(pod.version, pod.app).keys.push(pod.key);
  }
  targets = new Map();
  for (const { key, app, before, lane } of tally.faults.values()) {
    if (lane === null || !lanes.includes(lane)) continue;
    const { keys } = cellOf(lane, app ?? tally.appBehind(before) ?? UNKNOWN);
    // Of several pods the one that has answered least lately.
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

// Where the nodes are, in pixels of the stage.
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
  ways = new Map();
}

// The node of a pod, or of a failure.
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
    const lane = tally.pods.get(shownAt(edge.to))?.version ?? null;
    path.setAttribute("class", `edge ${edge.kind} ${colour(lane)}`);
    const at = path.getPointAtLength(path.getTotalLength() * labelPart(edge, shown, from, to));
    label.setAttribute("x", at.x);
    label.setAttribute("y", at.y - 8);
    setText(label, `${(share * 100).toFixed(0)} %`);
  }
}

// Where on an edge its weight stands: not upon another where edges part, cross or meet.
function labelPart(edge, shown, from, to) {
  const leaving = shown.filter((other) => other.from === edge.from).length;
  const coming = shown.filter((other) => other.to === edge.to).length;
  // It runs beside one that is no failure.
  if (edge.kind === "fault" && targets.has(edge.to)) return 0.86;
  if (coming === 1) return leaving === 1 ? 0.5 : 0.72;
  if (leaving === 1) return 0.28;
  return Math.abs(from.y - to.y) < 2 ? 0.5 : 0.26;
}

function newEdge(kind) {
  const made = { path: drawn("path"), label: drawn("text", { class: "weight" }) };
  // What leaks or fails is not hidden by what does not.
  if (kind === "leak" || kind === "fault") paths.append(made.path);
  else paths.prepend(made.path);
  labels.append(made.label);
  return made;
}

// The whole way of a request, and which part of it lies before a leak.
function wayOf({ steps, leak }) {
  const key = `${leak} ${steps.join(" ")}`;
  if (!ways.has(key)) ways.set(key, newWay(steps, leak));
  return ways.get(key);
}

function newWay(steps, leak) {
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
    const { circle, way, start, isFailed } = dot;
    const part = (now - start) / TRAVEL;
    if (part >= 1) {
      circle.remove();
      dots.delete(dot);
      continue;
    }
    const at = way.path.getPointAtLength(way.length * part);
    circle.setAttribute("cx", at.x);
    circle.setAttribute("cy", at.y);
    if (way.leaksFrom !== null && part > way.leaksFrom) circle.classList.add("leak");
    if (isFailed && part > 0.8) circle.classList.add("leak");
  }
  if (dots.size > 0) requestAnimationFrame(step);
}

new ResizeObserver(measure).observe(table);

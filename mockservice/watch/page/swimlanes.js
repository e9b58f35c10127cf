// The swimlanes: apps as columns, lanes as rows, pods in them, and requests that run through.

import { byId, drawn, element, percent, setText, whole } from "./dom.js";
import { GATEWAY } from "./tally.js";

const TRAVEL = 1100;
const MAX_DOTS = 150;
const IDLE_AFTER = 15_000;
// Width of an edge, in rem: of none of the requests, and of all.
const WIDTHS = [0.1, 0.9];

const table = byId("pods");
const edgesDrawing = byId("edges");
const movingDrawing = byId("moving");
const still = matchMedia("(prefers-reduced-motion: reduce)");

let structure = "";
let nodes = new Map();
let anchors = new Map();
let ways = new Map();
let edges = new Map();
let laneShares = new Map();
const dots = new Set();

/** Show pods and edges; `colour` gives a lane's class. */
export function showSwimlanes(tally, lanes, colour, isPaused) {
  const cells = cellsOf(tally, lanes);
  const wanted = JSON.stringify([tally.apps, lanes, [...cells].map(([key, keys]) => [key, keys])]);
  if (wanted !== structure) {
    structure = wanted;
    build(tally, lanes, cells, colour);
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

// Which pods and faults stand in which cell, by lane and app.
function cellsOf(tally, lanes) {
  const cells = new Map();
  const put = (lane, app, key) => {
    const cell = JSON.stringify([lane, app]);
    if (!cells.has(cell)) cells.set(cell, []);
    cells.get(cell).push(key);
  };
  for (const pod of tally.pods.values()) {
    if (lanes.includes(pod.version)) put(pod.version, pod.app, pod.key);
  }
  for (const fault of tally.faults.values()) {
    if (fault.lane !== null && lanes.includes(fault.lane)) put(fault.lane, fault.app, fault.key);
  }
  return cells;
}

function build(tally, lanes, cells, colour) {
  nodes = new Map();
  laneShares = new Map();
  const columns = [element("th", { scope: "col" }, "lane"), element("th", { scope: "col" })];
  columns.push(...tally.apps.map((app) => element("th", { scope: "col" }, app)));
  const rows = lanes.map((lane, place) => {
    const share = element("span", { className: "share-of" });
    laneShares.set(lane, share);
    const name = element("span", { className: "name" }, lane);
    const row = element("tr", { className: colour(lane) });
    row.append(element("th", { scope: "row" }, name, share));
    if (place === 0) row.append(gatewayCell(lanes.length));
    for (const app of tally.apps) {
      const keys = cells.get(JSON.stringify([lane, app])) ?? [];
      row.append(element("td", {}, ...keys.map((key) => newNode(key, tally.pods.get(key)))));
    }
    return row;
  });
  if (rows.length === 0) rows.push(element("tr", {}, element("td"), gatewayCell(1)));
  table.replaceChildren(
    element("thead", {}, element("tr", {}, ...columns)),
    element("tbody", {}, ...rows),
  );
}

function gatewayCell(rowSpan) {
  return element("td", { rowSpan, className: "gateway" }, newNode(GATEWAY, null));
}

function newNode(key, pod) {
  const parts = { count: element("span", { className: "count" }), fault: element("span") };
  parts.fault.className = "fault-of";
  const root = element("div", { className: "node" });
  if (key === GATEWAY) root.append(element("strong", {}, GATEWAY));
  if (pod) root.append(element("strong", {}, pod.version), element("span", { className: "ip" }, pod.ip));
  if (!pod && key !== GATEWAY) root.classList.add("only-fault");
  root.append(parts.count, parts.fault);
  nodes.set(key, { root, ...parts });
  return root;
}

function update(tally, lanes, isPaused) {
  const now = Date.now();
  const seen = tally.window.length;
  for (const lane of lanes) {
    const share = (tally.windowByLane.get(lane) ?? 0) / (seen || 1);
    setText(laneShares.get(lane), seen === 0 ? "–" : percent(share));
  }
  for (const [key, node] of nodes) {
    const pod = tally.pods.get(key);
    const fault = tally.faults.get(key);
    if (pod) setText(node.count, whole(pod.count));
    if (key === GATEWAY) setText(node.count, whole(tally.requests));
    node.root.classList.toggle("idle", !isPaused && pod !== undefined && now - pod.seen > IDLE_AFTER);
    node.root.classList.toggle("failed", fault !== undefined);
    setText(node.fault, fault ? `✕ ${whole(fault.count)} · ${fault.reason}` : "");
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
  for (const { circle } of dots) circle.remove();
  dots.clear();
}

function curve(from, to) {
  const reach = Math.max(20, Math.abs(to.left - from.right) / 2);
  return `C${from.right + reach} ${from.y} ${to.left - reach} ${to.y} ${to.left} ${to.y}`;
}

function drawEdges(tally, colour) {
  const seen = tally.window.length;
  for (const [key, edge] of edges) {
    if (!tally.edges.has(key)) {
      edge.path.remove();
      edge.label.remove();
      edges.delete(key);
    }
  }
  for (const [key, edge] of tally.edges) {
    const from = anchors.get(edge.from);
    const to = anchors.get(edge.to);
    if (from === undefined || to === undefined) continue;
    if (!edges.has(key)) edges.set(key, newEdge());
    const { path, label } = edges.get(key);
    const share = edge.count / seen;
    const kind = ["leak", "fault", "fallback"].find((one) => edge.kinds.has(one)) ?? "";
    path.setAttribute("d", `M${from.right} ${from.y}${curve(from, to)}`);
    path.style.strokeWidth = `${(WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * share).toFixed(2)}rem`;
    path.setAttribute("class", `edge ${kind} ${colour(tally.pods.get(edge.to)?.version ?? null)}`);
    const at = path.getPointAtLength(path.getTotalLength() * labelPart(edge, from, to));
    label.setAttribute("x", at.x);
    label.setAttribute("y", at.y - 8);
    setText(label, `${(share * 100).toFixed(0)} %`);
  }
}

// Where on an edge its weight stands: none upon another where edges part, cross and meet.
function labelPart(edge, from, to) {
  if (edge.from === GATEWAY) return 0.65;
  return Math.abs(from.y - to.y) < 2 ? 0.5 : 0.24;
}

function newEdge() {
  const made = { path: drawn("path"), label: drawn("text", { class: "weight" }) };
  edgesDrawing.prepend(made.path);
  edgesDrawing.append(made.label);
  return made;
}

// The whole way of a request, and which part of it lies before a leak.
function wayOf({ steps, leak }) {
  const key = `${leak} ${steps.join(" ")}`;
  if (!ways.has(key)) ways.set(key, newWay(steps, leak));
  return ways.get(key);
}

function newWay(steps, leak) {
  const points = steps.map((one) => anchors.get(one));
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
  const leaksFrom = leak === null || leak < 2 ? null : pathTo(leak - 1).getTotalLength() / length;
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

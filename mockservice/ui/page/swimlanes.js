// The swimlanes: a table with lanes as rows, apps as columns and pods in the cells. In a tree
// several apps may share a column; then a cell has a group of pods for each of them.

import { byId, element, percent, setText, whole } from "./dom.js";
import { showEdges } from "./edges.js";
import { layersOf } from "./layers.js";
import { measure, passageKey, setNodes, setTargets } from "./places.js";
import { GATEWAY, total } from "./tally.js";

// The app of failures behind an app whose next app is unknown.
const UNKNOWN = "";
const NEXT_HOP = "next hop";

const table = byId("pods");

let structure = "";
let reasons = "";
let layers = { key: "", columns: [] };
let nodes = new Map();
let laneShares = new Map();

/** Show pods and edges; `colour` returns a lane's class. */
export function showSwimlanes(tally, lanes, colour, isPaused) {
  const { cells, open, targets } = cellsOf(tally, lanes);
  const columns = columnsOf(tally, open);
  const wanted = JSON.stringify([columns, lanes, [...cells], tally.isTree]);
  if (wanted !== structure) {
    structure = wanted;
    build(tally, lanes, columns, cells, colour);
    measure();
  }
  const failed = failuresAt(tally, targets);
  update(tally, lanes, failed, isPaused);
  // The labels of a tree keep clear of the reasons as well.
  const failing = JSON.stringify([...failed.keys()]);
  if (failing !== reasons && tally.isTree) measure();
  reasons = failing;
  setTargets(targets);
  showEdges(tally, colour);
}

// The pods of each cell, by lane and app, and the failures that have no pod to be shown at.
// `open`: the apps behind which the next one is unknown.
// `targets`: the node at which each failure is shown, a pod of its app and lane if there is one.
function cellsOf(tally, lanes) {
  const cells = new Map();
  const open = new Set();
  const cellOf = (lane, app) => {
    const key = JSON.stringify([lane, app]);
    if (!cells.has(key)) cells.set(key, { lane, app, keys: [] });
    return cells.get(key);
  };
  for (const pod of tally.pods.values()) {
    if (lanes.includes(pod.lane)) cellOf(pod.lane, pod.app).keys.push(pod.key);
  }
  const targets = new Map();
  for (const { key, app, before, others, lane } of tally.faults.values()) {
    if (lane === null || !lanes.includes(lane)) continue;
    const behind = app ?? tally.appBehind(before, others) ?? UNKNOWN;
    if (behind === UNKNOWN) open.add(before);
    const { keys } = cellOf(lane, behind);
    // If there are several pods, take the one whose last answer is oldest.
    const pods = keys.filter((one) => tally.pods.has(one));
    pods.sort((one, other) => tally.pods.get(one).seen - tally.pods.get(other).seen);
    if (pods.length === 0 && keys.length === 0) keys.push(key);
    targets.set(key, pods[0] ?? keys[0]);
  }
  return { cells, open, targets };
}

// The columns, each a list of apps and of passages; see `layersOf`.
function columnsOf(tally, open) {
  const apps = open.size > 0 ? [...tally.apps, UNKNOWN] : tally.apps;
  if (!tally.isTree) return apps.map((app) => [{ app }]);
  const calls = [...tally.calls.values()].map(({ from, to }) => ({ from, to }));
  for (const from of open) {
    if (apps.includes(from)) calls.push({ from, to: UNKNOWN });
  }
  const key = JSON.stringify([apps, calls]);
  if (key !== layers.key) layers = { key, columns: layersOf(apps, calls) };
  return layers.columns;
}

function build(tally, lanes, columns, cells, colour) {
  nodes = new Map();
  laneShares = new Map();
  const passages = new Map();
  const keysOf = (lane, app) => cells.get(JSON.stringify([lane, app]))?.keys ?? [];
  const nodesOf = (lane, app) =>
    keysOf(lane, app).map((key) => newNode(key, tally.pods.get(key), app, lane));
  const itemOf = (lane, { app, call }) => {
    if (call === undefined) return newGroup(app, nodesOf(lane, app));
    // Edges run through the lane of their caller.
    if (keysOf(lane, call.from ?? call.to).length === 0) return null;
    return newPassage(passages, lane, call);
  };
  const cellOf = (lane, column) => {
    if (!tally.isTree) return element("td", {}, ...nodesOf(lane, column[0].app));
    const items = column.map((item) => itemOf(lane, item));
    return element("td", {}, element("div", { className: "groups" }, ...items));
  };
  const rows = lanes.map((lane, place) => {
    const share = element("span", { className: "share-of" });
    laneShares.set(lane, share);
    const name = element("span", { className: "name", title: lane }, lane);
    const row = element("tr", { className: colour(lane) });
    row.append(element("th", { scope: "row" }, name, share));
    if (place === 0) row.append(gatewayCell(lanes.length));
    row.append(...columns.map((column) => cellOf(lane, column)));
    return row;
  });
  const heads = ["lane", "", ...columns.map(titleOf)];
  if (rows.length === 0) {
    rows.push(element("tr", {}, element("td"), gatewayCell(1), element("td")));
    heads.push("");
  }
  const named = heads.map((text) =>
    element("th", { scope: "col", title: text }, element("span", {}, text)),
  );
  table.classList.toggle("tree", tally.isTree);
  table.replaceChildren(
    element("thead", {}, element("tr", {}, ...named)),
    element("tbody", {}, ...rows),
  );
  setNodes(nodes, passages);
}

function titleOf(column) {
  return column.filter(({ call }) => call === undefined).map(({ app }) => nameOf(app)).join(", ");
}

function nameOf(app) {
  return app === UNKNOWN ? NEXT_HOP : app;
}

// The pods of an app in a column that it may share with others.
function newGroup(app, pods) {
  if (pods.length === 0) return null;
  const name = element("span", { className: "app", title: nameOf(app) }, nameOf(app));
  return element("div", { className: "group", data: { app } }, name, ...pods);
}

// Room for the edges of a call to run through a column.
function newPassage(passages, lane, call) {
  const key = passageKey(lane, call.from, call.to);
  const root = element("div", { className: "passage" });
  passages.set(key, [...(passages.get(key) ?? []), { root }]);
  return root;
}

function gatewayCell(rowSpan) {
  return element("td", { rowSpan, className: "gateway" }, newNode(GATEWAY, null, null, null));
}

function newNode(key, pod, app, lane) {
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
  const name = key === GATEWAY ? GATEWAY : pod ? `${app} ${pod.version}` : nameOf(app);
  nodes.set(key, { key, root, count, fault, app, lane, name });
  return root;
}

function failuresAt(tally, targets) {
  const failed = new Map();
  for (const { key, count, reason } of tally.faults.values()) {
    const target = targets.get(key) ?? key;
    failed.set(target, { count: (failed.get(target)?.count ?? 0) + count, reason });
  }
  return failed;
}

function update(tally, lanes, failed, isPaused) {
  const known = total(tally.windowByLane);
  for (const lane of lanes) {
    const share = (tally.windowByLane.get(lane) ?? 0) / known;
    setText(laneShares.get(lane), known === 0 ? "–" : percent(share));
  }
  const passed = tally.passed();
  for (const [key, { root, count, fault }] of nodes) {
    const pod = tally.pods.get(key);
    const failure = failed.get(key);
    if (pod) setText(count, whole(pod.count));
    if (key === GATEWAY) setText(count, whole(tally.requests));
    root.classList.toggle("idle", !isPaused && pod !== undefined && !passed.has(key));
    root.classList.toggle("failed", failure !== undefined);
    setText(fault, failure ? `✕ ${whole(failure.count)} · ${failure.reason}` : "");
    fault.title = fault.textContent;
  }
}

new ResizeObserver(measure).observe(table);

// The edges between pods, their shares, and the same in words.

import { byId, drawn, element, setText } from "./dom.js";
import { line, measured, nodeOf, taken, way } from "./places.js";

// Width of an edge, in rem: with no requests and with all requests.
const WIDTHS = [0.1, 0.9];
// Parts of an edge at which its label may stand in a tree, the best ones first.
const PARTS = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.12, 0.88];
// Pixels from an edge up to the line of its label.
const LIFT = 8;
// Of a label, in sizes of its font.
const LABEL_WIDTH = 3.1;
const LABEL_HEIGHT = 0.85;
const LABEL_DEPTH = 0.2;
// Labels of a tree, for each of which a free place is sought.
const MAX_LABELS = 200;
const MAX_TOLD = 100;
const KINDS = { "": "", fallback: ", as a fallback", leak: ", as a leak", fault: ", and fails" };

const paths = drawn("g");
const labels = drawn("g");
byId("edges").append(paths, labels);
const words = byId("calls");

const edges = new Map();
let placed = "";

/** Draw the edges of the shown requests; `colour` returns a lane's class. */
export function showEdges(tally, colour) {
  const shown = [...tally.edges.values()].filter(({ from, to }) => nodeOf(from) && nodeOf(to));
  const keys = new Set(shown.map(({ key }) => key));
  for (const [key, { path, label }] of edges) {
    if (keys.has(key)) continue;
    path.remove();
    label.remove();
    edges.delete(key);
  }
  for (const edge of shown) {
    if (!edges.has(edge.key)) edges.set(edge.key, newEdge(edge.kind));
    const { path, label } = edges.get(edge.key);
    const share = edge.count / tally.window.length;
    path.style.strokeWidth = `${(WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * share).toFixed(2)}rem`;
    path.setAttribute("class", `edge ${edge.kind} ${colour(nodeOf(edge.to).lane)}`);
    setText(label, percentOf(share));
  }
  const ends = shown.map(({ key, to }) => [key, nodeOf(to).key]);
  const wanted = JSON.stringify([measured, tally.isTree, ends]);
  if (wanted !== placed) {
    placed = wanted;
    place(shown, tally.isTree);
  }
  tell(tally, shown);
}

function newEdge(kind) {
  const made = { path: drawn("path"), label: drawn("text", { class: "weight" }) };
  // Draw leaks and failures above all other edges.
  if (isBad(kind)) paths.append(made.path);
  else paths.prepend(made.path);
  labels.append(made.label);
  return made;
}

function isBad(kind) {
  return kind === "leak" || kind === "fault";
}

function percentOf(share) {
  return `${(share * 100).toFixed(0)} %`;
}

// Draw the edges where their nodes stand, and put the labels beside them.
function place(shown, isTree) {
  const leaving = countBy(shown, ({ from }) => from);
  const coming = countBy(shown, ({ to }) => to);
  const size = parseFloat(getComputedStyle(labels.lastChild ?? labels).fontSize);
  const ways = new Map(shown.map(({ key, from, to }) => [key, way(from, to)]));
  // All edges before the first label: a point of an edge is measured, and whatever is drawn between
  // two measurements makes the browser lay out the page again.
  for (const { key } of shown) edges.get(key).path.setAttribute("d", line(ways.get(key)));
  const boxes = [...taken];
  const points = new Map();
  // The most important labels choose first.
  const sorted = [...shown].sort(
    (one, other) => isBad(other.kind) - isBad(one.kind) || other.count - one.count,
  );
  for (const [rank, edge] of sorted.entries()) {
    const { path } = edges.get(edge.key);
    const boxesOnWay = ways.get(edge.key);
    const best = bestPart(edge, leaving.get(edge.from), coming.get(edge.to), boxesOnWay);
    let at = null;
    if (!isTree) at = path.getPointAtLength(path.getTotalLength() * best);
    else if (rank < MAX_LABELS) at = freePoint(path, best, boxesOnWay, boxes, size);
    points.set(edge.key, at);
    if (at !== null) boxes.push(boxAt(at, size));
  }
  for (const [key, at] of points) {
    const { label } = edges.get(key);
    label.classList.toggle("without-room", at === null);
    if (at === null) continue;
    label.setAttribute("x", at.x);
    label.setAttribute("y", at.y - LIFT);
  }
}

function countBy(items, keyOf) {
  const counts = new Map();
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1);
  return counts;
}

// Where on an edge its label goes, so that labels do not overlap where edges part, cross or meet.
function bestPart(edge, leaving, coming, boxesOnWay) {
  // It runs beside the edge of successful requests.
  if (edge.kind === "fault") return 0.86;
  if (coming === 1) return leaving === 1 ? 0.5 : 0.72;
  if (leaving === 1) return 0.28;
  return Math.abs(boxesOnWay[0].y - boxesOnWay.at(-1).y) < 2 ? 0.5 : 0.26;
}

// In a tree many edges meet: the first point of an edge at which its label has room, or null.
function freePoint(path, best, boxesOnWay, boxes, size) {
  const isFreeAt = (at) => isFree(boxAt(at, size), boxes);
  for (const { left, right, y } of boxesOnWay.slice(1, -1)) {
    const at = { x: (left + right) / 2, y };
    if (isFreeAt(at)) return at;
  }
  const length = path.getTotalLength();
  for (const part of [best, ...PARTS]) {
    const at = path.getPointAtLength(length * part);
    if (isFreeAt(at)) return at;
  }
  return null;
}

// The box of a label of at most `100 %`.
function boxAt({ x, y }, size) {
  return {
    left: x - (LABEL_WIDTH / 2) * size,
    right: x + (LABEL_WIDTH / 2) * size,
    top: y - LIFT - LABEL_HEIGHT * size,
    bottom: y - LIFT + LABEL_DEPTH * size,
  };
}

function isFree(box, boxes) {
  return boxes.every(
    ({ left, right, top, bottom }) =>
      box.right < left || box.left > right || box.bottom < top || box.top > bottom,
  );
}

// Tell the edges in words, those of different pods of a version as one.
function tell(tally, shown) {
  const counts = new Map();
  for (const { from, to, kind, count } of shown) {
    const key = JSON.stringify([nodeOf(from).name, nodeOf(to).name, kind]);
    counts.set(key, (counts.get(key) ?? 0) + count);
  }
  const told = [...counts].sort(([, one], [, other]) => other - one).slice(0, MAX_TOLD);
  const texts = told.map(([key, count]) => {
    const [from, to, kind] = JSON.parse(key);
    const share = percentOf(Math.min(1, count / tally.window.length));
    return `${from} calls ${to} in ${share} of the shown requests${KINDS[kind]}`;
  });
  while (words.children.length > texts.length) words.lastChild.remove();
  while (words.children.length < texts.length) words.append(element("li"));
  texts.forEach((text, place) => setText(words.children[place], text));
}

// The places of nodes and passages, in pixels within the stage, and the lines between them.

import { byId } from "./dom.js";

const table = byId("pods");
const drawings = [byId("edges"), byId("moving")];

let nodes = new Map();
let passages = new Map();
let targets = new Map();

/** The boxes that labels keep clear of, with left, right, top and bottom. */
export let taken = [];
/** The number of measurements so far; what was drawn at an earlier one is out of date. */
export let measured = 0;

/** Set the nodes, and the passages of each call in each lane, from left to right. */
export function setNodes(newNodes, newPassages) {
  nodes = newNodes;
  passages = newPassages;
}

/** Set the node at which each failure is shown. */
export function setTargets(newTargets) {
  targets = newTargets;
}

/** Return the key of a call's passages in a lane; `from` is null for calls from the gateway. */
export function passageKey(lane, from, to) {
  return JSON.stringify([lane, from, to]);
}

/** Measure all boxes. */
export function measure() {
  const origin = table.getBoundingClientRect();
  for (const drawing of drawings) {
    drawing.setAttribute("width", origin.width);
    drawing.setAttribute("height", origin.height);
  }
  const boxOf = (root) => {
    const { left, right, top, bottom } = root.getBoundingClientRect();
    const y = (top + bottom) / 2 - origin.top;
    return {
      left: left - origin.left,
      right: right - origin.left,
      top: top - origin.top,
      bottom: bottom - origin.top,
      y,
    };
  };
  for (const place of [...nodes.values(), ...[...passages.values()].flat()]) {
    place.box = boxOf(place.root);
  }
  taken = [...nodes.values()].map(({ box }) => box);
  taken.push(...[...table.querySelectorAll(".app, .fault-of:not(:empty)")].map(boxOf));
  measured += 1;
}

/** Return the node that shows a pod or a failure. */
export function nodeOf(key) {
  return nodes.get(targets.get(key) ?? key);
}

/** Return the boxes that an edge leads through, the nodes at its ends included, or null. */
export function way(from, to) {
  const [first, last] = [nodeOf(from), nodeOf(to)];
  if (first === undefined || last === undefined) return null;
  const between = passages.get(passageKey(first.lane ?? last.lane, first.app, last.app)) ?? [];
  return [first, ...between, last].map(({ box }) => box);
}

/** Return the path through boxes, from the right of the first one to the left of the last one. */
export function line([first, ...others]) {
  let path = `M${first.right} ${first.y}`;
  others.forEach((to, place) => {
    const from = place === 0 ? first : others[place - 1];
    if (place > 0) path += `L${from.right} ${from.y}`;
    path += curve(from, to);
  });
  return path;
}

function curve(from, to) {
  const reach = Math.max(20, Math.abs(to.left - from.right) / 2);
  return `C${from.right + reach} ${from.y} ${to.left - reach} ${to.y} ${to.left} ${to.y}`;
}

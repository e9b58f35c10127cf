// The dots: each request on its way, with a dot for each branch from where it leaves the others.

import { byId, drawn } from "./dom.js";
import { line, measured, way } from "./places.js";

// Milliseconds that a dot needs from the gateway to the last hop of the longest branch.
const TRAVEL = 1100;
const MAX_DOTS = 150;
const MAX_BRANCHES = 16;
const MAX_TRAILS = 500;

const drawing = byId("moving");
const still = matchMedia("(prefers-reduced-motion: reduce)");

let trails = new Map();
let known = 0;
const dots = new Set();

/** Let dots run along the branches of a request; `colour` returns a lane's class. */
export function move(route, colour) {
  if (still.matches || document.hidden || dots.size >= MAX_DOTS || route.steps.length < 2) return;
  if (known !== measured || trails.size >= MAX_TRAILS) trails = new Map();
  known = measured;
  const found = branchesOf(route.steps).map(trailOf).filter((trail) => trail !== null);
  const longest = Math.max(...found.map(({ length }) => length));
  const start = performance.now();
  const isResting = dots.size === 0;
  for (const trail of found) {
    const circle = drawn("circle", { class: `dot ${colour(route.lane)}` });
    dots.add({ circle, trail, start, speed: longest / TRAVEL });
  }
  if (isResting && dots.size > 0) requestAnimationFrame(step);
}

// The steps of each branch, from the gateway to its end; `parted` is the number of those that the
// branches before it share.
function branchesOf(steps) {
  const inner = new Set(steps.map(({ before }) => before));
  const passed = new Set();
  return steps
    .filter((_, place) => !inner.has(place))
    .slice(0, MAX_BRANCHES)
    .map((end) => {
      const branch = [end];
      while (branch[0].before !== null) branch.unshift(steps[branch[0].before]);
      const parted = branch.filter((one) => passed.has(one)).length;
      for (const one of branch) passed.add(one);
      return { branch, parted };
    });
}

// The path of a branch, and at which length of it its dot appears and turns red.
function trailOf({ branch, parted }) {
  const leak = branch.findIndex(({ isLeak }) => isLeak);
  const { isFailed } = branch.at(-1);
  const key = JSON.stringify([parted, leak, isFailed, branch.map((one) => one.key)]);
  if (!trails.has(key)) trails.set(key, newTrail(branch, parted, leak, isFailed));
  return trails.get(key);
}

function newTrail(branch, parted, leak, isFailed) {
  const ways = branch.slice(1).map((one, place) => way(branch[place].key, one.key));
  if (ways.length === 0 || ways.includes(null)) return null;
  // Each way starts at the box where the one before ends.
  const pathTo = (end) => {
    const boxes = ways.slice(0, end).flatMap((one, place) => (place === 0 ? one : one.slice(1)));
    return drawn("path", { d: line(boxes) });
  };
  const lengthTo = (end) => (end < 1 ? 0 : pathTo(end).getTotalLength());
  const path = pathTo(ways.length);
  const length = path.getTotalLength();
  const appearsFrom = lengthTo(parted - 1);
  const leaksFrom = leak === -1 ? Infinity : lengthTo(leak - 1);
  const failsFrom = isFailed ? 0.8 * length : Infinity;
  return { path, length, appearsFrom, turnsRed: Math.min(leaksFrom, failsFrom) };
}

function step(now) {
  for (const dot of dots) {
    const { circle, trail, start, speed } = dot;
    const gone = (now - start) * speed;
    if (gone >= trail.length) {
      circle.remove();
      dots.delete(dot);
      continue;
    }
    if (gone < trail.appearsFrom) continue;
    const at = trail.path.getPointAtLength(gone);
    circle.setAttribute("cx", at.x);
    circle.setAttribute("cy", at.y);
    if (!circle.isConnected) drawing.append(circle);
    if (gone > trail.turnsRed) circle.classList.add("leak");
  }
  if (dots.size > 0) requestAnimationFrame(step);
}

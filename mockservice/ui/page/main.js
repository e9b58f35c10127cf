// The page: counts the results from the stream and shows them a few times per second.

import { readControls } from "./controls.js";
import { byId, element, setText, whole } from "./dom.js";
import { move } from "./dots.js";
import { kindsIn, latestIn } from "./lists.js";
import { openRequest } from "./request.js";
import { sharesOf, showHistory, showSplit } from "./split.js";
import { connect } from "./stream.js";
import { showSwimlanes } from "./swimlanes.js";
import { Tally } from "./tally.js";

const SHOW_EVERY = 250;
const SAMPLE_EVERY = 1000;
const COLOURS = 6;

const tally = new Tally();
const colours = new Map();
const times = [];
let view = null;
let expected = null;
let isConnected = false;
let isPaused = false;
let problem = "";

const send = connect({
  open() {
    isConnected = true;
  },
  lost() {
    isConnected = false;
  },
  view(message) {
    const isFirst = view === null;
    view = message;
    showProblem("");
    showNotes(view.notes);
    expect(view.weights);
    setText(byId("url"), `GET ${view.url}`);
    if (isFirst) readControls(view, control);
  },
  result(message) {
    message.time = Date.now();
    times.push(message.time);
    move(tally.add(message), colour);
  },
  accepted(message) {
    showProblem("");
    expect(message.weights);
  },
  refused(message) {
    showProblem(message.problem);
  },
});

const open = (result) => openRequest(result, view.traceUrl);
const showLeaks = kindsIn(byId("leak-list"), open);
const showFailures = kindsIn(byId("failure-list"), open);
const showLatest = latestIn(byId("request-list"), open);

byId("clear").onclick = () => {
  tally.clear();
  show();
};
setInterval(show, SHOW_EVERY);
setInterval(() => {
  if (!isPaused && isConnected && tally.window.length > 0) tally.sample(expected);
  if (!isPaused && isConnected) tally.forget(Date.now());
}, SAMPLE_EVERY);

function showProblem(text) {
  problem = text;
  setText(byId("problem"), text);
}

function expect(weights) {
  expected = sharesOf(weights);
  for (const lane of [...(expected?.keys() ?? [])].sort()) colour(lane);
}

function showNotes(notes) {
  const items = notes.map(({ text, fails }) => element("li", { className: fails ? "bad" : "" }, text));
  byId("notes").replaceChildren(...items);
}

function control(controls) {
  isPaused = controls.paused;
  tally.lookAt(controls.last);
  send(controls);
}

function show() {
  const { lanes, left } = tally.lanes(expected);
  showSwimlanes(tally, lanes, colour, isPaused);
  const split = lanes.filter((lane) => tally.byLane.has(lane) || expected?.has(lane));
  showSplit(tally, split, expected, colour);
  showHistory(tally, split, colour);
  setText(byId("left"), left === 0 ? "" : `and ${left} more lanes`);
  showLeaks(tally.leaks);
  showFailures(tally.failures);
  showLatest(tally.recent);
  showCount("leak", tally.leakCount);
  showCount("failure", tally.failureCount);
  setText(byId("mixed"), tally.mixedCount === 0 ? "" : mixed(tally.mixedCount));
  setText(byId("request-count"), whole(tally.requests));
  showStatus();
}

function mixed(count) {
  const requests = count === 1 ? "1 request" : `${whole(count)} requests`;
  return `${requests} of several versions: ${view.untold}`;
}

function showCount(kind, count) {
  const output = byId(`${kind}-count`);
  setText(output, whole(count));
  output.classList.toggle("bad", count > 0);
}

function showStatus() {
  const now = Date.now();
  while (times.length > 0 && now - times[0] > 5000) times.shift();
  const { isBad, state, details = state } = stateOf(tally.window);
  byId("status").classList.toggle("bad", isBad);
  setText(byId("status"), details);
  // Screen readers get the state only, not each count.
  setText(byId("spoken"), state);
  setText(byId("pace"), `${(times.length / 5).toFixed(1)}/s`);
}

function stateOf(window) {
  if (problem !== "") return { isBad: true, state: "nothing is sent" };
  if (!isConnected) {
    return { isBad: true, state: "no connection to mockservice ui, trying again" };
  }
  if (isPaused) return { isBad: false, state: "paused" };
  if (window.length === 0) return { isBad: false, state: "waiting for the first answer" };
  const troubles = [
    ["failed", window.filter(({ route }) => route.isFailed).length],
    ["leaked", window.filter(({ route }) => route.isLeak).length],
  ].filter(([, count]) => count > 0);
  if (troubles.length === 0) return { isBad: false, state: "requests are answered" };
  const counts = troubles.map(([word, count]) => `${count} ${word}`).join(", ");
  const words = troubles.map(([word]) => word).join(" and ");
  const details = `last ${window.length} requests: ${counts}`;
  return { isBad: true, state: `some requests have ${words}`, details };
}

// A lane keeps its first colour.
function colour(lane) {
  if (lane === null) return "no-lane";
  if (!colours.has(lane)) colours.set(lane, `lane-${colours.size % COLOURS}`);
  return colours.get(lane);
}

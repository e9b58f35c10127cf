// The page: results come in by the stream, are counted, and are shown a few times a second.

import { readControls, showProblem } from "./controls.js";
import { byId, setText, whole } from "./dom.js";
import { kindsIn, latestIn } from "./lists.js";
import { openRequest } from "./request.js";
import { sharesOf, showHistory, showSplit } from "./split.js";
import { connect } from "./stream.js";
import { move, showSwimlanes } from "./swimlanes.js";
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
    expected = sharesOf(view.weights);
    setText(byId("url"), [`GET ${view.url}`, ...view.headers].join("   "));
    for (const lane of Object.keys(expected ?? {}).sort()) colour(lane);
    if (isFirst) readControls(view, control);
  },
  result(message) {
    times.push(message.time);
    move(tally.add(message), colour);
  },
  refused({ problem }) {
    showProblem(problem);
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

function control(controls) {
  isPaused = controls.paused;
  tally.lookAt(controls.last);
  send(controls);
}

function show() {
  const lanes = tally.lanes(expected);
  showSwimlanes(tally, lanes, colour, isPaused);
  const split = lanes.filter((lane) => tally.byLane.has(lane) || (expected && lane in expected));
  showSplit(tally, split, expected, colour);
  showHistory(tally, split, colour);
  showLeaks(tally.leaks);
  showFailures(tally.failures);
  showLatest(tally.recent);
  showCount("leak", tally.leakCount);
  showCount("failure", tally.failureCount);
  setText(byId("request-count"), whole(tally.requests));
  showStatus();
}

function showCount(kind, count) {
  const output = byId(`${kind}-count`);
  setText(output, whole(count));
  output.classList.toggle("bad", count > 0);
}

function showStatus() {
  const status = byId("status");
  const now = Date.now();
  while (times.length > 0 && now - times[0] > 5000) times.shift();
  const { length } = tally.window;
  const failed = tally.window.filter(({ route }) => route.fault !== null).length;
  const leaked = tally.window.filter(({ route }) => route.leak !== null).length;
  status.classList.toggle("bad", !isConnected || (!isPaused && failed + leaked > 0));
  if (!isConnected) setText(status, "no connection to mockservice watch: trying again");
  else if (isPaused) setText(status, "paused");
  else if (failed + leaked > 0) {
    const parts = [failed > 0 && `${failed} failed`, leaked > 0 && `${leaked} leaked`];
    setText(status, `of the last ${length} ${parts.filter(Boolean).join(", ")}`);
  } else setText(status, length === 0 ? "waiting for the first answer" : "requests are answered");
  setText(byId("pace"), `${(times.length / 5).toFixed(1)}/s`);
}

// A lane keeps the colour that it had first.
function colour(lane) {
  if (lane === null) return "no-lane";
  if (!colours.has(lane)) colours.set(lane, `lane-${colours.size % COLOURS}`);
  return colours.get(lane);
}

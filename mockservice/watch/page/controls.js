// The controls, and the address, which holds what they say.

import { byId, setText } from "./dom.js";

const rate = byId("rate");
const headers = byId("headers");
const last = byId("last");
const pause = byId("pause");

/** What the controls say; `changed` is called with it whenever that is something else. */
export function readControls(view, changed) {
  const asked = new URLSearchParams(location.search);
  rate.value = asked.get("rate") ?? view.rate;
  rate.min = view.minRate;
  rate.max = view.maxRate;
  headers.value = asked.getAll("header").join("\n");
  if ([...last.options].some((option) => option.value === asked.get("last"))) {
    last.value = asked.get("last");
  }
  press(asked.has("paused"));

  const say = () => {
    const controls = {
      rate: Number(rate.value),
      paused: pause.getAttribute("aria-pressed") === "true",
      headers: headers.value.split("\n").map((line) => line.trim()).filter(Boolean),
      last: Number(last.value),
    };
    setText(byId("problem"), "");
    write(controls, view);
    changed(controls);
  };
  for (const control of [rate, headers, last]) control.onchange = say;
  pause.onclick = () => {
    press(pause.getAttribute("aria-pressed") !== "true");
    say();
  };
  say();
}

/** Say what is wrong with the controls. */
export function showProblem(text) {
  setText(byId("problem"), text);
}

function press(isPaused) {
  pause.setAttribute("aria-pressed", isPaused);
}

// The address holds what differs from the command line.
function write(controls, view) {
  const said = new URLSearchParams();
  if (controls.rate !== view.rate) said.set("rate", controls.rate);
  for (const line of controls.headers) said.append("header", line);
  if (controls.last !== 100) said.set("last", controls.last);
  if (controls.paused) said.set("paused", "1");
  history.replaceState(null, "", said.size > 0 ? `?${said}` : location.pathname);
}

// The controls, and the address, which holds what they say.

import { byId } from "./dom.js";

const rate = byId("rate");
const headers = byId("headers");
const last = byId("last");
const pause = byId("pause");

/** Have the controls say what the address holds; `changed` is called with it, now and later. */
export function readControls(view, changed) {
  const asked = new URLSearchParams(location.search);
  rate.value = asked.get("rate") ?? view.rate;
  rate.min = view.minRate;
  rate.max = view.maxRate;
  headers.value = (asked.has("header") ? asked.getAll("header") : view.headers).join("\n");
  if ([...last.options].some((option) => option.value === asked.get("last"))) {
    last.value = asked.get("last");
  }
  // Who was led here from another site has not said yet that anything is to be sent.
  press(asked.has("paused") || "waits" in document.body.dataset);

  const say = () => {
    const controls = {
      rate: Number(rate.value),
      paused: pause.getAttribute("aria-pressed") === "true",
      headers: linesOf(headers.value),
      last: Number(last.value),
    };
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

function linesOf(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
}

function press(isPaused) {
  pause.setAttribute("aria-pressed", isPaused);
}

// The address holds what differs from the command line.
function write(controls, view) {
  const said = new URLSearchParams();
  if (controls.rate !== view.rate) said.set("rate", controls.rate);
  if (controls.headers.join("\n") !== view.headers.join("\n")) {
    // None at all is one, too.
    for (const line of controls.headers.length > 0 ? controls.headers : [""]) {
      said.append("header", line);
    }
  }
  if (controls.last !== 100) said.set("last", controls.last);
  if (controls.paused) said.set("paused", "1");
  history.replaceState(null, "", said.size > 0 ? `?${said}` : location.pathname);
}

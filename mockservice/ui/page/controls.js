// The controls. The page's address stores their values.

import { byId } from "./dom.js";

const rate = byId("rate");
const headers = byId("headers");
const last = byId("last");
const pause = byId("pause");

/** Set the controls from the address; call `changed` with their values now and on each change. */
export function readControls(view, changed) {
  const query = new URLSearchParams(location.search);
  rate.value = query.get("rate") ?? view.rate;
  rate.min = view.minRate;
  rate.max = view.maxRate;
  headers.value = (query.has("header") ? query.getAll("header") : view.headers).join("\n");
  if ([...last.options].some((option) => option.value === query.get("last"))) {
    last.value = query.get("last");
  }
  // On a visit from another site, send nothing until the user presses the button.
  press(query.has("paused") || "waits" in document.body.dataset);

  const update = () => {
    const controls = {
      rate: Number(rate.value),
      paused: pause.getAttribute("aria-pressed") === "true",
      headers: linesOf(headers.value),
      last: Number(last.value),
    };
    store(controls, view);
    changed(controls);
  };
  for (const control of [rate, headers, last]) control.onchange = update;
  pause.onclick = () => {
    press(pause.getAttribute("aria-pressed") !== "true");
    update();
  };
  update();
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

// Store in the address what differs from the command line.
function store(controls, view) {
  const query = new URLSearchParams();
  if (controls.rate !== view.rate) query.set("rate", controls.rate);
  if (controls.headers.join("\n") !== view.headers.join("\n")) {
    // An empty header means that the user has removed all headers.
    for (const line of controls.headers.length > 0 ? controls.headers : [""]) {
      query.append("header", line);
    }
  }
  if (controls.last !== 100) query.set("last", controls.last);
  if (controls.paused) query.set("paused", "1");
  history.replaceState(null, "", query.size > 0 ? `?${query}` : location.pathname);
}

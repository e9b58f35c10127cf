// Makes elements from text only, so that nothing from upstreams becomes markup.

/** Make an element with properties and with children, which are elements or text. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  assign(made, properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Make an SVG element with attributes. */
export function drawn(name, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Return the element with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Set an element's text if it has changed, which keeps selections and avoids repeated speech. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const wholeNumbers = new Intl.NumberFormat("en");

/** 1,234 */
export const whole = (number) => wholeNumbers.format(number);

/** 29.4 % */
export const percent = (share) => `${(share * 100).toFixed(1)} %`;

/** 12.3 ms */
export const milliseconds = (number) => `${number.toFixed(number < 100 ? 1 : 0)} ms`;

/** 15:04:05 */
export const clock = (time) => new Date(time).toLocaleTimeString("en-GB");

function assign(made, { data = {}, ...properties }) {
  Object.assign(made.dataset, data);
  Object.assign(made, properties);
}

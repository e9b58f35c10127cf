// The stream of results: a WebSocket that comes back by itself.

const FIRST_DELAY = 500;
const MAX_DELAY = 8000;

/**
 * Connect to the server and stay connected.
 *
 * `on` has a function for each type of message, `open`, and `lost`.
 * Returns a function that sends an object, now or once connected: the last one counts.
 */
export function connect(on) {
  let socket = null;
  let last = null;
  let delay = FIRST_DELAY;

  function open() {
    const url = new URL("stream", location.href);
    url.protocol = "ws:";
    url.search = "";
    socket = new WebSocket(url);
    socket.onopen = () => {
      on.open();
      if (last !== null) socket.send(last);
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      // The server has taken this page.
      if (message.type === "view") delay = FIRST_DELAY;
      on[message.type](message);
    };
    socket.onclose = () => {
      on.lost();
      setTimeout(open, delay);
      delay = Math.min(2 * delay, MAX_DELAY);
    };
  }

  open();
  return (message) => {
    last = JSON.stringify(message);
    if (socket.readyState === WebSocket.OPEN) socket.send(last);
  };
}

// The stream of results: a WebSocket that reconnects.

const FIRST_DELAY = 500;
const MAX_DELAY = 8000;

/**
 * Connect to the server and stay connected.
 *
 * `on` has a handler for each type of message, for `open` and for `lost`.
 * Returns a function that sends an object, at once or after connecting. After a reconnect, the last
 * object is sent again.
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
      // The server has accepted this page.
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

// The least that a web application needs to log in, call, and watch: no library, so that a test
// shows what the browser and the bus do by themselves. Codes are those of the WAMP specification.
const ABORT = 3, AUTHENTICATE = 5, CALL = 48, CHALLENGE = 4, ERROR = 8, RESULT = 50, WELCOME = 2;

/**
 * Log in with this HELLO message. Resolves to the router's last word on it, WELCOME or ABORT; then
 * `call(uri, args, hear)` resolves to the RESULT or ERROR that ends a call, and `hear`, if there is
 * one, gets the arguments of each progressive result before.
 */
function join(url, hello, ticket) {
  const socket = new WebSocket(url, "wamp.2.json");
  const send = message => socket.send(JSON.stringify(message));
  const calls = new Map();

  globalThis.call = (uri, args = [], hear = null) => new Promise(end => {
    const request = calls.size + 1;
    calls.set(request, {hear, end});
    send([CALL, request, hear ? {receive_progress: true} : {}, uri, args]);
  });

  return new Promise((resolve, reject) => {
    const answer = message => {
      switch (message[0]) {
        case CHALLENGE: return send([AUTHENTICATE, ticket, {}]);
        case WELCOME: case ABORT: return resolve(message);
        case ERROR: return calls.get(message[2]).end(message);
        case RESULT: {
          const {hear, end} = calls.get(message[1]);
          return message[2].progress ? hear(...message[3]) : end(message);
        }
      }
      throw new Error(`unexpected: ${JSON.stringify(message)}`);
    };
    socket.onopen = () => send(hello);
    socket.onmessage = ({data}) => answer(JSON.parse(data));
    socket.onclose = ({code}) => reject(new Error(`the connection was closed: ${code}`));
  });
}

// What stands between the launcher and the organisation's backend: it passes
// everything on, remembers which secrets went through, can be down, and can hold
// an answer back.
import { createServer, request } from 'node:http';

export class BackendDoor {
  /** One entry a call: { path, requestID, at, status, code }. */
  calls = [];
  /** One-time URLs that were answered, whether opened or not. */
  addresses = [];
  tokens = new Set();
  /** Puts another label into the answers that follow; null leaves the backend's. */
  label = null;
  #gate = null;
  #server = null;

  /** The calls that open something: a stream of events and a look at who one is are none. */
  get launches() {
    return this.calls.filter((c) => /\/encounters(\/url)?$/.test(c.path));
  }

  constructor(port, backend) {
    this.port = port;
    this.backend = new URL(backend);
    this.url = `http://127.0.0.1:${port}`;
  }

  up() {
    this.#server = createServer((from, to) => this.#pass(from, to));
    return new Promise((done, refuse) => this.#server.once('error', refuse).listen(this.port, '127.0.0.1', done));
  }

  /** From now on nobody listens. */
  down() {
    const server = this.#server;
    const closed = new Promise((done) => server.close(done));
    server.closeAllConnections();
    return closed;
  }

  /** Holds every call until the returned function is called. */
  hold() {
    let release;
    this.#gate = new Promise((done) => (release = done));
    return () => {
      this.#gate = null;
      release();
    };
  }

  async #pass(from, to) {
    const token = from.headers.authorization?.replace(/^Bearer /i, '');
    if (token) this.tokens.add(token);
    const chunks = [];
    for await (const chunk of from) chunks.push(chunk);
    const asked = Buffer.concat(chunks);
    const call = { path: from.url, requestID: from.headers['x-request-id'], at: Date.now(), status: 0, code: '' };
    this.calls.push(call);
    await this.#gate;
    const on = request({
      host: this.backend.hostname, port: this.backend.port, method: from.method, path: from.url,
      headers: { ...from.headers, host: this.backend.host },
    }, async (answer) => {
      if (/^text\/event-stream/.test(answer.headers['content-type'])) {
        call.status = answer.statusCode;
        to.writeHead(answer.statusCode, answer.headers);
        to.flushHeaders();
        to.once('close', () => on.destroy());
        answer.on('error', () => to.destroy()).pipe(to);
        return;
      }
      const parts = [];
      for await (const part of answer) parts.push(part);
      let body = Buffer.concat(parts);
      call.status = answer.statusCode;
      try {
        const said = JSON.parse(body);
        const { encounter_url: address, code } = said;
        if (this.label !== null && said.encounter) {
          said.encounter.label = this.label;
          body = Buffer.from(JSON.stringify(said));
          answer.headers['content-length'] = String(body.length);
        }
        call.code = code ?? '';
        if (address) this.addresses.push(address);
      } catch { /* not JSON */ }
      to.writeHead(answer.statusCode, answer.headers);
      to.end(body);
    });
    on.on('error', () => to.destroy());
    on.end(asked);
  }
}

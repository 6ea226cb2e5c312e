// Serves the built front end on loopback, under the rules of the page itself.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

export const dist = fileURLToPath(new URL('../dist/', import.meta.url));

const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };

/** Starts the server and returns its address and the way to end it. */
export async function serve() {
  const rules = /http-equiv="Content-Security-Policy"\s+content="([^"]+)"/.exec(await readFile(join(dist, 'index.html'), 'utf8'))?.[1];
  if (!rules) throw new Error('the built page has no rules: run npm run build');
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://page').pathname));
    const file = join(dist, path === '/' ? 'index.html' : path);
    // A browser asks for it unasked; Wails' window does not.
    if (path === '/favicon.ico') return response.writeHead(204).end();
    try {
      if (!file.startsWith(dist)) throw new Error('outside');
      const body = await readFile(file);
      response.writeHead(200, { 'Content-Type': types[extname(file)] ?? 'application/octet-stream', 'Content-Security-Policy': rules });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { address: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

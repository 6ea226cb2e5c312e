// Says which npm packages have code or style in the window's pages, by what the bundler
// itself put where: builds the pages anew in memory, compares them with those in
// frontend/dist, and prints JSON to standard output.
//
//   node build/supply/bundle.mjs
//
// It writes no file. Pages that are not those of frontend/dist end it with 1: its list would be of others.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const frontend = join(root, 'frontend');
const { build } = await import(new URL('../../frontend/node_modules/vite/dist/node/index.js', import.meta.url));

const fail = (text) => {
  console.error(`bundle: ${text}`);
  process.exit(1);
};

/** What a bundler writes into a page itself, by the beginning of its name for it. */
const own = { '\0vite/': 'vite', '\0rolldown/': 'rolldown' };

/** The folder of the package that a file belongs to; undefined for a file of ours. */
function packageOf(id) {
  for (const [begins, name] of Object.entries(own)) if (id.startsWith(begins)) return join(frontend, 'node_modules', name);
  const path = id.replace(/\?.*$/, '');
  if (path.startsWith('\0') || !existsSync(path)) fail(`nobody knows whose ${JSON.stringify(id)} is`);
  const parts = path.split(sep);
  const at = parts.lastIndexOf('node_modules');
  if (at < 0) return path.startsWith(frontend + sep) ? undefined : fail(`${JSON.stringify(id)} is outside of the pages`);
  return parts.slice(0, at + (parts[at + 1].startsWith('@') ? 3 : 2)).join(sep);
}

process.chdir(frontend);
const built = await build({ root: frontend, logLevel: 'error', build: { write: false } });
const folders = new Set();
const files = new Map();
for (const file of [built].flat().flatMap((part) => part.output)) {
  files.set(file.fileName, Buffer.from(file.type === 'chunk' ? file.code : file.source));
  if (file.type === 'chunk') {
    // A style leaves no code behind, and is in an asset all the same.
    for (const [id, module] of Object.entries(file.modules)) if (module.renderedLength > 0 || /\.css(\?|$)/.test(id)) folders.add(packageOf(id));
  } else for (const name of file.originalFileNames ?? []) folders.add(packageOf(resolve(frontend, name)));
}
folders.delete(undefined);

const dist = join(frontend, 'dist');
const there = readdirSync(dist, { recursive: true, withFileTypes: true }).filter((e) => e.isFile() && e.name !== '.gitkeep').map((e) => relative(dist, join(e.parentPath, e.name)));
for (const name of new Set([...there, ...files.keys()])) {
  if (!there.includes(name) || !files.get(name)?.equals(readFileSync(join(dist, name)))) fail(`frontend/dist is of another state of the tree: ${name} differs. Run make frontend`);
}

const packages = [...folders].map((folder) => {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json')));
  return { name, version, licence: license, folder };
});
packages.sort((a, b) => (a.name < b.name ? -1 : 1));
console.log(JSON.stringify(packages, null, 1));

// Packages come from the front end's lock file: one list of what is pinned.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(new URL('../../frontend/package.json', import.meta.url));

/** Imports a package that the front end's package.json names. */
export const fromFrontend = (name) => import(pathToFileURL(require.resolve(name)).href);

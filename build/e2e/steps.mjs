// Steps, deadlines and waiting.

/** Thrown when something did not come in time or is not as it should be. */
export class Wrong extends Error {}

/** Ends a step unless a condition holds. */
export function expect(condition, otherwise) {
  if (!condition) throw new Wrong(typeof otherwise === 'function' ? otherwise() : otherwise);
}

const slow = Number(process.env.E2E_SLOW || 1);

/** How long anything may take at most; E2E_SLOW stretches it on a slow machine. */
export const patience = 60_000 * slow;

/** Waits for a while. Only for what cannot be awaited: that nothing happens, or that a limit passes. */
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Looks again and again until look() returns something true, and returns that. */
export async function until(what, look, { within = patience, every = 50 } = {}) {
  const end = Date.now() + within;
  let last = '';
  for (;;) {
    try {
      const found = await look();
      if (found) return found;
      last = '';
    } catch (error) {
      last = error.message;
    }
    if (Date.now() > end) throw new Wrong(`waited ${within / 1000} s for ${what}${last && `; at last: ${last}`}`);
    await pause(every);
  }
}

/** Waits for a promise for so long at most. What was begun goes on, and is not waited for. */
export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, refuse) => {
    timer = setTimeout(() => refuse(new Wrong(`waited ${ms / 1000} s for ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** After so many failed steps the others are not tried: one cause has many effects. */
const enough = 3;

/** Runs the steps one after another and counts. onFailure(name, began) is given each that failed. */
export class Steps {
  passed = 0;
  failed = 0;
  /** A line for each step that failed, for the end of the log. */
  failures = [];
  #stopped = false;

  constructor(onFailure) {
    this.onFailure = onFailure;
  }

  async step(name, run, { limit = 5 * patience } = {}) {
    if (this.#stopped || this.failed >= enough) {
      this.failed++;
      console.log(`  - ${name} (not tried)`);
      return;
    }
    const began = Date.now();
    const seconds = () => `${((Date.now() - began) / 1000).toFixed(1)} s`;
    let over = false;
    try {
      await within(limit, 'the step to end', run().finally(() => (over = true)));
      this.passed++;
      console.log(`  ✓ ${name} (${seconds()})`);
    } catch (error) {
      this.failed++;
      // What goes on in the background would meddle with every step that follows.
      this.#stopped = !over;
      const text = (error instanceof Wrong ? error.message : (error.stack ?? String(error))).slice(0, 2000);
      this.failures.push(`✗ ${name} (${seconds()}): ${text.split('\n')[0].slice(0, 300)}`);
      console.log(`  ✗ ${name} (${seconds()})\n      ${text.replaceAll('\n', '\n      ')}`);
      await within(patience, 'a look at what failed', this.onFailure(name, began)).catch((e) => console.log(`      no picture: ${e.message}`));
    }
  }
}

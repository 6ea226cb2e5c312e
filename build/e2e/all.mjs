// The end-to-end test: every part of it in one world, one after another.
import { copyFileSync, cpSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { endAll, running } from './processes.mjs';
import { until } from './steps.mjs';
import { attackers } from './attackers.mjs';
import { clinician } from './clinician.mjs';
import { microphone } from './microphone.mjs';
import { spine } from './spine.mjs';
import { agents, browser, dir, out, state, steps, windowProgram } from './world.mjs';

const began = Date.now();
console.log('End to end, on a desktop of its own:');
let trouble;
try {
  const parts = { spine, clinician, microphone, attackers };
  // E2E_PARTS names those to run; the first has to be one that can begin.
  for (const part of (process.env.E2E_PARTS || Object.keys(parts).join()).split(',')) await parts[part]();
} catch (error) {
  trouble = error;
} finally {
  await browser?.close().catch(() => {});
  for (const pid of [...agents(), ...running(windowProgram)]) process.kill(pid, 'SIGTERM');
  await until('the launcher to end', () => agents().length + running(windowProgram).length === 0, { within: 10_000 }).catch(() => {
    for (const pid of [...agents(), ...running(windowProgram)]) process.kill(pid, 'SIGKILL');
  });
  await endAll();
}
if (trouble) {
  steps.failed++;
  steps.failures.push(`✗ ${trouble.message}`);
  console.log(`  ✗ ${trouble.stack}`);
}
if (steps.failed) {
  cpSync(join(dir, 'logs'), join(out, 'logs'), { recursive: true });
  if (existsSync(join(state, 'agent.log'))) copyFileSync(join(state, 'agent.log'), join(out, 'logs', 'agent.log'));
  console.log(`What every part said is in ${join(out, 'logs')}.`);
}
console.log(`Pictures in ${out}; ${((Date.now() - began) / 1000).toFixed(0)} s.`);
for (const line of steps.failures) console.log(line);
console.log(`${steps.passed} passed, ${steps.failed} failed`);
process.exit(steps.failed === 0 ? 0 : 1);

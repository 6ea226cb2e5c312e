// One click in the EHR opens the encounter: the cases of the whole way, and of how
// it can fail.
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { screenshot, windowsTitled } from './desk.mjs';
import { filesBelow, secretsIn } from './leaks.mjs';
import { alive, family, run, running, start } from './processes.mjs';
import { expect, pause, until } from './steps.mjs';
import {
  ada, agentPolicy, agents, at, browser, changePolicy, desktop, door, encounterOf, encounterOpens, env, flat, isRefused, issued, keyringDump, lastLaunch,
  launcher, launchIs, log, nothingOpened, noticesNow, opened, out, picture, press, program, searchEverything, searchProcesses, secrets,
  startWorld, state, status, steps, trayClick, wasOpened, windowProgram, windowShows, words,
} from './world.mjs';

/** The whole of it: from nothing installed to nothing left. */
export async function spine() {
  let up = false;
  await steps.step('the desktop stands: display, bus, keyring, browser, identity provider, backend, and the launcher installed', async () => {
    await startWorld();
    expect((await status()).agent === 'absent', 'an agent runs before anything was clicked');
    await browser.ehr.screenshot({ path: picture('ehr') });
    up = true;
  });
  if (!up) return;

  await steps.step('a changed policy is in force without a restart', async () => {
    start(program, ['agent'], { log: log('agent-output'), env, cwd: '/' });
    await until('the agent', async () => (await status()).agent === 'running');
    expect((await agentPolicy()).BackendURL === at.backend, 'the agent has another backend than its policy says');
    // By OpenID Connect Core §11 a provider gives offline_access only with this prompt.
    changePolicy({ BackendURL: door.url, OIDCPrompt: 'consent' });
    await until('the new policy', async () => (await agentPolicy()).BackendURL === door.url);
    expect((await status()).policy.ok, 'the new policy is not good');
  });

  await steps.step('signed out: the click leads to the sign-in page, and then the encounter opens by itself', async () => {
    await press(1);
    const page = await browser.tabAt(at.issuer, 'button');
    await launchIs('signing_in');
    await page.screenshot({ path: picture('sign-in') });
    await page.getByRole('button', { name: ada.name }).click();
    const tab = await encounterOpens(encounterOf(1));
    await tab.screenshot({ path: picture('encounter') });
    wasOpened(encounterOf(1));
    await page.screenshot({ path: picture('signed-in') });
    const { person, memory_only: memoryOnly } = await status();
    expect(person?.email === ada.email, () => `signed in is ${JSON.stringify(person)}`);
    expect(!memoryOnly, 'the sign-in is not in the keyring');
    expect(issued.pages === 1, () => `${issued.pages} sign-in pages were shown`);
    await browser.tidy();
  });

  await steps.step('cold start by link: no agent runs, the keyring knows who it is, the encounter opens', async () => {
    const quit = await launcher('quit');
    expect(quit.code === 0, () => `quit ended with ${quit.code}: ${quit.err}`);
    await until('the agent to end', () => agents().length === 0);
    const refreshed = issued.refresh.length;
    await press(2);
    await encounterOpens(encounterOf(2));
    wasOpened(encounterOf(2));
    expect(agents().length === 1, () => `${agents().length} processes of the launcher run`);
    expect(issued.pages === 1, 'somebody was asked to sign in again');
    expect(issued.refresh.length === refreshed + 1, 'the refresh token was not rotated once');
    await browser.tidy();
  });

  await steps.step('link while running: the same agent opens it', async () => {
    const [before] = agents();
    await press(3);
    await encounterOpens(encounterOf(3));
    wasOpened(encounterOf(3));
    expect(agents().length === 1 && agents()[0] === before, 'another agent answered');
    await browser.tidy();
  });

  await steps.step('double press: two links, one tab', async () => {
    // Two presses count as one for three seconds; a slow machine may need longer for the second.
    for (let tries = 1; ; tries++) {
      const [calls, handed] = [door.launches.length, browser.handed()];
      const created = () => door.launches.slice(calls).filter((c) => c.path.endsWith('/encounters'));
      await press(1);
      // Chromium itself swallows a second press before it has handed over the first link.
      const first = await until('the first link to arrive', () => created()[0], { every: 5 });
      await press(1, { again: true });
      await until('the backend to have answered both', () => created().filter((c) => c.status === 200).length === 2);
      const apart = created()[1].at - first.at;
      if (apart > 2800 && tries < 8) {
        await pause(4000);
        await browser.tidy();
        continue;
      }
      await encounterOpens(encounterOf(1));
      wasOpened(encounterOf(1));
      await nothingOpened(handed + 1, 1);
      await browser.tidy();
      return;
    }
  });

  await steps.step('spent handle: refused with a notice, nothing opens', async () => {
    const [notices, before, handed] = [await noticesNow(), await lastLaunch(), browser.handed()];
    // Somebody else was faster: the handle is redeemed between the press and the link.
    await browser.ehr.route('**/press/2', async (route) => {
      const answer = await route.fetch();
      const { link } = await answer.json();
      const redeemed = await fetch(`${at.backend}/encounters`, {
        method: 'POST', body: JSON.stringify({ handle: new URL(link).searchParams.get('handle') }),
        headers: { authorization: `Bearer ${issued.access.at(-1)}`, 'content-type': 'application/json', 'idempotency-key': randomUUID(), 'x-request-id': randomUUID() },
      });
      if (redeemed.status !== 200) return route.abort();
      return route.fulfill({ response: answer });
    });
    await press(2);
    await isRefused('handle_spent', notices, before);
    await browser.ehr.unroute('**/press/2');
    await nothingOpened(handed);
  });

  await steps.step('expired handle: refused with a notice, nothing opens', async () => {
    const [notices, before, handed] = [await noticesNow(), await lastLaunch(), browser.handed()];
    await press('stale');
    await isRefused('handle_expired', notices, before);
    await nothingOpened(handed);
  });

  await steps.step('bad arguments: exit status 2, one sentence, no side effect', async () => {
    const [before, handed] = [await lastLaunch(), browser.handed()];
    const handle = 'A'.repeat(32);
    for (const args of [
      ['encounter-launcher-demo://launch?handle=short'],
      [`encounter-launcher-demo://launch?handle=${handle}`, '--anything'],
      [`encounter-launcher-demo://launch?handle=${handle}&server=https://elsewhere.example`],
    ]) {
      const { code, out: said, err } = await launcher(...args);
      expect(code === 2, () => `ended with ${code}`);
      expect(err.includes(words['problem.link_invalid.sentence']), () => `it said ${JSON.stringify(err)}`);
      expect(!err.includes(handle) && !said.includes(handle) && !err.includes('elsewhere'), 'it repeated the link');
    }
    expect((await launcher('check-link', 'encounter-launcher-demo://launch?handle=short')).code === 1, 'check-link does not refuse');
    expect((await lastLaunch()) === before, 'there was a launch');
    expect(browser.handed() === handed, 'something was opened');
  });

  await steps.step('backend down: a notice; up again and retried from the notice: the encounter opens', async () => {
    const [notices, before, handed] = [await noticesNow(), await lastLaunch(), browser.handed()];
    await door.down();
    await press(2);
    const notice = await isRefused('org_unreachable', notices, before);
    expect(browser.handed() === handed, 'something was opened');
    expect(notice.actions.includes('retry'), () => `the notice offers ${JSON.stringify(notice.actions)}`);
    await door.up();
    await desktop.act(notice.id, 'retry');
    await encounterOpens(encounterOf(2));
    wasOpened(encounterOf(2));
    await browser.tidy();
  });

  await steps.step('wrong clinician: refused by the backend, nothing opens, nothing said of the patient', async () => {
    const [notices, before, handed] = [await noticesNow(), await lastLaunch(), browser.handed()];
    await press(3, { clinician: 'ben' });
    const notice = await isRefused('provider_mismatch', notices, before);
    expect(!/Fictima|Mockingham|SBX/.test(notice.body), 'the notice names the patient');
    await nothingOpened(handed);
  });

  await steps.step('reopen a recent from the tray, over the bus', async () => {
    const time = /^(\S+ )?\d?\d:\d\d( [AP]M)? · /;
    const recents = () => desktop.menu().then((menu) => flat(menu).filter((l) => l.enabled && time.test(l.label)));
    const list = await until('the recents in the tray', async () => {
      const found = await recents();
      return found.length === opened.length && found;
    });
    // A line that has just moved opens nothing.
    await pause(2200);
    const calls = door.launches.length;
    await desktop.click(list.at(-1).id);
    await encounterOpens(opened.at(-1));
    wasOpened(opened.at(-1));
    const asked = door.launches.slice(calls).map((c) => c.path);
    expect(asked.length === 1 && asked[0].endsWith('/encounters/url'), () => `the backend was asked for ${asked.join(', ')}`);
    await browser.tidy();
  });

  await steps.step('the window opens, shows the launch and the problem, and is gone from memory when closed', async () => {
    await trayClick('the window', (label) => label === words['tray.open_window']);
    // There is no host that would show the menu, so it is kept as text.
    writeFileSync(join(out, 'tray.txt'), flat(await desktop.menu()).map((l) => `${l.enabled ? '' : '· '}${l.label || '---'}\n`).join(''));
    const [pid] = await until('the window', async () => (await windowsTitled('^Encounter Launcher$')).length === 1 && running(windowProgram).length && running(windowProgram));
    const [id] = await windowsTitled('^Encounter Launcher$');
    await run('xdotool', ['windowmove', '--sync', id, '760', '120']);
    await windowShows(pid, ada.email, words['recents.heading']);
    await screenshot(picture('screen-home'));
    await screenshot(picture('window-home'), id);

    const release = door.hold();
    try {
      await press(1);
      await windowShows(pid, words['launching.heading'], words['stage.creating'], words['launching.cancel']);
      await run('xdotool', ['windowactivate', '--sync', id]);
      await screenshot(picture('window-launching'), id);
    } finally {
      release();
    }
    await encounterOpens(encounterOf(1));
    wasOpened(encounterOf(1));
    await windowShows(pid, words['last.opened'].split(' {')[0]);
    await browser.tidy();

    const [notices, before] = [await noticesNow(), await lastLaunch()];
    await press('stale');
    await isRefused('handle_expired', notices, before);
    await windowShows(pid, words['problem.handle_expired.sentence'], words['problem.handle_expired.next']);
    await run('xdotool', ['windowactivate', '--sync', id]);
    await screenshot(picture('window-problem'), id);

    writeFileSync(join(out, 'notices.txt'), (await desktop.notices()).map((n) => `${n.summary}\n${n.body}\n[${n.actions.join(' | ')}]\n\n`).join(''));
    const members = family(pid);
    expect(members.some((p) => /WebKit/i.test(p.exe)), () => `the window has no web process: ${members.map((p) => p.exe).join(', ')}`);
    await searchProcesses(members.map((p) => p.pid));
    await run('xdotool', ['windowactivate', '--sync', id, 'key', '--clearmodifiers', 'alt+F4']);
    await until('every process of the window to end', () => members.every((p) => !alive(p.pid)));
    expect(running(windowProgram).length === 0, 'a window is still in memory');
    expect(agents().length === 1, 'the agent did not outlive the window');
  });

  await steps.step('the audit is whole and holds every launch', async () => {
    const verified = await launcher('audit', 'verify', '--json');
    expect(verified.code === 0, () => `audit verify ended with ${verified.code}: ${verified.out}`);
    const lines = filesBelow(join(state, 'audit')).filter((f) => f.path.endsWith('.jsonl'))
      .flatMap((f) => f.bytes.toString().trim().split('\n')).map((line) => JSON.parse(line));
    const text = lines.map((line) => JSON.stringify(line));
    const missing = [...new Set(door.launches.map((c) => c.requestID))].filter((id) => !text.some((line) => line.includes(id)));
    expect(missing.length === 0, () => `the audit lacks ${missing.length} of ${door.launches.length} calls`);
    const count = (outcome, code) => lines.filter((l) => l.outcome === outcome && (!code || l.code === code)).length;
    for (const [outcome, code, least] of [
      ['signed_in', '', 1], ['opened', '', 7], ['dropped', '', 1], ['failed', 'handle_spent', 1], ['failed', 'handle_expired', 2],
      ['failed', 'org_unreachable', 1], ['failed', 'provider_mismatch', 1], ['refused', 'link_invalid', 1], ['started', '', 2], ['stopped', '', 1],
    ]) expect(count(outcome, code) >= least, () => `the audit holds ${count(outcome, code)} × ${outcome} ${code}, not ${least}; it has ${[...new Set(lines.map((l) => `${l.outcome} ${l.code ?? ''}`))].join(', ')}`);
    expect(!text.some((line) => /SBX-|Samplewell|Placeholder|Mockingham/.test(line)), 'the audit names a patient');
  });

  await steps.step('no one-time address and no token anywhere but in the keyring', searchEverything);

  await steps.step('signing out takes the sign-in back at the identity provider and empties the keyring', async () => {
    const { code, err } = await launcher('sign-out');
    expect(code === 0, () => `sign-out ended with ${code}: ${err}`);
    await until('the revocation', () => issued.revoked > 0);
    await until('the end of the session in the browser', () => issued.ended === 1);
    const found = secretsIn(Buffer.from(await keyringDump()), secrets);
    expect(found.length === 0, () => `the keyring still holds ${found.join(', ')}`);
    expect(!(await status()).signed_in, 'still signed in');
  });

  await steps.step('quit ends everything of the launcher', async () => {
    const { code } = await launcher('quit');
    expect(code === 0, () => `quit ended with ${code}`);
    await until('the agent to end', () => agents().length === 0);
    const gone = await launcher('unregister');
    expect(gone.code === 0, () => `unregister ended with ${gone.code}: ${gone.err}`);
    const asked = await run('xdg-mime', ['query', 'default', 'x-scheme-handler/encounter-launcher-demo'], { env });
    expect(asked.out.trim() === '', () => `the scheme still belongs to ${asked.out}`);
  });
}

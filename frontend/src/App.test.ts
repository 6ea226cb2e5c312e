import { render, screen as page, waitFor, within } from '@testing-library/svelte';
import { flushSync } from 'svelte';
import { describe, expect, test } from 'vitest';
import type { view } from '../wailsjs/go/models';
import App from './App.svelte';
import { readSnapshot } from './bridge/read';
import { Shown } from './state/snapshot.svelte';
import { FakeBridge, now, showing, signedIn, signedOut, signingIn, unreachable, wire, wireCheckup, wireDoctor, wireLaunch, wireRecents } from './testing/fakes';

function open(sent: view.Snapshot | null) {
  const shown = sent === null ? new Shown() : showing(sent);
  const intents = new FakeBridge();
  render(App, { shown, intents, clock: () => now });
  const send = (next: view.Snapshot) => {
    shown.snapshot = readSnapshot(next);
    flushSync();
  };
  return { shown, intents, send };
}

const heading = () => page.getByRole('heading', { level: 1 }).textContent;
const button = (name: string | RegExp) => page.getByRole('button', { name });
const press = (name: string | RegExp) => {
  button(name).click();
  flushSync();
};
const status = () => page.getByRole('status').textContent;

describe('overview', () => {
  test('shows who is signed in, the organisation and the recent encounters', () => {
    open(wire());
    expect(page.getByText('Riverside Hospital')).toBeTruthy();
    expect(document.body.textContent).toContain('amara.lee@riverside.example');
    const rows = Array.from(document.querySelectorAll('li[data-id]')).map((row) => row.textContent?.replace(/\s+/g, ' ').trim());
    expect(rows[0]).toMatch(/M\. K\. 14:18 Opened Reopen/);
    expect(rows[1]).toMatch(/J\. D\. yesterday 09:05 Note exported Reopen/);
  });

  test('reopens exactly the encounter of the row', async () => {
    const { intents } = open(wire());
    press(/^Reopen J\. D\./);
    await waitFor(() => expect(intents.asked).toEqual(['open-recent r2']));
  });

  test('asks once, however often the button is pressed before the answer', () => {
    const { intents } = open(wire());
    const row = button(/^Reopen M\. K\./);
    row.click();
    row.click();
    flushSync();
    row.click();
    expect(intents.asked).toEqual(['open-recent r1']);
    expect(row.getAttribute('aria-disabled')).toBe('true');
  });

  test('signs out', () => {
    const { intents } = open(wire());
    press('Sign out');
    expect(intents.asked).toEqual(['sign-out']);
  });

  test('offers to sign in when signed out, and lists nobody’s encounters', () => {
    const { intents } = open(wire({ sign_in: signedOut, recents: [] }));
    expect(page.getByText('Sign in to see the encounters that you opened.')).toBeTruthy();
    press('Sign in');
    expect(intents.asked).toEqual(['sign-in']);
  });

  test('says that the list is empty', () => {
    open(wire({ recents: [] }));
    expect(page.getByText(/^Nothing yet\./)).toBeTruthy();
  });

  test('offers a fresh link of the last encounter while there is time', () => {
    const { intents, send } = open(wire({ launch: wireLaunch('opened', { fresh_until: '2026-03-04T14:30:01' }) }));
    expect(page.getByText(/Opened in the browser at/)).toBeTruthy();
    press('Get a fresh link');
    expect(intents.asked).toEqual(['fresh-link l1']);
    send(wire({ launch: wireLaunch('opened', { recent_id: 'r1', fresh_until: '2026-03-04T14:30:00' }) }));
    expect(page.queryByRole('button', { name: 'Get a fresh link' })).toBeNull();
  });

  test('offers to retry what was cancelled', () => {
    const { intents } = open(wire({ launch: wireLaunch('cancelled', { retryable: true }) }));
    expect(page.getByText(/^Cancelled at/)).toBeTruthy();
    press('Try again');
    expect(intents.asked).toEqual(['retry l1']);
  });

  test.each([
    [true, 'Encounters cannot be opened yet'],
    [false, "Part of the organisation's policy is not in use"],
  ])('says what is wrong with the policy (refuses launches: %s)', (refuses, title) => {
    open(wire({ policy: { ok: false, problems: ['BackendURL is not set.'], refuses_launches: refuses } }));
    expect(page.getByText(title)).toBeTruthy();
    expect(page.getByText('BackendURL is not set.')).toBeTruthy();
  });

  test.each(['keyring_locked', 'keyring_unavailable', 'keyring_corrupt'])('says %s and the next step', (code) => {
    open(wire({ keyring: { code } }));
    expect(page.getByText(/password store|stored sign-in/)).toBeTruthy();
  });

  test('says that a sign-in is not stored', () => {
    open(wire({ sign_in: { ...signedIn, person: { subject: '1', email: '' }, memory_only: true } }));
    expect(page.getByText(/not stored on this computer/)).toBeTruthy();
    expect(page.getByText(/no e-mail address/)).toBeTruthy();
  });

  test('shows why an intent was not taken on, and puts it away', async () => {
    const { intents } = open(wire());
    intents.refusal = { code: 'keyring_locked', sentence: 'x', nextStep: 'y', reference: 'ABCDEFGH' };
    press('Sign out');
    await waitFor(() => expect(page.getByText("The computer's password store is locked.", { selector: '.title' })).toBeTruthy());
    expect(page.getByText(/ABCDEFGH/)).toBeTruthy();
    press('Close this message');
    expect(page.queryByText(/ABCDEFGH/)).toBeNull();
  });
});

describe('launching', () => {
  test('shows each step, how long the finished ones took and the time since', () => {
    open(wire({ launch: wireLaunch('creating') }));
    expect(heading()).toBe('Opening the encounter');
    const rows = within(page.getByRole('list', { name: 'Steps' })).getAllByRole('listitem');
    expect(rows.map((r) => r.textContent?.replace(/\s+/g, ' ').trim())).toEqual([
      'Request received Done 120 ms',
      'Preparing the encounter In progress',
      'Opening the browser Still to come',
      'Opened Still to come',
    ]);
    expect(rows[1]?.getAttribute('aria-current')).toBe('step');
    expect(page.getByRole('timer').textContent).toBe('1.0 s');
    expect(status()).toBe('Preparing the encounter');
  });

  test('cancels', () => {
    const { intents } = open(wire({ launch: wireLaunch('opening') }));
    press('Cancel');
    expect(intents.asked).toEqual(['cancel l1']);
  });

  test('says when it is slow', () => {
    open(wire({ launch: wireLaunch('creating', { started_at: '2026-03-04T14:29:50' }) }));
    expect(page.getByText(/longer than usual/)).toBeTruthy();
    expect(page.getByRole('timer').textContent).toBe('10 s');
  });

  test('says a word after a second and a half', () => {
    const { send } = open(wire({ launch: wireLaunch('creating', { started_at: '2026-03-04T14:29:58.501' }) }));
    expect(page.queryByText(/Still working/)).toBeNull();
    send(wire({ launch: wireLaunch('creating', { started_at: '2026-03-04T14:29:58.500' }) }));
    expect(page.getByText(/Still working/)).toBeTruthy();
  });

  test('takes over from About, tells each stage, and ends on the overview', async () => {
    const { send } = open(wire());
    press('About');
    expect(heading()).toBe('About');
    send(wire({ launch: wireLaunch('creating') }));
    expect(heading()).toBe('Opening the encounter');
    await waitFor(() => expect(document.activeElement?.tagName).toBe('H1'));
    send(wire({ launch: wireLaunch('opening') }));
    expect(status()).toBe('Opening the browser');
    send(wire({ launch: wireLaunch('opened', { recent_id: 'r1' }) }));
    expect(heading()).toBe('Overview');
    expect(status()).toBe('The encounter is open in your browser.');
  });
});

describe('sign-in', () => {
  test('waits for the browser and can be cancelled', () => {
    const { intents } = open(wire({ sign_in: signingIn, recents: [] }));
    expect(heading()).toBe('Sign in with your browser');
    expect(page.queryByText(/opens as soon as/)).toBeNull();
    press('Cancel');
    expect(intents.asked).toEqual(['cancel ']);
  });

  test('says that the encounter opens afterwards', () => {
    open(wire({ launch: wireLaunch('signing_in') }));
    expect(page.getByText(/opens as soon as/)).toBeTruthy();
  });
});

describe('problem', () => {
  const failed = wire({ launch: wireLaunch('failed', { problem: unreachable, retryable: true }) });

  test('says what happened, what to do and the reference, and retries', () => {
    const { intents } = open(failed);
    expect(heading()).toBe('The encounter did not open');
    expect(page.getByText(unreachable.sentence, { selector: 'p' })).toBeTruthy();
    expect(page.getByText(unreachable.next_step, { selector: 'p' })).toBeTruthy();
    expect(page.getByText('7K3M9QXA')).toBeTruthy();
    expect(status()).toBe(`${unreachable.sentence} ${unreachable.next_step}`);
    press('Try again');
    expect(intents.asked).toEqual(['retry l1']);
  });

  test('copies the reference and says so', async () => {
    const { intents } = open(failed);
    press('Copy reference 7K3M9QXA');
    await waitFor(() => expect(status()).toBe('Copied'));
    expect(intents.asked).toEqual(['copy 7K3M9QXA']);
  });

  test('does not claim to have copied when it could not', async () => {
    const { intents } = open(failed);
    intents.clipboard = false;
    press('Copy reference 7K3M9QXA');
    await Promise.resolve();
    flushSync();
    expect(button('Copy reference 7K3M9QXA').textContent?.trim()).toBe('Copy');
  });

  test('is put aside, and found again on the overview', () => {
    open(failed);
    press('Back to overview');
    expect(heading()).toBe('Overview');
    press('Show what happened');
    expect(heading()).toBe('The encounter did not open');
  });

  test('offers no retry where none would help', () => {
    open(wire({ launch: wireLaunch('failed', { problem: { ...unreachable, code: 'provider_mismatch' } }) }));
    expect(page.queryByRole('button', { name: 'Try again' })).toBeNull();
    expect(button('Back to overview')).toBeTruthy();
  });

  test('offers to sign in again when signing in failed', () => {
    const { intents } = open(wire({ sign_in: { ...signedOut, problem: { ...unreachable, code: 'signin_failed' } }, recents: [] }));
    expect(heading()).toBe('You are not signed in');
    press('Sign in');
    expect(intents.asked).toEqual(['sign-in']);
  });
});

describe('without an agent', () => {
  test('waits quietly at first', () => {
    open(null);
    expect(page.getByText('Connecting to Encounter Launcher')).toBeTruthy();
    expect(page.queryByRole('button')).toBeNull();
  });

  test('says that the program does not answer, and comes back by itself', () => {
    const { shown } = open(wire());
    shown.agent = 'agent_unreachable';
    flushSync();
    expect(heading()).toBe('The program does not answer');
    expect(page.queryByRole('button')).toBeNull();
    shown.agent = 'reachable';
    flushSync();
    expect(heading()).toBe('Overview');
  });

  test('says so too when no snapshot ever came', () => {
    const { shown } = open(null);
    shown.agent = 'agent_unreachable';
    flushSync();
    expect(heading()).toBe('The program does not answer');
  });
});

describe('about', () => {
  test('shows the versions and the organisation, and leads back', () => {
    open(wire({ version: '1.2.4', organization_name: '' }));
    press('About');
    expect(page.getByText('1.2.3')).toBeTruthy();
    expect(page.getByText('1.2.4')).toBeTruthy();
    expect(page.getByText('Not set')).toBeTruthy();
    press('Overview');
    expect(heading()).toBe('Overview');
  });

  test('quits', () => {
    const { intents } = open(wire());
    press('About');
    press('Quit Encounter Launcher');
    expect(intents.asked).toEqual(['quit']);
  });
});

describe('workstation', () => {
  test.each([
    ['reachable', undefined, /server answers/],
    ['unknown', undefined, /not been asked yet/],
    ['trouble', unreachable, /Check the network connection/],
    ['trouble', undefined, /does not answer as it should/],
  ])('says what is known of the server: %s', (state, problem, want) => {
    open(wire({ backend: { state, ...(problem === undefined ? {} : { problem }) } }));
    expect(page.getAllByText(want)).toHaveLength(state === 'trouble' && problem === undefined ? 2 : 1);
  });

  test.each([
    ['other', 'Links from the EHR open with another program.'],
    ['nobody', 'Links from the EHR open with no program.'],
  ])('says that the links do not come here any more, and what to do: %s', (state, want) => {
    open(wire({ link: { state } }));
    expect(page.getByText(want)).toBeTruthy();
    expect(page.getByText(/Tell the IT help desk/)).toBeTruthy();
  });

  test.each(['ours', 'unknown', 'of a newer agent'])('says nothing of links that nothing is amiss with: %s', (state) => {
    open(wire({ link: { state } }));
    expect(page.queryByText(/Links from the EHR/)).toBeNull();
  });

  test('says who manages it and opens the help desk', () => {
    const { intents } = open(wire());
    expect(page.getByText('Managed by Riverside Hospital')).toBeTruthy();
    press('Help desk');
    expect(intents.asked).toEqual(['help-desk']);
  });

  test('has no help desk where none is set', () => {
    open(wire({ help_desk_url: '' }));
    expect(page.queryByRole('button', { name: 'Help desk' })).toBeNull();
  });

  test('says what a shared computer does', () => {
    open(wire({ workstation: { shared: true, sign_out_on_lock: true, idle_sign_out_minutes: 15 } }));
    expect(page.getByText(/^Shared workstation/)).toBeTruthy();
    expect(page.getByText('You are signed out when the screen locks.')).toBeTruthy();
    expect(page.getByText('You are signed out after 15 min without use.')).toBeTruthy();
  });

  test('says when the sign-in ends', () => {
    open(wire({ sign_in: { ...signedIn, ends_at: '2026-03-04T18:00:00' } }));
    expect(page.getByText('Your sign-in ends: 18:00')).toBeTruthy();
  });
});

describe('sign-in page', () => {
  test('says how long it waits and opens the page again', () => {
    const { intents } = open(wire({ sign_in: signingIn }));
    expect(page.getByRole('timer').textContent).toBe('Waiting for 12 s');
    press('Open the page again');
    expect(intents.asked).toEqual(['show-sign-in']);
  });

  test('offers no page that cannot be shown', () => {
    open(wire({ sign_in: { ...signingIn, page_open: false } }));
    expect(page.queryByRole('button', { name: 'Open the page again' })).toBeNull();
  });
});

describe('settings', () => {
  const at = (changes: Partial<view.Snapshot> = {}) => {
    const opened = open(wire(changes));
    press('Settings');
    return { ...opened, change: (settings: view.Setting[]) => opened.send(wire({ ...changes, settings })) };
  };

  test('shows each choice in its own words and which is in force', () => {
    at();
    expect(heading()).toBe('Settings');
    const language = within(page.getByRole('group', { name: 'Language' }));
    const names = language.getAllByRole('button').map((b) => [b.textContent?.trim(), b.getAttribute('aria-pressed')]);
    expect(names).toEqual([
      ['As the system', 'true'],
      ['English', 'false'],
      ['Français', 'false'],
      ['Español', 'false'],
      ['Deutsch', 'false'],
    ]);
    expect(language.getByText('Français').lang).toBe('fr');
    expect(language.getByText("The program's default.")).toBeTruthy();
  });

  test('shows what a policy has set as locked, with who has set it', () => {
    at();
    const autostart = within(page.getByRole('group', { name: 'Start when you log on' }));
    expect(autostart.queryByRole('button')).toBeNull();
    expect(autostart.getByText('No')).toBeTruthy();
    expect(autostart.getByText('(Locked)')).toBeTruthy();
    expect(autostart.getByText('Set by your organisation for this computer.')).toBeTruthy();
  });

  test('asks for a choice, shows it as pending and then as the snapshot has it', async () => {
    const { intents, change } = at();
    press('Deutsch');
    expect(intents.asked).toEqual(['choose Language=de']);
    expect(page.getByText('Being changed')).toBeTruthy();
    expect(button('Deutsch').getAttribute('aria-pressed')).toBe('false');
    await waitFor(() => expect(button('Deutsch').getAttribute('aria-disabled')).toBeNull());
    const [language, ...others] = wire().settings;
    change([{ ...language!, value: 'de', source: "person's choice" }, ...others]);
    expect(button('Deutsch').getAttribute('aria-pressed')).toBe('true');
    expect(page.queryByText('Being changed')).toBeNull();
    expect(status()).toBe('Changed');
    press('Back to default: Language');
    expect(intents.asked.at(-1)).toBe('choose Language=');
  });

  test('says why a choice was refused and shows what is in force', async () => {
    const { intents } = at();
    intents.refusal = { code: 'request_invalid', sentence: 'x', nextStep: 'y', reference: 'ABCDEFGH' };
    press('None');
    await waitFor(() => expect(page.getByText(/ABCDEFGH/)).toBeTruthy());
    expect(page.queryByText('Being changed')).toBeNull();
    expect(button('Only problems').getAttribute('aria-pressed')).toBe('true');
  });

  test('asks for nothing that is chosen already', () => {
    const { intents } = at();
    press('Only problems');
    press('As the system');
    expect(intents.asked).toEqual([]);
  });

  test('takes back what only the person chose', () => {
    const { intents } = at();
    expect(page.queryByRole('button', { name: 'Back to default: Language' })).toBeNull();
    press('Back to default: Notices');
    expect(intents.asked).toEqual(['choose Notices=']);
  });

  test.each([
    ['user policy', /for your account/],
    ['installer defaults', /installed it/],
    ['safest value', /safest one holds/],
    ['the moon', 'the moon'],
  ])('tells the source %s in words', (source, want) => {
    at({ settings: [{ key: 'Language', kind: 'choice', value: 'fr', choices: ['fr'], locked: true, source }] });
    expect(page.getByText(want)).toBeTruthy();
  });

  test('shows a setting of a newer agent by its key', () => {
    const { intents } = at({ settings: [{ key: 'Sound', kind: 'choice', value: 'a', choices: ['a', 'b'], locked: false, source: 'built-in default' }] });
    press('b');
    expect(intents.asked).toEqual(['choose Sound=b']);
  });

  test('says when there is nothing to choose', () => {
    at({ settings: [] });
    expect(page.getByText('There is nothing to choose here.')).toBeTruthy();
  });
});

describe('diagnostics', () => {
  const at = (changes: Partial<view.Snapshot> = {}) => {
    const opened = open(wire(changes));
    press('Diagnostics');
    return opened;
  };
  const lines = () => Array.from(document.querySelectorAll('.line')).map((l) => Array.from(l.children).map((c) => c.textContent).join(': '));

  test('says what is known before anything was checked, and checks', () => {
    const { intents } = at({ keyring: { code: 'keyring_locked' }, policy: { ok: false, problems: ['LogLevel is unknown.'], refuses_launches: false } });
    expect(lines()).toEqual([
      "Organisation's policy: Needs attention",
      'Password store: Needs attention',
      'Links from the EHR: Not checked yet',
      'Sign-in service: In order',
      "Organisation's server: In order",
    ]);
    expect(page.getByText('LogLevel is unknown.')).toBeTruthy();
    expect(page.getByText("The computer's password store is locked.")).toBeTruthy();
    press('Check now');
    expect(intents.asked).toEqual(['check']);
  });

  test('shows and tells how far it is, and starts no second one', () => {
    const { intents } = at({ checkup: wireCheckup({ link: 'running', sign_in: 'waiting', backend: 'waiting' }, true) });
    expect(status()).toBe('Checked: 2 of 5');
    expect(lines()[2]).toBe('Links from the EHR: Being checked');
    press('Check now');
    expect(intents.asked).toEqual([]);
  });

  test('says what needs attention and what to do', () => {
    at({ checkup: wireCheckup({ sign_in: 'problem', backend: 'skipped', link: 'odd' }) });
    expect(status()).toBe('Needs attention: 1 of 5');
    expect(lines()[4]).toMatch(/Skipped/);
    expect(lines()[2]).toMatch(/Not checked yet/);
    expect(page.getByText(unreachable.sentence)).toBeTruthy();
    expect(page.getByText(unreachable.next_step)).toBeTruthy();
    expect(page.getByText(/7K3M9QXA/)).toBeTruthy();
  });

  test('says that all is well', () => {
    at({ checkup: wireCheckup() });
    expect(page.getByText('Everything is in order.', { selector: 'p' })).toBeTruthy();
  });

  test('copies a summary without a name, an address or a label', async () => {
    const { intents } = at({
      launch: wireLaunch('failed', { label: 'M. K.', problem: unreachable, started_at: '2026-03-03T09:00:00' }),
      checkup: wireCheckup({ backend: 'problem' }),
      version: '1.2.4',
    });
    press('Copy a summary');
    await waitFor(() => expect(status()).toBe('Copied'));
    const text = intents.asked[0] ?? '';
    for (const told of ['1.2.3', '1.2.4', 'launch failed org_unreachable 7K3M9QXA', 'check backend problem org_unreachable', 'keyring ok']) {
      expect(text).toContain(told);
    }
    expect(text).not.toMatch(/amara|riverside|M\. K\.|J\. D\.|:\/\/|@/i);
  });

  const examination = () =>
    within(page.getByRole('main')).getAllByRole('heading', { level: 3 }).map((h) => [h.textContent, ...within(h.parentElement as HTMLElement).getAllByRole('listitem').map((i) => i.querySelector('.line')?.textContent)]);

  test('shows the examination of the computer by groups, with what was found and what to do', () => {
    const { intents } = at({ checkup: wireCheckup(), doctor: wireDoctor({ clock: 'warning', scheme: 'broken', tls: 'skipped' }) });
    expect(status()).toBe('Needs attention: 2 of 8');
    expect(examination()).toEqual([
      ['This computer', 'PolicyIn order', 'Files and diskIn order', 'Links from the EHRNeeds attention', 'Password storeIn order'],
      ['Network', 'Names of the serversIn order', 'Secure connectionsSkipped', 'ClockWorth a look'],
      ['Services', "Organisation's serverIn order"],
    ]);
    expect(page.getByText('Clock is off by 45 seconds.')).toBeTruthy();
    expect(page.getAllByText('Let the computer set its clock by the network.')).toHaveLength(3);
    expect(page.queryByText('Policy is off by 45 seconds.')).toBeNull();
    press('Check now');
    expect(intents.asked).toEqual(['check']);
  });

  test('shows the examination as it goes on, tells how far it is, and starts no second one', () => {
    const { intents, send } = at({ checkup: wireCheckup(), doctor: wireDoctor({ tls: 'waiting', backend: 'waiting' }, true) });
    expect(status()).toBe('Checked: 6 of 8');
    press('Check now');
    expect(intents.asked).toEqual([]);
    send(wire({ checkup: wireCheckup(), doctor: wireDoctor({ backend: 'waiting' }, true) }));
    expect(status()).toBe('Checked: 7 of 8');
    send(wire({ checkup: wireCheckup(), doctor: wireDoctor() }));
    expect(status()).toBe('Everything is in order.');
  });

  test('shows a check of a newer agent among the others, and its unknown state as one to look at', () => {
    const doctor = wireDoctor();
    doctor.checks.push({ name: 'brain', title: 'Brain', group: 'body', state: 'odd', ms: 1, findings: [] } as unknown as (typeof doctor.checks)[number]);
    at({ doctor });
    expect(examination().at(-1)).toEqual(['Other checks', 'BrainWorth a look']);
    expect(status()).toBe('Needs attention: 1 of 9');
  });

  test('copies the codes of an examination and none of its words', async () => {
    const { intents } = at({ checkup: wireCheckup(), doctor: wireDoctor({ clock: 'broken' }) });
    press('Copy a summary');
    await waitFor(() => expect(status()).toBe('Copied'));
    expect(intents.asked[0]).toContain('doctor clock broken clock_code\n');
    expect(intents.asked[0]).not.toMatch(/seconds|Links from/);
  });

  test('does not claim to have copied when it could not', async () => {
    const { intents } = at();
    intents.clipboard = false;
    press('Copy a summary');
    await waitFor(() => expect(status()).toBe('The text could not be copied.'));
  });
});

describe('first run', () => {
  const first = wire({ first_run: true, sign_in: signedOut, recents: [] });

  test('says what this is, checks once and offers to sign in', () => {
    const { intents, send } = open(first);
    expect(heading()).toBe('Welcome to Encounter Launcher');
    expect(intents.asked).toEqual(['check']);
    send({ ...first, checkup: wireCheckup({ backend: 'problem' }) });
    expect(status()).toBe('Needs attention: 1 of 5');
    send({ ...first, sign_in: signingIn, checkup: wireCheckup() });
    send({ ...first, checkup: wireCheckup() });
    expect(heading()).toBe('Welcome to Encounter Launcher');
    press('Sign in');
    expect(intents.asked).toEqual(['check', 'sign-in']);
  });

  test('is put aside for as long as the window lives', () => {
    const { send } = open(first);
    press('Not now');
    expect(heading()).toBe('Overview');
    send({ ...first, revision: 2 });
    expect(heading()).toBe('Overview');
  });

  test('checks and offers nothing that policy hides', () => {
    const { intents } = open({ ...first, hidden: ['sign-in', 'diagnostics', 'recents'] });
    expect(intents.asked).toEqual([]);
    expect(page.queryByRole('button', { name: 'Sign in' })).toBeNull();
    expect(page.getAllByRole('listitem')).toHaveLength(2);
  });
});

describe('what policy hides', () => {
  test.each([
    ['sign-out', wire(), 'Sign out'],
    ['sign-in', wire({ sign_in: signedOut, recents: [] }), 'Sign in'],
    ['settings', wire(), 'Settings'],
    ['diagnostics', wire(), 'Diagnostics'],
  ])('%s is not there', (what, sent, name) => {
    const { send } = open(sent);
    expect(button(name)).toBeTruthy();
    send({ ...sent, hidden: [what] });
    expect(page.queryByRole('button', { name })).toBeNull();
  });

  test('recents are not there', () => {
    open(wire({ hidden: ['recents'] }));
    expect(page.queryByText('M. K.')).toBeNull();
    expect(page.queryByText('Recent encounters')).toBeNull();
  });

  test('quit is not there', () => {
    open(wire({ hidden: ['quit'] }));
    press('About');
    expect(page.queryByRole('button', { name: /Quit/ })).toBeNull();
  });

  test('sign-in helps against no problem', () => {
    open(wire({ hidden: ['sign-in'], sign_in: { ...signedOut, problem: { ...unreachable, code: 'signin_failed' } }, recents: [] }));
    expect(heading()).toBe('You are not signed in');
    expect(page.queryByRole('button', { name: 'Sign in' })).toBeNull();
  });
});

describe('getting about', () => {
  const escape = () => {
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true, cancelable: true }));
    flushSync();
  };

  test('names where one is, and moves the focus to the new heading', async () => {
    open(wire());
    const current = () => document.querySelector('[aria-current="page"]')?.textContent;
    expect(current()).toBe('Overview');
    for (const name of ['Settings', 'Diagnostics', 'About', 'Overview']) {
      press(name);
      expect(current()).toBe(name);
      await waitFor(() => expect(document.activeElement?.textContent).toBe(name));
      expect(document.activeElement?.tagName).toBe('H1');
    }
  });

  test('Escape leads back, and never ends a launch', () => {
    const { intents, send } = open(wire());
    press('Settings');
    escape();
    expect(heading()).toBe('Overview');
    send(wire({ launch: wireLaunch('failed', { problem: unreachable }) }));
    escape();
    expect(heading()).toBe('Overview');
    send(wire({ launch: wireLaunch('creating') }));
    escape();
    expect(heading()).toBe('Opening the encounter');
    send(wire({ sign_in: signingIn }));
    escape();
    expect(heading()).toBe('Sign in with your browser');
    expect(intents.asked).toEqual([]);
  });

  test('Escape puts a refusal away first', async () => {
    const { intents } = open(wire());
    press('Settings');
    intents.refusal = { code: 'internal', sentence: '', nextStep: '', reference: 'ABCDEFGH' };
    press('None');
    await waitFor(() => expect(page.getByText(/ABCDEFGH/)).toBeTruthy());
    escape();
    expect(page.queryByText(/ABCDEFGH/)).toBeNull();
    expect(heading()).toBe('Settings');
  });

  test.each([
    ['a launch', wire({ launch: wireLaunch('creating') })],
    ['a sign-in', wire({ sign_in: signingIn })],
  ])('%s has the window to itself', (_, sent) => {
    open(sent);
    expect(page.queryByRole('navigation')).toBeNull();
  });
});

describe('problem with more to do', () => {
  test('puts what most likely helps first, then the way back, the reference and the help desk', () => {
    const { intents } = open(wire({ launch: wireLaunch('failed', { problem: { ...unreachable, code: 'unauthorized' }, retryable: true, fresh_until: '2026-03-04T14:35:00' }) }));
    const names = within(page.getByRole('main')).getAllByRole('button').map((b) => b.textContent?.trim());
    expect(names).toEqual(['Sign in again', 'Try again', 'Get a fresh link', 'Back to overview', 'Copy', 'Help desk']);
    press('Get a fresh link');
    expect(intents.asked).toEqual(['fresh-link l1']);
  });
});

describe('hostile text', () => {
  const hostile = `<img src=x onerror="document.body.innerHTML=''"><b>bold</b>\u202e\u2066 two\nlines ${'Z' + '\u0301'.repeat(50)}${'W'.repeat(10_000)}`;
  const everywhere = wire({
    organization_name: hostile,
    help_desk_url: hostile,
    sign_in: { ...signedIn, person: { subject: '1', email: hostile } },
    policy: { ok: false, problems: [hostile], refuses_launches: true },
    recents: [{ id: 'r1', label: hostile, opened_at: '2026-03-04T14:18:00', status: hostile }],
    backend: { state: 'trouble', problem: { code: hostile, sentence: hostile, next_step: hostile, reference: hostile } },
    settings: [{ key: 'Language', kind: hostile, value: hostile, choices: [hostile, 'fr'], locked: true, source: hostile }],
    launch: wireLaunch('opened', { label: hostile, recent_id: 'r1' }),
  });
  const problem = { code: 'internal', sentence: hostile, next_step: hostile, reference: hostile };

  test.each([
    ['Settings', everywhere],
    ['Diagnostics', { ...everywhere, checkup: { ...wireCheckup(), checks: [{ name: hostile, state: 'problem', problem, ms: 1 }] } }],
    [
      'Diagnostics',
      {
        ...everywhere,
        doctor: { running: false, started_at: hostile, checks: [{ name: hostile, title: hostile, group: hostile, state: hostile, ms: 1, findings: [{ code: hostile, state: 'broken', sentence: hostile, next_step: hostile }] }] } as unknown as view.Doctor,
      },
    ],
    ['About', everywhere],
  ])('is inert and short on %s', (name, sent) => {
    open(sent);
    press(name);
    expect(document.querySelector('img, b')).toBeNull();
    const text = document.body.textContent ?? '';
    expect(text).not.toMatch(/[\u202a-\u202e\u2066-\u2069\u200b-\u200f]/);
    expect(text.length).toBeLessThan(5_000);
  });

  test('is inert among two hundred and when searched for', () => {
    open({ ...everywhere, recents: wireRecents(200).map((r) => ({ ...r, label: `${hostile} ${r.label}` })) });
    const field = page.getByRole<HTMLInputElement>('searchbox');
    field.value = hostile;
    field.dispatchEvent(new Event('input', { bubbles: true }));
    flushSync();
    expect(document.querySelector('img, b')).toBeNull();
  });

  test.each([
    ['overview', everywhere],
    ['launching', { ...everywhere, launch: wireLaunch('creating', { label: hostile, reopen: true }) }],
    ['problem', { ...everywhere, launch: wireLaunch('failed', { problem, retryable: true }) }],
    ['sign-in problem', { ...everywhere, sign_in: { ...signedOut, problem } }],
  ])('is inert and short on %s', (_, sent) => {
    open(sent);
    expect(document.querySelector('img, b')).toBeNull();
    const text = document.body.textContent ?? '';
    expect(text).toContain('<img src=x');
    expect(text).not.toMatch(/[\u202a-\u202e\u2066-\u2069\u200b-\u200f]/);
    expect(text).not.toMatch(/\u0301{4}/);
    expect(text.length).toBeLessThan(5_000);
    for (const element of document.querySelectorAll('[aria-label]')) {
      expect(element.getAttribute('aria-label')?.length).toBeLessThan(200);
    }
  });
});

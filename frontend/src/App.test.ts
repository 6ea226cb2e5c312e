import { render, screen as page, waitFor, within } from '@testing-library/svelte';
import { flushSync } from 'svelte';
import { describe, expect, test } from 'vitest';
import type { view } from '../wailsjs/go/models';
import App from './App.svelte';
import { readSnapshot } from './bridge/read';
import { Shown } from './state/snapshot.svelte';
import { FakeBridge, now, showing, signedOut, unreachable, wire, wireLaunch } from './testing/fakes';

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
    const rows = page.getAllByRole('listitem').map((row) => row.textContent?.replace(/\s+/g, ' ').trim());
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

  test('offers a fresh address for the last encounter', () => {
    const { intents } = open(wire({ launch: wireLaunch('opened', { recent_id: 'r1' }) }));
    expect(page.getByText(/Opened in the browser at/)).toBeTruthy();
    press('Open it again');
    expect(intents.asked).toEqual(['open-recent r1']);
  });

  test('offers to retry what was cancelled', () => {
    const { intents } = open(wire({ launch: wireLaunch('cancelled', { retryable: true }) }));
    expect(page.getByText(/^Cancelled at/)).toBeTruthy();
    press('Try again');
    expect(intents.asked).toEqual(['retry']);
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
    open(wire({ sign_in: { state: 'signed_in', person: { subject: '1', email: '' }, memory_only: true } }));
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
    const rows = within(page.getByRole('list')).getAllByRole('listitem');
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
    expect(intents.asked).toEqual(['cancel']);
  });

  test('says when it is slow', () => {
    open(wire({ launch: wireLaunch('creating', { started_at: '2026-03-04T14:29:50' }) }));
    expect(page.getByText(/longer than usual/)).toBeTruthy();
    expect(page.getByRole('timer').textContent).toBe('10 s');
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
    const { intents } = open(wire({ sign_in: { state: 'signing_in', memory_only: false }, recents: [] }));
    expect(heading()).toBe('Sign in with your browser');
    expect(page.queryByText(/opens as soon as/)).toBeNull();
    press('Cancel');
    expect(intents.asked).toEqual(['cancel']);
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
    expect(intents.asked).toEqual(['retry']);
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
    press('Back to overview');
    expect(heading()).toBe('Overview');
  });

  test('quits', () => {
    const { intents } = open(wire());
    press('About');
    press('Quit Encounter Launcher');
    expect(intents.asked).toEqual(['quit']);
  });
});

describe('hostile text', () => {
  const hostile = `<img src=x onerror="document.body.innerHTML=''"><b>bold</b>\u202e\u2066 two\nlines ${'Z' + '\u0301'.repeat(50)}${'W'.repeat(10_000)}`;
  const everywhere = wire({
    organization_name: hostile,
    help_desk_url: hostile,
    sign_in: { state: 'signed_in', person: { subject: '1', email: hostile }, memory_only: false },
    policy: { ok: false, problems: [hostile], refuses_launches: true },
    recents: [{ id: 'r1', label: hostile, opened_at: '2026-03-04T14:18:00', status: 'opened' }],
    launch: wireLaunch('opened', { label: hostile, recent_id: 'r1' }),
  });
  const problem = { code: 'internal', sentence: hostile, next_step: hostile, reference: hostile };

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

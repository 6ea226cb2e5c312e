import type { Problem } from '../state/types';

/** What the person can ask for. Each resolves to null, or to why it was not taken on; none rejects. */
export interface Intents {
  signIn(): Promise<Problem | null>;
  /** Opens the waiting sign-in page once more. */
  showSignIn(): Promise<Problem | null>;
  signOut(): Promise<Problem | null>;
  openRecent(id: string): Promise<Problem | null>;
  removeRecent(id: string): Promise<Problem | null>;
  clearRecents(): Promise<Problem | null>;
  undoRemove(): Promise<Problem | null>;
  /** Ends the launch that the person sees; empty only to end a sign-in. */
  cancel(launch: string): Promise<Problem | null>;
  /** Tries the failed launch again that the person sees. */
  retry(launch: string): Promise<Problem | null>;
  /** Opens the encounter of the launch that the person sees through a fresh address. */
  freshLink(launch: string): Promise<Problem | null>;
  /** Keeps a choice of the person; an empty value takes it back. */
  choose(key: string, value: string): Promise<Problem | null>;
  /** Looks at the set-up. */
  check(): Promise<Problem | null>;
  openHelpDesk(): Promise<Problem | null>;
  quit(): Promise<Problem | null>;
  /** Puts a text on the clipboard and reports whether that worked. */
  copy(text: string): Promise<boolean>;
}

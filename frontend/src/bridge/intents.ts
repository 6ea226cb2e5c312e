import type { Problem } from '../state/types';

/** What the person can ask for. Each resolves to null, or to why it was not taken on; none rejects. */
export interface Intents {
  signIn(): Promise<Problem | null>;
  signOut(): Promise<Problem | null>;
  openRecent(id: string): Promise<Problem | null>;
  cancel(): Promise<Problem | null>;
  retry(): Promise<Problem | null>;
  quit(): Promise<Problem | null>;
  /** Puts a text on the clipboard and reports whether that worked. */
  copy(text: string): Promise<boolean>;
}

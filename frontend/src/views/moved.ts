/** A row that changed its place less than so many milliseconds ago takes no pointer press. */
export const settledAfter = 1_000;

/** Returns the rows of next that stand where another row stood before. */
export function moved(before: readonly string[], next: readonly string[]): string[] {
  return next.filter((id, i) => before[i] !== undefined && before[i] !== id);
}

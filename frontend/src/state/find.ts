// Finding recent encounters by typing: beginnings of words in any order,
// whatever their case, accents and punctuation.

const marks = /\p{M}/gu;
const dots = /[.·'’]/g;
const between = /[\s,;()/_–—-]+/g;

/** Returns a text as it is compared: words in lower case between single spaces, without accents and dots. */
export function folded(text: string): string {
  return text
    .normalize('NFKD')
    .replace(marks, '')
    .toLowerCase()
    .replaceAll('ß', 'ss')
    .replace(dots, '')
    .replace(between, ' ')
    .trim();
}

/** Returns what an entry is found by; initials also without the space between them. */
export function findable(label: string, status: string, time: string): string {
  const name = folded(label);
  return ` ${name} ${name.replaceAll(' ', '')} ${folded(status)} ${folded(time)}`;
}

/** Returns a test whether a findable text holds a word for every part of what was typed. */
export function finder(typed: string): (text: string) => boolean {
  const parts = folded(typed.slice(0, 200)).split(' ').filter((p) => p !== '').map((p) => ` ${p}`);
  return (text) => parts.every((p) => text.includes(p));
}

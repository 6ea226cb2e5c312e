// Text from outside (labels, names, sentences of a newer agent) is made inert
// here, once, before any view sees it. Svelte escapes markup; this removes what
// escaping does not: characters that reorder, hide or stretch the text around them.

const lineBreaks = /[\t\n\v\f\r\u0085\u2028\u2029]+/g;
// As internal/view/inert.go drops them, so that tray and window show the same.
const invisible = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\p{Default_Ignorable_Code_Point}\p{Variation_Selector}\ufffd]/gu;
const stackedMarks = /(\p{M}{3})\p{M}+/gu;

// Most texts are of these alone and need nothing of what follows, of which the first
// use takes the webview some milliseconds.
const plain = /^[!-~]+(?: [!-~]+)*$/;

/** Returns the text on one line, without control and direction characters, cut to so many characters. */
export function inert(text: unknown, longest: number): string {
  if (typeof text !== 'string') return '';
  if (text.length <= longest && plain.test(text)) return text;
  // Cut first, so that a very long text costs nothing.
  const clean = text
    .slice(0, longest * 8)
    .replace(lineBreaks, ' ')
    .replace(invisible, '')
    .replace(stackedMarks, '$1')
    .replace(/\s+/g, ' ')
    .trim();
  const characters = Array.from(clean);
  if (characters.length <= longest && text.length <= longest * 8) return clean;
  return `${characters.slice(0, longest - 1).join('').trimEnd()}…`;
}

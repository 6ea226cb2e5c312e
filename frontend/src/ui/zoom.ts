// A webview in a program window has no zoom of its own. Every measure of the
// page is in rem, so the root's font size zooms text and layout alike.

const levels = [100, 125, 150, 175, 200, 250, 300, 400] as const;

/** Returns the zoom in per cent after a key, or null when the key does not zoom. */
export function zoomAfter(key: string, percent: number): number | null {
  switch (key) {
    case '+':
    case '=':
      return levels.find((l) => l > percent) ?? 400;
    case '-':
      return levels.findLast((l) => l < percent) ?? 100;
    case '0':
      return 100;
    default:
      return null;
  }
}

/** Lets Ctrl with +, - or 0, and Ctrl with the wheel, zoom the page. */
export function zoomWithKeys(document: Document): void {
  let percent = 100;
  const zoom = (event: Event, key: string) => {
    const next = zoomAfter(key, percent);
    if (next === null) return;
    event.preventDefault();
    percent = next;
    document.documentElement.style.fontSize = `${percent}%`;
  };
  document.addEventListener('keydown', (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey) zoom(event, event.key);
  });
  // A touchpad turns the wheel by very little, very often.
  let turned = 0;
  document.addEventListener(
    'wheel',
    (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      turned += event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * 40;
      if (Math.abs(turned) < 60) return;
      zoom(event, turned < 0 ? '+' : '-');
      turned = 0;
    },
    { passive: false },
  );
}

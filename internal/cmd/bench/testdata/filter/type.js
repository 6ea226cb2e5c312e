// Types words into the search field and takes them out again, each key at the
// beginning of a frame, and measures two times of every key: until the page has
// changed and is laid out, and until the frame is over.
(async () => {
  const done = (told) => window.runtime.EventsEmit('measured', JSON.stringify(told));
  const frame = () => new Promise((go) => requestAnimationFrame(go));
  const task = () =>
    new Promise((go) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = go;
      port2.postMessage(0);
    });
  const nobody = 'zzz';
  const laidOut = [];
  const framed = [];
  const rows = () => Array.from(document.querySelectorAll('li')).filter((row) => row.offsetHeight > 0).length;

  let field = null;
  let wrong = '';
  for (let frames = 0; field === null; frames++) {
    if (frames === 600) return done({ fault: 'the page shows no search field' });
    await frame();
    field = document.querySelector('input[type=search]');
  }
  // The page builds the rows in its first frames, and draws what is near the view.
  const held = () => document.querySelectorAll('li[data-id]').length;
  for (let frames = 0; frames < 600 && held() < 200; frames++) await frame();
  if (held() < 200) return done({ fault: 'the page does not hold the 200 recents' });
  const all = rows();
  const none = document.querySelectorAll('li:not([data-id])').length;
  const key = async (text) => {
    await frame();
    const began = performance.now();
    field.value = text;
    field.dispatchEvent(new InputEvent('input', { bubbles: true }));
    // What the page puts off until the script has ended, it does now.
    for (let turn = 0; turn < 4; turn++) await null;
    void document.body.offsetHeight;
    laidOut.push(performance.now() - began);
    if (text === nobody && rows() > none) wrong = 'the list is not filtered when the key has been heard';
    await task();
    framed.push(performance.now() - began);
  };

  const words = ['anderson', 'amara', nobody, 'gar', 'NGUYEN', 'elise', '👩🏽', 'e'];
  for (const word of ['warm', ...words]) {
    if (word === words[0]) laidOut.length = framed.length = 0;
    const letters = Array.from(word);
    for (let n = 1; n <= letters.length; n++) await key(letters.slice(0, n).join(''));
    for (let n = letters.length - 1; n >= 0; n--) await key(letters.slice(0, n).join(''));
    if (rows() < Math.min(all, 30)) return done({ fault: 'the list does not come back' });
  }
  done({ fault: wrong, laid_out: laidOut, framed });
})();

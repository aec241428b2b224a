// Fills each element with data-panel (the address of a page of ours) with what that page has in #panel, and again when its
// data-version changes: for what takes too long to be part of the page itself. The element's own content is a link there.
const REST = 5000; // ms between two looks
const shown = new WeakMap(); // element → what it shows
const source = new WeakMap(); // element → the HTML it came from
const busy = new WeakSet(); // elements that are being filled, or rest

export function fill(root) {
  for (const element of root.querySelectorAll("[data-panel]")) load(element);
}

async function load(element) {
  const wanted = `${element.dataset.panel} ${element.dataset.version}`;
  if (shown.get(element) === wanted || busy.has(element)) return;
  busy.add(element);
  try {
    const answer = await fetch(element.dataset.panel);
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const panel = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("panel");
    if (source.get(element) !== panel.innerHTML) element.replaceChildren(...document.importNode(panel, true).childNodes);
    source.set(element, panel.innerHTML);
    shown.set(element, wanted);
  } catch (problem) {
    if (!source.has(element)) element.firstElementChild.textContent = `${element.dataset.failed}: ${problem.message}`;
  }
  setTimeout(() => {
    busy.delete(element);
    if (element.isConnected) load(element);
  }, REST);
}

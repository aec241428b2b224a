// Keeps a page current: asks the server for the page again and exchanges only what differs, so that nothing flickers.
//
//   data-poll="ms"       on <body>: how often
//   data-live            a region, with an id, that is exchanged when its source differs
//   data-live="keyed"    a region whose children, each with a data-key, are exchanged one by one
//   data-keep            an element, with an id, that stays as it is within a region; only its attributes follow

const source = new WeakMap(); // element → the HTML it came from; scripts may have changed it since

export function poll(changed) {
  const every = () => Number(document.body.dataset.poll ?? 0);
  let tag = null;
  let failures = 0;
  remember(document);

  async function again() {
    if (!document.hidden) {
      try {
        const answer = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
        if (answer.status === 200) {
          tag = answer.headers.get("ETag");
          exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
          changed();
        }
        report(answer.status < 400 ? "" : `Not updating: HTTP ${answer.status}`);
        failures = answer.status < 400 ? 0 : failures + 1;
      } catch {
        failures += 1;
        report("Not updating: the recorder does not answer");
      }
    }
    if (every()) setTimeout(again, every() * Math.min(2 ** failures, 16));
  }
  if (every()) setTimeout(again, every());
}

function report(text) {
  const place = document.getElementById("connection");
  if (place && place.textContent !== text) place.textContent = text;
}

function remember(root) {
  for (const region of root.querySelectorAll("[data-live]")) {
    source.set(region, region.innerHTML);
    if (region.dataset.live === "keyed") for (const child of region.children) source.set(child, child.outerHTML);
  }
}

function exchange(next) {
  remember(next);
  if (next.body.dataset.poll) document.body.dataset.poll = next.body.dataset.poll;
  else delete document.body.dataset.poll;
  for (const region of next.querySelectorAll("[data-live]")) {
    const current = document.getElementById(region.id);
    if (!current || source.get(current) === source.get(region)) continue;
    if (region.dataset.live === "keyed") keyed(current, region);
    else whole(current, region);
    source.set(current, source.get(region));
  }
}

function whole(current, next) {
  const focus = document.activeElement?.closest?.("[data-keep]") ? null : document.activeElement?.getAttribute?.("href");
  const held = current.contains(document.activeElement);
  const kept = new Map([...current.querySelectorAll("[data-keep]")].map((element) => [element.id, element]));
  const fresh = document.importNode(next, true);
  for (const stand of fresh.querySelectorAll("[data-keep]")) {
    const element = kept.get(stand.id);
    if (!element) continue;
    for (const { name, value } of stand.attributes) if (name.startsWith("data-")) element.setAttribute(name, value);
    stand.replaceWith(element);
  }
  // What is nested and live in itself was brought up to date with the rest.
  current.replaceChildren(...fresh.childNodes);
  for (const region of current.querySelectorAll("[data-live]")) {
    source.set(region, region.innerHTML);
    for (const child of region.children) source.set(child, child.outerHTML);
  }
  if (held && focus) [...current.querySelectorAll("a[href]")].find((a) => a.getAttribute("href") === focus)?.focus();
}

function keyed(current, next) {
  const bottom = current.scrollHeight - current.scrollTop - current.clientHeight < 40;
  const old = new Map([...current.children].map((child) => [child.dataset.key, child]));
  const children = [...next.children].map((child) => {
    const known = old.get(child.dataset.key);
    if (known && source.get(known) === source.get(child)) return known;
    const fresh = document.importNode(child, true);
    source.set(fresh, source.get(child));
    if (known) {
      const open = [...known.querySelectorAll("details")].map((details) => details.open);
      fresh.querySelectorAll("details").forEach((details, number) => { details.open = open[number] ?? false; });
    }
    return fresh;
  });
  const same = children.length === current.children.length && children.every((child, n) => child === current.children[n]);
  if (!same) {
    const top = current.scrollTop;
    current.replaceChildren(...children);
    current.scrollTop = bottom ? current.scrollHeight : top;
  }
}

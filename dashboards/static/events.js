// A session's events: a window onto a list that may have a hundred thousand rows. Text only, never HTML.
import { clock } from "./times.js";

const PAGE = 100;
const MOST = 500;
const STREAMS = ["*.delta", "*.append"];
const ARROWS = { client: "→", server: "←", recorder: "•" };
const SAYS = { client: "client to server", server: "server to client", recorder: "recorder" };

export function eventList(list, filters) {
  const words = list.dataset;
  const earlier = more(words.earlier, () => load("earlier"));
  const later = more(words.later, () => load("later"));
  const rows = document.createElement("div");
  const empty = element("p", "muted pad", words.none);
  list.replaceChildren(earlier, rows, empty, later);
  let busy = false;
  let generation = 0;

  function address(parameters) {
    const url = new URL(words.source, location.href);
    const direction = filters.querySelector("[name=direction]").value;
    const type = filters.querySelector("[name=type]").value;
    const streams = filters.querySelector("[name=streams]").checked;
    if (direction) url.searchParams.set("direction", direction);
    if (type) url.searchParams.append("type", type);
    else if (!streams) for (const name of STREAMS) url.searchParams.append("exclude", name);
    for (const [key, value] of Object.entries({ limit: PAGE, max_payload_bytes: 4000, ...parameters })) url.searchParams.set(key, value);
    return url;
  }

  async function fetched(parameters) {
    const answer = await fetch(address(parameters));
    if (!answer.ok) throw new Error(words.failed);
    return answer.json();
  }

  const edge = (row) => Number(row?.dataset.position ?? -1);

  async function load(where) {
    if (busy) return;
    busy = true;
    const mine = generation;
    try {
      const upwards = where === "earlier";
      const page = await fetched(upwards ? { before: edge(rows.firstElementChild) } : { after: edge(rows.lastElementChild) });
      if (mine !== generation) return;
      const height = list.scrollHeight;
      const fresh = page.data.map(row);
      if (upwards) {
        rows.prepend(...fresh);
        list.scrollTop += list.scrollHeight - height;
        while (rows.children.length > MOST) { rows.lastElementChild.remove(); later.hidden = false; }
        earlier.hidden = !page.more;
      } else {
        rows.append(...fresh);
        const grown = list.scrollHeight;
        while (rows.children.length > MOST) { rows.firstElementChild.remove(); earlier.hidden = false; }
        list.scrollTop -= grown - list.scrollHeight;
        later.hidden = !page.more;
      }
      empty.hidden = rows.children.length > 0;
    } catch {
      empty.textContent = words.failed;
      empty.hidden = false;
    } finally {
      busy = false;
    }
  }

  async function restart(position = null) {
    generation += 1;
    busy = false;
    rows.replaceChildren();
    earlier.hidden = true;
    empty.textContent = words.none;
    if (position === null) return load("later");
    const mine = generation;
    const before = await fetched({ before: position, limit: 20 });
    if (mine !== generation) return undefined;
    rows.append(...before.data.map(row));
    earlier.hidden = !before.more;
    return load("later");
  }

  async function pick(position) {
    const found = () => rows.querySelector(`[data-position="${position}"]`);
    if (!found()) await restart(position);
    if (!found()) {
      filters.querySelector("[name=direction]").value = "";
      filters.querySelector("[name=type]").value = "";
      filters.querySelector("[name=streams]").checked = true;
      await restart(position);
    }
    for (const other of rows.querySelectorAll(".picked")) other.classList.remove("picked");
    const event = found();
    if (!event) return;
    event.classList.add("picked");
    event.open = true;
    list.scrollTop = event.offsetTop - list.clientHeight / 3;
    list.scrollIntoView({ block: "nearest" });
    history.replaceState(null, "", `#event-${position}`);
  }

  function row(event) {
    const details = element("details", `event ${event.direction}`);
    if (event.type === "error") details.classList.add("error");
    if (event.type === "recorder.gap" && event.direction === "recorder") details.classList.add("gap");
    if (event.unknown) details.classList.add("unknown");
    details.dataset.position = event.position;
    const way = element("span", "way", ARROWS[event.direction]);
    way.title = SAYS[event.direction];
    const summary = document.createElement("summary");
    summary.append(
      element("span", "number", String(event.position)), element("span", "clock", clock(event.monotonic_ns)), way,
      element("bdi", "type", event.type ?? "?"), element("bdi", "gist", gist(event.payload)),
    );
    if (event.unknown) summary.lastChild.prepend(element("span", "drift", words.unknown), " ");
    details.append(summary);
    details.addEventListener("toggle", () => { if (details.open) open(details, event); });
    return details;
  }

  async function open(details, event) {
    if (details.querySelector("pre")) return;
    const text = element("pre", "", "…");
    text.dir = "ltr";
    details.append(text);
    try {
      let whole = event;
      if (event.payload === null && event.payload_bytes) {
        const answer = await fetch(`${words.source}/${event.position}`);
        if (!answer.ok) throw new Error(words.failed);
        whole = await answer.json();
      }
      text.textContent = typeof whole.payload === "string" ? whole.payload : JSON.stringify(whole.payload, null, 2);
    } catch (problem) {
      text.textContent = problem.message;
    }
  }

  filters.addEventListener("change", () => restart());
  document.addEventListener("pick", ({ detail }) => pick(detail));
  document.addEventListener("click", (click) => {
    const link = click.target.closest?.("a[data-position]");
    if (!link) return;
    click.preventDefault();
    pick(Number(link.dataset.position));
  });
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting && !target.hidden) target.click();
  }, { root: list, rootMargin: "200px" });
  seen.observe(later);

  // A running session: events that arrive while the end is shown are appended.
  const count = document.getElementById("event-count");
  if (count) new MutationObserver(() => { if (later.hidden) load("later"); }).observe(count, { childList: true, characterData: true, subtree: true });

  const named = /^#event-(\d+)$/.exec(location.hash);
  if (named) pick(Number(named[1]));
  else restart();
}

function more(text, action) {
  const button = element("button", "more", text);
  button.type = "button";
  button.hidden = true;
  button.addEventListener("click", action);
  return button;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// The few words of a payload that tell an event from its neighbours.
function gist(payload) {
  if (payload === null || typeof payload !== "object") return String(payload ?? "").slice(0, 120);
  const found = payload.error?.message ?? payload.delta ?? payload.transcript ?? payload.text ?? payload.name
    ?? payload.item?.type ?? payload.response?.status ?? payload.session?.model ?? payload.reason ?? payload.item_id ?? payload.response_id ?? "";
  return typeof found === "string" ? found.slice(0, 120) : "";
}

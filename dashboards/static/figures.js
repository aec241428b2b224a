// Draws each element with data-figure (the address of a Plotly figure), and again when its data-version changes.
const dark = matchMedia("(prefers-color-scheme: dark)");
const settings = { displaylogo: false, responsive: true, displayModeBar: false, doubleClick: "reset" };
const drawn = new WeakMap(); // element → what it shows
const busy = new WeakSet(); // elements whose figure is under way; what is newer by then comes with the next look

dark.addEventListener("change", () => draw(document));

export function draw(root) {
  for (const element of root.querySelectorAll("[data-figure]")) show(element);
}

async function show(element) {
  if (element.offsetParent === null || busy.has(element)) return;
  const address = new URL(element.dataset.figure, location.href);
  address.searchParams.set("scheme", dark.matches ? "dark" : "light");
  const wanted = `${address} ${element.dataset.version}`;
  if (drawn.get(element) === wanted) return;
  busy.add(element);
  element.classList.toggle("loading", !drawn.has(element));
  try {
    const [figure] = await Promise.all([fetch(address).then(read), plotly()]);
    if (figure.layout.xaxis?.type === "date") intoLocalTime(figure);
    await globalThis.Plotly.react(element, figure.data, figure.layout, settings);
    drawn.set(element, wanted);
    element.classList.remove("failed");
    if (!element.dataset.clickable) listen(element);
  } catch (problem) {
    element.dataset.failure = `This chart could not be drawn: ${problem.message}`;
    element.classList.add("failed");
  } finally {
    busy.delete(element);
    element.classList.remove("loading");
  }
}

// Plotly knows no time zones: what it shows as UTC is moved by the reader's offset.
function intoLocalTime({ data, layout }) {
  const local = (ms) => ms - new Date(ms).getTimezoneOffset() * 60_000;
  for (const trace of data) trace.x = trace.x.map(local);
  layout.xaxis.range = layout.xaxis.range.map(local);
}

async function read(answer) {
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error?.message ?? `HTTP ${answer.status}`);
  return body;
}

function plotly() {
  if (globalThis.Plotly) return Promise.resolve();
  return new Promise((done) => addEventListener("load", done, { once: true }));
}

// A click on anything drawn names the event behind it.
function listen(element) {
  element.dataset.clickable = "yes";
  element.on("plotly_click", ({ points }) => {
    const position = points[0]?.customdata?.[0];
    if (element.id === "figure-timeline" && Number.isInteger(position)) {
      document.dispatchEvent(new CustomEvent("pick", { detail: position }));
    }
    const [, session, at] = points[0]?.customdata ?? [];
    if (element.id === "figure-latency" && session) location.assign(`/sessions/${encodeURIComponent(session)}#event-${at}`);
  });
}

// What every page does: keep itself current, show times in the reader's zone, draw its figures.
import { poll } from "./live.js";
import { draw } from "./figures.js";
import { fill } from "./panels.js";
import { localise } from "./times.js";

function refresh() {
  localise(document);
  draw(document);
  fill(document);
}

refresh();
poll(refresh);

if (document.getElementById("events")) {
  const { eventList } = await import("./events.js");
  eventList(document.getElementById("events"), document.getElementById("event-filters"));
}

// Times come in UTC; readers want their own.
const shape = new Intl.DateTimeFormat(undefined, {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

export function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    time.title = time.textContent;
    time.textContent = shape.format(moment);
  }
}

export function clock(ns) {
  if (ns === null || ns === undefined) return "";
  const hundredths = Math.floor(ns / 1e7);
  const seconds = ((hundredths % 6000) / 100).toFixed(2).padStart(5, "0");
  const minutes = Math.floor(hundredths / 6000);
  return minutes < 60 ? `${minutes}:${seconds}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${seconds}`;
}

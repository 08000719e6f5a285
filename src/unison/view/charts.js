// What changes over the steps? Three small charts, one line for each trace.

const WIDE = 300, HIGH = 90;
const DASHES = ["", "7 4", "2 3", "9 3 2 3", "12 4", "1 5"];
const CHARTS = [
  ["committed", "decided positions", percent],
  ["revised", "tokens revised or taken back in a step", (value) => value.toFixed(0)],
  ["sure", "mean confidence of tokens written in a step", percent],
];

/** Return charts of traces: their element, and a function that moves their line. */
function chartsOf(traces, most, seek) {
  const made = CHARTS.map(([key, title, say]) => chartOf(traces, { key, title, say, most }, seek));
  return {
    element: make("div", { class: "charts" }, ...made.map((chart) => chart.element)),
    move: (clock) => made.forEach((chart) => chart.move(clock)),
  };
}

function chartOf(traces, { key, title, say, most }, seek) {
  const lines = traces.map((trace) => (trace.curves ??= curves(trace, trace.rows))[key]);
  const values = lines.flatMap((line) => line.filter((value) => value !== null));
  const top = key === "revised" ? values.reduce((a, b) => Math.max(a, b), 1) : 1;
  const picture = draw("svg", {
    viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true",
  });
  const now = make("div", { class: "now" });
  const plot = make("div", { class: "plot" }, picture, now);
  plot.addEventListener("pointerdown", (event) => {
    const edge = plot.getBoundingClientRect();
    seek(Math.round((most * (event.clientX - edge.left)) / edge.width));
  });
  const told = traces.map(() => make("span", { class: "value" }));
  const legend = traces.map((trace, i) => make("span", {}, badge(trace), " ", told[i]));
  const scale = make("div", { class: "scale" }, make("span", {}, "0"), make("span", {}, String(most)));
  const element = make(
    "figure", {},
    make("figcaption", {}, title, make("span", { class: "top" }, `to ${say(top)}`)),
    plot, scale, make("div", { class: "key" }, ...legend),
  );
  let drawn = "";
  const move = (clock) => {
    now.style.left = `${(100 * clock.at) / Math.max(clock.most, 1)}%`;
    const shape = `${clock.most} ${clock.sync}`;
    if (drawn !== shape) {
      drawn = shape;
      const share = (trace) => endOf(clock, trace) / Math.max(clock.most, 1);
      const shapes = traces.map((trace, i) => lineOf(lines[i], top, share(trace), trace.number));
      picture.replaceChildren(...shapes);
    }
    traces.forEach((trace, i) => {
      const value = lines[i][stepOf(clock, trace)] ?? null;
      told[i].textContent = value === null ? "–" : say(value);
    });
  };
  return { element, move };
}

/** Draw values from the first step on, so that the last lies at that share of the width. */
function lineOf(values, top, share, number) {
  const points = [];
  const width = (share * WIDE) / Math.max(values.length - 1, 1);
  values.forEach((value, step) => {
    if (value === null) return;
    points.push(`${(step * width).toFixed(2)},${(HIGH - 2 - (value / top) * (HIGH - 4)).toFixed(2)}`);
  });
  return draw("polyline", {
    points: points.join(" "),
    class: `line-${(number % 6) + 1}`,
    "stroke-dasharray": DASHES[number % DASHES.length],
  });
}

// A row as a picture: positions across, steps down, one point each.

const TALLEST = 512; // rows of points; of longer runs every so manieth step is drawn

/** Return a row's map: its element, and functions that draw it and move its line. */
function mapOf(trace, row, name, seek) {
  const every = Math.ceil((trace.last + 1) / TALLEST);
  const lines = Math.ceil((trace.last + 1) / every);
  const canvas = make("canvas", { width: row.length, height: lines, role: "img" });
  canvas.setAttribute("aria-label", `${name}: positions across, steps down`);
  const line = make("div", { class: "now" });
  const box = make("div", { class: "map" }, canvas, line);
  box.style.height = `${Math.min(Math.max(lines * 2, 48), 160)}px`;
  box.addEventListener("pointerdown", (event) => drag(event, box, trace, seek));
  const view = { box, drawn: "", wanted: "state", visible: false };
  view.move = (step) => {
    line.style.top = `${(100 * (step + 0.5)) / (trace.last + 1)}%`;
  };
  view.draw = (shade) => {
    view.wanted = shade;
    if (!view.visible || view.drawn === shade) return;
    view.drawn = shade;
    paint(canvas, trace, row, { shade, every });
  };
  return view;
}

function drag(event, box, trace, seek) {
  const go = (to) => {
    const edge = box.getBoundingClientRect();
    const share = (to.clientY - edge.top) / edge.height;
    seek(Math.min(Math.max(Math.floor(share * (trace.last + 1)), 0), trace.last));
  };
  box.setPointerCapture(event.pointerId);
  const done = new AbortController();
  box.addEventListener("pointermove", go, { signal: done.signal });
  for (const end of ["pointerup", "pointercancel"]) {
    box.addEventListener(end, () => done.abort(), { signal: done.signal });
  }
  go(event);
}

function paint(canvas, trace, row, { shade, every }) {
  const ink = inks(SHADES[shade].hue);
  const image = new ImageData(row.length, canvas.height);
  const point = new Uint32Array(image.data.buffer);
  for (let line = 0, at = 0; line < canvas.height; line++) {
    const sight = lookAt(trace, row, Math.min(line * every, trace.last));
    for (let place = 0; place < row.length; place++, at++) {
      point[at] = pointOf(trace, row, sight, place, shade, ink);
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function pointOf(trace, row, sight, place, shade, ink) {
  const state = sight.state[place];
  const sure = sight.sure[place];
  if (shade === "state") {
    return decided(state) || sure < 0 ? ink[state] : ink.guess[level(sure / FINE)];
  }
  if (shade === "uncertainty") return sure < 0 ? ink.none : ink.heat[level(bits(sure) / 8)];
  const value = SHADES[shade].value(trace, row, sight, place);
  return value < 0 ? ink.none : ink.heat[level(value)];
}

function level(value) {
  return Math.min(Math.max(Math.round(value * 31), 0), 31);
}

/** Return the page's colours as points: the states', the guesses' by confidence, the shades'. */
function inks(hue) {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => rgb(style.getPropertyValue(`--${name}`).trim());
  const paper = read("paper"), ink = read("ink"), faint = read("faint");
  const ramp = (end, from, to) =>
    Array.from({ length: 32 }, (_, i) => packed(mix(paper, end, from + ((to - from) * i) / 31)));
  const open = mix(paper, faint, 0.35);
  return {
    none: packed(open),
    given: packed(mix(paper, ink, 0.22)),
    open: packed(open),
    noise: packed(open),
    fresh: packed(read("hue-3")),
    written: packed(mix(paper, read("hue-3"), 0.28)),
    revised: packed(read("hue-2")),
    edited: packed(mix(paper, read("hue-2"), 0.4)),
    taken: packed(read("hue-4")),
    guess: ramp(read("hue-1"), 0.1, 0.75),
    heat: ramp(read(`hue-${hue}`), 0.08, 1),
  };
}

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function mix(one, other, share) {
  return one.map((value, i) => Math.round(value + (other[i] - value) * share));
}

function packed([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

// A row as text: one cell a token, as wide as the token that ends up there, so that nothing moves.

const LEVELS = 10;

/** Return a row's cells: their element, and a function that shows a sight in them. */
function cellsOf(trace, row, name) {
  const cells = new Array(row.length);
  const box = make("div", { class: "cells", role: "listbox", "aria-label": name });
  for (let place = 0; place < row.length; place++) {
    const token = tokenAt(row, place, trace.last);
    const text = shown(trace, token);
    const cell = make("span", { class: "cell", role: "option", tabindex: place ? -1 : 0 });
    cell.style.width = widthOf(text);
    cell.dataset.at = place;
    cells[place] = cell;
    box.append(cell);
    if (!trace.ends.has(token) && textOf(trace, token).endsWith("\n")) box.append(make("span", { class: "break" }));
  }
  const said = new Array(row.length).fill("");
  const seen = new Array(row.length).fill("");
  const view = { trace, row, box, cells, sight: null, differs: null, matches: null };
  view.show = (shade) => {
    box.className = `cells hue-${SHADES[shade].hue}${shade === "state" ? "" : " shaded"}`;
    for (let place = 0; place < row.length; place++) {
      const text = textAt(trace, view.sight, place);
      const look = lookOf(view, shade, place);
      if (text !== said[place]) cells[place].textContent = said[place] = text;
      if (look !== seen[place]) dress(cells[place], (seen[place] = look));
    }
  };
  return view;
}

const ruler = { widths: new Map(), pen: null, size: 16 };

/** Return the width of a text in a cell's font, for its style. */
function widthOf(text) {
  if (!ruler.pen) {
    const probe = make("div", { class: "cells" });
    document.body.append(probe);
    const { font, fontSize } = getComputedStyle(probe);
    probe.remove();
    ruler.pen = document.createElement("canvas").getContext("2d");
    ruler.pen.font = font;
    ruler.size = parseFloat(fontSize);
  }
  if (!ruler.widths.has(text)) {
    const wide = ruler.pen.measureText(text).width / ruler.size;
    ruler.widths.set(text, `${Math.max(wide + 0.01, 0.6).toFixed(3)}em`);
  }
  return ruler.widths.get(text);
}

/** What a cell says: its token, or the guess where none is decided. */
function textAt(trace, sight, place) {
  const state = sight.state[place];
  if (decided(state) || sight.token[place] !== trace.mask) return shown(trace, sight.token[place]);
  return sight.guess[place] < 0 ? "" : shown(trace, sight.guess[place]);
}

/** How a cell looks: its state, its shade or confidence in tenths, and its marks. */
function lookOf(view, shade, place) {
  const { sight, row, trace } = view;
  const state = sight.state[place];
  let value = SHADES[shade].value(trace, row, sight, place);
  if (shade === "state" && !decided(state) && sight.sure[place] >= 0) {
    value = sight.sure[place] / FINE;
  }
  const level = value < 0 ? "" : Math.round(value * LEVELS);
  const end = decided(state) && trace.ends.has(sight.token[place]) ? " end" : "";
  const differs = view.differs && view.differs[place] ? " differs" : "";
  const found = view.matches && view.matches.has(place) ? " found" : "";
  return `${level}|cell ${state}${end}${differs}${found}`;
}

function dress(cell, look) {
  const [level, names] = look.split("|");
  cell.className = names;
  if (level === "") delete cell.dataset.v;
  else cell.dataset.v = level;
}

/** Let arrows move between the cells of a box, which is one stop of the tab key. */
function walkable(view) {
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  view.box.addEventListener("keydown", (event) => {
    const at = Number(event.target.dataset?.at);
    if (Number.isNaN(at) || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = event.key in steps ? at + steps[event.key] : lineAway(view.cells, at, event.key);
    if (to === null) return;
    event.preventDefault();
    event.stopPropagation();
    focusCell(view, Math.min(Math.max(to, 0), view.cells.length - 1));
  });
}

/** Return the cell above or below one, or at an end; null for other keys. */
function lineAway(cells, at, key) {
  if (key === "Home") return 0;
  if (key === "End") return cells.length - 1;
  if (key !== "ArrowUp" && key !== "ArrowDown") return null;
  const from = cells[at], way = key === "ArrowUp" ? -1 : 1;
  let best = at, line = null;
  for (let i = at + way; i >= 0 && i < cells.length; i += way) {
    const top = cells[i].offsetTop;
    if (top === from.offsetTop) continue;
    line ??= top;
    if (top !== line) break;
    const nearer = (j) => Math.abs(cells[j].offsetLeft - from.offsetLeft);
    if (best === at || nearer(i) < nearer(best)) best = i;
  }
  return best;
}

function focusCell(view, place) {
  const old = view.box.querySelector('[tabindex="0"]');
  if (old) old.tabIndex = -1;
  view.cells[place].tabIndex = 0;
  view.cells[place].focus();
}

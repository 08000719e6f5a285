// The page: what is chosen, what is built from it, and what a step changes.

const ALL = "all";
const TOGETHER = 4; // traces that are shown side by side unless others are chosen
const state = { chosen: new Set(), row: ALL, shade: "state", sync: "step", unlike: true };
const board = { traces: [], panels: [], clock: null, controls: null, charts: null };
const card = detailsCard();
const search = searching(() => refresh(), () => viewsNow());

function viewsNow() {
  return board.panels.flatMap((panel) => panel.views);
}

/** Show the step of the clock everywhere. */
function refresh() {
  const views = viewsNow();
  for (const view of views) showRow(view, board.clock, state.shade);
  compare(board.panels, state.unlike);
  search.mark(views);
  const several = new Set(views.map((view) => view.number)).size > 1;
  for (const view of views) {
    view.show(state.shade);
    captionRow(view, several);
  }
  board.charts.move(board.clock);
  board.controls.show();
  card.refresh();
}

/** Build everything that depends on which traces and rows are shown. */
function build() {
  card.hide();
  const traces = board.traces.filter((trace) => state.chosen.has(trace));
  const at = board.clock ? board.clock.at / Math.max(board.clock.most, 1) : 1;
  if (board.controls) board.controls.pause();
  const clock = (board.clock = clockOf(traces, state.sync));
  clock.at = Math.round(at * clock.most);
  board.controls = transport(clock, refresh);
  board.charts = chartsOf(traces, clock.most, (to) => seek(to));
  board.panels = traces.map((trace) => {
    return panelOf(trace, rowsOf(trace), (step) => seekIn(trace, step));
  });
  const stage = document.getElementById("stage");
  stage.replaceChildren(
    optionsOf(traces), board.controls.element, legendOf(),
    make("div", { class: "panels" }, ...board.panels.map((panel) => panel.element)),
    part("curves", "Over the steps", board.charts.element),
    resultsOf(board.panels), factsOf(traces),
  );
  for (const view of viewsNow()) {
    hovered(view);
    watched.observe(view.map.box);
    view.map.box.view = view;
  }
  refresh();
}

function seek(to) {
  board.controls.pause();
  board.controls.go(to);
}

function seekIn(trace, step) {
  const { clock } = board;
  seek(clock.sync === "share" ? (step / Math.max(trace.last, 1)) * clock.most : step);
}

function rowsOf(trace) {
  const numbers = trace.rows.map((_, number) => number);
  const one = Number(state.row);
  return state.row === ALL || one >= numbers.length ? numbers : [one];
}

const watched = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const { map } = target.view;
    map.visible = isIntersecting;
    map.draw(map.wanted);
  }
});

/** Show details of the cell under the pointer or with the focus. */
function hovered(view) {
  const show = (event) => {
    const cell = event.target.closest(".cell");
    if (cell) card.show(cell, view);
  };
  const hide = () => {
    if (!view.box.contains(document.activeElement)) card.hide();
  };
  view.box.addEventListener("pointerover", show);
  view.box.addEventListener("focusin", show);
  view.box.addEventListener("pointerleave", hide);
  view.box.addEventListener("focusout", () => card.hide());
  view.box.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) focusCell(view, Number(cell.dataset.at));
  });
}

function optionsOf(traces) {
  const most = Math.max(...traces.map((trace) => trace.rows.length));
  const rows = [[ALL, "all"], ...Array.from({ length: most }, (_, i) => [i, String(i)])];
  const shades = Object.entries(SHADES).map(([key, { name }]) => [key, name]);
  const parts = [labelled("shade by", choice(shades, state.shade, (shade) => {
    state.shade = shade;
    document.getElementById("legend").replaceWith(legendOf());
    refresh();
  }))];
  if (most > 1) parts.push(labelled("row", choice(rows, state.row, (row) => rebuild({ row }))));
  if (traces.length > 1) parts.push(...besideOptions());
  return make("div", { class: "options", role: "group", "aria-label": "view" }, ...parts, search.element);
}

function besideOptions() {
  const ways = [["step", "step"], ["share", "share of the run"]];
  const box = make("input", { type: "checkbox", change: () => {
    state.unlike = box.checked;
    refresh();
  } });
  box.checked = state.unlike;
  return [
    labelled("together by", choice(ways, state.sync, (sync) => rebuild({ sync }))),
    make("label", { class: "field tick" }, box, make("span", {}, "mark what differs")),
  ];
}

function rebuild(changes) {
  Object.assign(state, changes);
  build();
}

/** What the colours mean. */
function legendOf() {
  const shade = SHADES[state.shade];
  const cell = (look, text, level) => {
    const made = make("span", { class: `cell ${look}`, "aria-hidden": "true" }, text);
    if (level !== undefined) made.dataset.v = level;
    return made;
  };
  if (state.shade !== "state") {
    const bar = Array.from({ length: LEVELS + 1 }, (_, level) => cell("written", " ", level));
    return make("p", { id: "legend", class: `legend shaded hue-${shade.hue}` },
      make("span", {}, `${shade.name}: ${shade.low} `, make("span", { class: "bar" }, ...bar), ` ${shade.high}`));
  }
  const noisy = [...state.chosen].some((trace) => trace.mask === null);
  const masked = [...state.chosen].some((trace) => trace.mask !== null);
  const entries = [
    ["given", "given"],
    ...(masked ? [["open", "undecided"], ["open", "guess, by confidence", 6]] : []),
    ...(noisy ? [["noise", "noise"]] : []),
    ["fresh", "new"], ["written", "written"], ["revised", "replaced"], ["edited", "replaced before"],
    ["taken", "taken back"],
    ...(state.chosen.size > 1 ? [["written differs", "differs"]] : []),
  ];
  return make("p", { id: "legend", class: "legend hue-1" }, ...entries.map(([look, name, level]) =>
    make("span", {}, cell(look, look === "open" && level === undefined ? " " : "a", level), ` ${name}`)));
}

function chooseTrace(trace, wanted) {
  if (wanted) state.chosen.add(trace);
  else if (state.chosen.size > 1) state.chosen.delete(trace);
  else document.getElementById(`show-${trace.number}`).checked = true; // one is always shown
  build();
}

async function begin() {
  const notice = document.getElementById("notice");
  if (typeof DecompressionStream === "undefined") {
    notice.textContent = "This page needs a browser of 2023 or later; unison replay shows traces without.";
    return;
  }
  board.traces = await readTraces(JSON.parse(document.getElementById("data").textContent));
  const { traces } = board;
  const first = traces.length > TOGETHER ? traces.slice(0, 2) : traces;
  first.forEach((trace) => state.chosen.add(trace));
  const view = document.getElementById("view");
  if (traces.length > 1) view.append(indexOf(traces, state.chosen, chooseTrace));
  view.append(make("div", { id: "stage" }));
  document.body.append(card.card);
  notice.remove();
  build();
  const keys = (event) => shortcuts(board.controls, board.clock, card.hide)(event);
  document.addEventListener("keydown", keys);
  window.addEventListener("scroll", card.follow, { passive: true });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const { map } of viewsNow()) map.drawn = "";
    refresh();
  });
}

begin().catch((error) => {
  document.getElementById("notice").textContent = `The traces could not be read: ${error.message}`;
  throw error;
});

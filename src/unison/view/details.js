// What is known of one token? A card beside it, on hover and on focus.

const NAMES = {
  given: "given",
  open: "undecided",
  noise: "noise, undecided",
  fresh: "written by this step",
  written: "written",
  revised: "replaced by this step",
  edited: "replaced since it was written",
  taken: "taken back by this step",
};
const VERBS = { commit: "wrote", edit: "replaced by", remask: "took back", renoise: "noised to" };
const STORY = 8;

/** Return the card: its element, and functions that show it at a cell and hide it. */
function detailsCard() {
  const card = make("div", { id: "details", class: "card", role: "status", hidden: true });
  const view = { card, cell: null, of: null };
  view.hide = () => {
    card.hidden = true;
    view.cell = view.of = null;
  };
  view.show = (cell, of) => {
    view.cell = cell;
    view.of = of;
    card.replaceChildren(...detailsOf(of, Number(cell.dataset.at)));
    card.hidden = false;
    beside(card, cell);
  };
  view.follow = () => {
    if (view.cell && view.cell === document.activeElement) beside(card, view.cell);
    else view.hide();
  };
  view.refresh = () => {
    if (view.cell && view.cell.isConnected) view.show(view.cell, view.of);
    else view.hide();
  };
  return view;
}

/** Put the card under a cell, or over it where there is no room below. */
function beside(card, cell) {
  const at = cell.getBoundingClientRect(), size = card.getBoundingClientRect();
  const wide = document.documentElement.clientWidth, high = window.innerHeight;
  const left = Math.min(Math.max(at.left, 8), Math.max(wide - size.width - 8, 8));
  const below = at.bottom + 8 + size.height < high - 90;
  card.style.left = `${left}px`;
  card.style.top = `${below ? at.bottom + 8 : Math.max(at.top - size.height - 8, 8)}px`;
}

function detailsOf({ trace, row, sight }, place) {
  const state = sight.state[place], token = sight.token[place];
  const undecided = token === trace.mask;
  const title = make(
    "strong", { class: "token" }, undecided ? "undecided" : quoted(trace, token),
  );
  const pairs = [
    ["position", `${place} of ${row.length}`],
    ["state", NAMES[state]],
    ...(undecided ? [] : [["token", String(token)]]),
    ...guessPairs(trace, sight, place),
    ...writtenPairs(row, sight, place),
  ];
  const list = pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  return [title, make("dl", {}, ...list), ...sparkOf(trace, row, sight, place), storyOf(trace, row, sight, place)];
}

function quoted(trace, token) {
  const text = textOf(trace, token);
  return text === "" ? `token ${token}` : `“${[...text].map((c) => SIGNS[c] ?? c).join("")}”`;
}

function guessPairs(trace, sight, place) {
  if (sight.guess[place] < 0) return [];
  const sure = sight.sure[place] < 0 ? "" : `, ${percent(sight.sure[place] / FINE)}`;
  return [["guess", `${quoted(trace, sight.guess[place])}${sure}`]];
}

function writtenPairs(row, sight, place) {
  const last = sight.last[place];
  const pairs = [];
  if (last >= 0 && decided(sight.state[place])) {
    const sure = row.story.sure[last];
    pairs.push(["written at step", String(row.story.step[last])]);
    if (sure >= 0) pairs.push(["confidence then", percent(sure / FINE)]);
  }
  if (row.given[place]) return pairs;
  pairs.push(["rewritten", counted(rewrites(row, sight, place), "time")]);
  const mean = uncertainty(row, sight.step)[place];
  if (mean >= 0) pairs.push(["mean uncertainty", `${mean.toFixed(2)} bits`]);
  return pairs;
}

/** The confidence of the guesses for a position over the steps, as a line. */
function sparkOf(trace, row, sight, place) {
  const { first, place: places, sure } = row.proposed;
  const points = [];
  for (let moment = 0; moment < row.steps.length; moment++) {
    const at = foundIn(places, place, first[moment], first[moment + 1]);
    if (at >= 0 && sure[at] >= 0) points.push([row.steps[moment], sure[at] / FINE]);
  }
  if (points.length < 2) return [];
  const x = (step) => ((200 * step) / Math.max(trace.last, 1)).toFixed(1);
  const y = (value) => (30 - 28 * value).toFixed(1);
  const line = points.map(([step, value]) => `${x(step)},${y(value)}`).join(" ");
  const now = x(sight.step);
  return [
    make("div", { class: "spark" },
      make("span", {}, "confidence of guesses, by step"),
      draw("svg", { viewBox: "0 0 200 32", preserveAspectRatio: "none", "aria-hidden": "true" },
        draw("line", { x1: now, x2: now, y1: 0, y2: 32 }),
        draw("polyline", { points: line }))),
  ];
}

/** Return where a number stands in a part of a rising column; -1 where it does not. */
function foundIn(column, value, from, past) {
  let low = from, high = past;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low < past && column[low] === value ? low : -1;
}

/** The actions at a position, the latest last; those after the step shown are fainter. */
function storyOf(trace, row, sight, place) {
  const { first, step, kind, token, sure } = row.story;
  const from = Math.max(first[place], first[place + 1] - STORY);
  const items = [];
  for (let i = from; i < first[place + 1]; i++) {
    const what = VERBS[KINDS[kind[i]]];
    const which = kind[i] === 2 ? "" : ` ${quoted(trace, token[i])}`;
    const how = sure[i] < 0 ? "" : `, ${percent(sure[i] / FINE)}`;
    const later = step[i] > sight.step ? "later" : "";
    items.push(make("li", { class: later }, `step ${step[i]}: ${what}${which}${how}`));
  }
  const left = from - first[place];
  if (left) items.unshift(make("li", {}, `${counted(left, "action")} before`));
  return make("ol", { class: "story" }, ...items);
}

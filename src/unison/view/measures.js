// What is there to see of a step? States of positions, values for shading, and curves.

const STATES = ["given", "open", "noise", "fresh", "written", "revised", "edited", "taken"];

/**
 * Look at a row after a step. For each position: its token (the mask where undecided), its state,
 * the guess there (-1 for none) and its confidence (-1 where unknown), and its last action.
 */
function lookAt(trace, row, step) {
  const size = row.length;
  const sight = {
    step,
    token: new Int32Array(size),
    state: new Array(size),
    guess: new Int32Array(size).fill(-1),
    sure: new Int32Array(size).fill(-1),
    last: new Int32Array(size),
  };
  const moment = momentOf(row, step);
  if (moment >= 0) {
    const { first, place, token, sure } = row.proposed;
    for (let i = first[moment]; i < first[moment + 1]; i++) {
      sight.guess[place[i]] = token[i];
      sight.sure[place[i]] = sure[i];
    }
  }
  for (let place = 0; place < size; place++) {
    const last = (sight.last[place] = lastAction(row, place, step));
    sight.token[place] = last < 0 ? row.blank[place] : row.story.token[last];
    sight.state[place] = stateOf(trace, row, sight, place);
  }
  return sight;
}

function stateOf(trace, row, sight, place) {
  if (row.given[place]) return "given";
  const last = sight.last[place];
  const kind = last < 0 ? "" : KINDS[row.story.kind[last]];
  const now = last >= 0 && row.story.step[last] === sight.step;
  if (kind === "remask" || kind === "renoise") return now ? "taken" : kind === "remask" ? "open" : "noise";
  if (kind === "") return sight.token[place] === trace.mask ? "open" : "noise";
  if (kind === "edit") return now ? "revised" : "edited";
  return now ? "fresh" : "written";
}

/** Is a position decided: given, or written and not taken back? */
function decided(state) {
  return state !== "open" && state !== "noise" && state !== "taken";
}

/** The ways to shade: each returns a number in [0, 1], or -1 for no shade. */
const SHADES = {
  state: { name: "state", hue: 1, low: "", high: "", value: () => -1 },
  step: {
    name: "step of writing",
    hue: 1,
    low: "early",
    high: "late",
    value: (trace, row, sight, place) =>
      sight.last[place] < 0 || !decided(sight.state[place])
        ? -1
        : row.story.step[sight.last[place]] / Math.max(trace.last, 1),
  },
  confidence: {
    name: "confidence when written",
    hue: 3,
    low: "0 %",
    high: "100 %",
    value: (trace, row, sight, place) => {
      const last = sight.last[place];
      if (last < 0 || !decided(sight.state[place]) || row.story.sure[last] < 0) return -1;
      return row.story.sure[last] / FINE;
    },
  },
  rewrites: {
    name: "times rewritten",
    hue: 2,
    low: "never",
    high: "5 or more",
    value: (trace, row, sight, place) =>
      row.given[place] ? -1 : Math.min(rewrites(row, sight, place), 5) / 5,
  },
  uncertainty: {
    name: "uncertainty of the guesses",
    hue: 4,
    low: "0 bits",
    high: "8 bits",
    value: (trace, row, sight, place) => {
      const mean = uncertainty(row, sight.step)[place];
      return mean < 0 ? -1 : Math.min(mean, 8) / 8;
    },
  },
};

/** How often was a token replaced or taken back up to what the sight shows? */
function rewrites(row, sight, place) {
  let count = 0;
  for (let i = row.story.first[place]; i <= sight.last[place]; i++) {
    if (row.story.kind[i] !== 0) count++;
  }
  return count;
}

/**
 * Mean surprise, in bits, of the guesses for each position up to a step: -log2 of the guess's
 * probability, which is the min-entropy where the guess is the likeliest token; -1 without guesses.
 */
function uncertainty(row, step) {
  const kept = row.uncertain;
  if (kept && kept.step === step) return kept.mean;
  const total = new Float64Array(row.length), count = new Int32Array(row.length);
  const { first, place, sure } = row.proposed;
  for (let moment = 0; moment < row.steps.length && row.steps[moment] <= step; moment++) {
    for (let i = first[moment]; i < first[moment + 1]; i++) {
      if (sure[i] < 0) continue;
      total[place[i]] += bits(sure[i]);
      count[place[i]]++;
    }
  }
  const mean = total.map((value, at) => (count[at] ? value / count[at] : -1));
  row.uncertain = { step, mean };
  return mean;
}

/** Surprise of a confidence in ten-thousandths; what rounds to none counts as half of one. */
function bits(sure) {
  return -Math.log2(Math.max(sure, 0.5) / FINE);
}

/**
 * Curves of a trace over its steps from 0: share of open positions decided, tokens revised or taken
 * back by the step, and mean confidence of what the step wrote (null where nothing is known).
 */
function curves(trace, rows) {
  const size = trace.last + 1;
  const change = new Float64Array(size), revised = new Float64Array(size);
  const total = new Float64Array(size), count = new Float64Array(size);
  let open = 0;
  for (const row of rows) {
    for (let place = 0; place < row.length; place++) {
      if (row.given[place]) continue;
      open++;
      let written = false;
      for (let i = row.story.first[place]; i < row.story.first[place + 1]; i++) {
        const step = row.story.step[i], kind = row.story.kind[i];
        const now = kind < 2;
        change[step] += Number(now) - Number(written);
        if (kind > 0) revised[step]++;
        if (now && row.story.sure[i] >= 0) {
          total[step] += row.story.sure[i];
          count[step]++;
        }
        written = now;
      }
    }
  }
  let decidedNow = 0;
  const committed = Array.from(change, (value) => (decidedNow += value) / Math.max(open, 1));
  const sure = Array.from(total, (value, i) => (count[i] ? value / count[i] / FINE : null));
  return { committed, revised: Array.from(revised), sure };
}

/** Count decided and open positions of a row. */
function counts(row, sight) {
  let written = 0, open = 0;
  for (let place = 0; place < row.length; place++) {
    if (row.given[place]) continue;
    open++;
    written += decided(sight.state[place]);
  }
  return { written, open };
}

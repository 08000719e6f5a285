// What did a run do? The columns of the page, read back: see unison/view/packing.py.

const KINDS = ["commit", "edit", "remask", "renoise"];
const FINE = 10000;

/** Return the bytes behind one line of gzip in base64. */
async function unpacked(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Return a function that reads the next column of so many whole numbers. */
function columnsOf(bytes) {
  let at = 0;
  return (count) => {
    const column = new Int32Array(count);
    for (let plane = 0; plane < 4; plane++, at += count) {
      for (let i = 0; i < count; i++) column[i] |= bytes[at + i] << (8 * plane);
    }
    return column;
  };
}

function sum(column) {
  let total = 0;
  for (const value of column) total += value;
  return total;
}

/** Return where each list of a column of lists begins, and where the last ends. */
function starts(counts) {
  const first = new Int32Array(counts.length + 1);
  for (let i = 0; i < counts.length; i++) first[i + 1] = first[i] + counts[i];
  return first;
}

/** Turn, in place, gaps between the rising numbers of each list into the numbers. */
function closeGaps(column, first) {
  for (let list = 0; list + 1 < first.length; list++) {
    for (let i = first[list], last = -1; i < first[list + 1]; i++) {
      column[i] += last + 1;
      last = column[i];
    }
  }
}

/** Read one row: its first canvas, what every step proposed and did, and each position's story. */
function readRow(told, take) {
  const blank = take(told.length);
  const steps = take(told.moments);
  for (let i = 1; i < steps.length; i++) steps[i] += steps[i - 1];
  const candidateCounts = take(told.moments);
  const actionCounts = take(told.moments);
  const proposed = readCandidates(take, starts(candidateCounts), told.length);
  const done = readActions(take, starts(actionCounts));
  const given = new Uint8Array(told.length);
  for (const [start, past] of told.given) given.fill(1, start, past);
  const row = { ...told, blank, steps, given, proposed, done };
  row.story = stories(row);
  return row;
}

function readCandidates(take, first, length) {
  const count = first[first.length - 1];
  const place = take(count), token = take(count), sure = take(count);
  closeGaps(place, first);
  const lastToken = new Int32Array(length), lastSure = new Int32Array(length);
  for (let i = 0; i < count; i++) {
    const at = place[i];
    token[i] = lastToken[at] += token[i];
    sure[i] = lastSure[at] += sure[i];
  }
  return { first, place, token, sure };
}

function readActions(take, first) {
  const count = first[first.length - 1];
  const kind = take(count), place = take(count), after = take(count);
  closeGaps(place, first);
  return { first, kind, place, after };
}

/** Return, for each position, its actions in order: step, kind, token and confidence (or -1). */
function stories(row) {
  const { done, proposed, steps } = row;
  const count = done.place.length;
  const sizes = new Int32Array(row.length);
  for (const place of done.place) sizes[place]++;
  const first = starts(sizes);
  const next = first.slice();
  const story = {
    first,
    step: new Int32Array(count),
    kind: new Uint8Array(count),
    token: new Int32Array(count),
    sure: new Int32Array(count).fill(-1),
  };
  const guess = new Int32Array(row.length).fill(-1), guessSure = new Int32Array(row.length);
  for (let moment = 0; moment < steps.length; moment++) {
    const from = proposed.first[moment], past = proposed.first[moment + 1];
    for (let i = from; i < past; i++) {
      guess[proposed.place[i]] = proposed.token[i];
      guessSure[proposed.place[i]] = proposed.sure[i];
    }
    for (let i = done.first[moment]; i < done.first[moment + 1]; i++) {
      const place = done.place[i], at = next[place]++;
      story.step[at] = steps[moment];
      story.kind[at] = done.kind[i];
      story.token[at] = done.after[i];
      if (guess[place] === done.after[i]) story.sure[at] = guessSure[place];
    }
    for (let i = from; i < past; i++) guess[proposed.place[i]] = -1;
  }
  return story;
}

/** Return the last action of a position up to a step, as an index into the story; -1 for none. */
function lastAction(row, place, step) {
  const { first, step: when } = row.story;
  let low = first[place], high = first[place + 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (when[middle] <= step) low = middle + 1;
    else high = middle;
  }
  return low === first[place] ? -1 : low - 1;
}

/** Return which of a row's moments is that of a step; -1 where it took no part. */
function momentOf(row, step) {
  let low = 0, high = row.steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (row.steps[middle] < step) low = middle + 1;
    else high = middle;
  }
  return low < row.steps.length && row.steps[low] === step ? low : -1;
}

/** Return the token at a position after a step. */
function tokenAt(row, place, step) {
  const last = lastAction(row, place, step);
  return last < 0 ? row.blank[place] : row.story.token[last];
}

/** Read every trace of the page. */
async function readTraces(data) {
  const take = columnsOf(await unpacked(data.packed));
  return data.traces.map((told, number) => {
    const rows = told.rows.map((row) => readRow(row, take));
    const ends = rows.map((row) => row.steps[row.steps.length - 1] ?? 0);
    return { ...told, number, rows, last: Math.max(0, ...ends), ends: new Set(told.eos) };
  });
}

/** Return a token's text as it is; nothing for the mask and what has no text. */
function textOf(trace, token) {
  return token === trace.mask ? "" : (trace.texts[token] ?? "");
}

const SIGNS = { "\n": "↵", "\r": "␍", "\t": "⇥" };

/** Return a token as it is shown in a cell: what cannot be seen has a sign. */
function shown(trace, token) {
  if (trace.ends.has(token)) return "∎";
  const text = textOf(trace, token);
  if (text === "") return token === trace.mask ? "" : `⟨${token}⟩`;
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, (letter) => SIGNS[letter] ?? "·");
}

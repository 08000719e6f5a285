// One text from its first canvas to its end: the messages of the stream become frames to show, and
// the trace to save.

export class Story {
  constructor(label) {
    this.label = label;
    this.frames = [];
    this.texts = {};
    this.steps = [];
    this.done = null;
    this.times = { began: performance.now(), first: null, total: null };
  }

  // Takes in a message; later frames never change earlier ones.
  take(message) {
    Object.assign(this.texts, message.texts);
    if (message.event === "begin") this.#begin(message);
    if (message.event === "step") this.#step(message);
    if (message.event === "done") this.#end(message);
  }

  get length() {
    return this.frames.length - 1;
  }

  #begin({ head, row, open }) {
    this.head = head;
    this.row = row;
    this.given = new Uint8Array(row.tokens.length);
    for (const [first, past] of row.given) this.given.fill(1, first, past);
    const count = row.tokens.length;
    this.frames.push({
      step: 0,
      tokens: Int32Array.from(row.tokens),
      open: marked(open, count),
      at: new Int32Array(count),
      sure: new Float32Array(count).fill(NaN),
      guess: new Map(),
      marks: new Map(),
    });
  }

  #step({ step, candidates, actions, open }) {
    this.times.first ??= performance.now() - this.times.began;
    const last = this.frames.at(-1);
    const next = {
      step,
      tokens: last.tokens.slice(),
      open: marked(open, last.tokens.length),
      at: last.at.slice(),
      sure: last.sure.slice(),
      guess: new Map(),
      marks: new Map(),
    };
    const heard = new Map(candidates.map(([place, ...guess]) => [place, guess]));
    for (const [kind, place, , after] of actions) {
      next.marks.set(place, kind);
      next.tokens[place] = after;
      const kept = kind === "commit" || kind === "edit";
      next.at[place] = kept ? step : 0;
      next.sure[place] = kept ? (heard.get(place)?.[1] ?? NaN) : NaN;
    }
    for (const [place, guess] of heard) if (next.open[place]) next.guess.set(place, guess);
    this.frames.push(next);
    this.steps.push({ step, rows: [{ row: 0, candidates, actions }] });
  }

  #end(message) {
    this.times.total = performance.now() - this.times.began;
    this.times.first ??= this.times.total;
    this.done = message;
    const last = this.frames.at(-1);
    last.open.fill(0);
    last.at = Int32Array.from(message.written_at);
    last.sure = Float32Array.from(message.confidence, (sure) => sure ?? NaN);
  }

  // Returns the trace as unison.trace defines it.
  document() {
    return {
      ...this.head,
      texts: this.texts,
      rows: [this.row],
      steps: this.steps,
      result: this.done ? this.done.result : [Array.from(this.frames.at(-1).tokens)],
    };
  }
}

function marked(places, count) {
  const found = new Uint8Array(count);
  for (const place of places) found[place] = 1;
  return found;
}

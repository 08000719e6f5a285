// One side of the result: its canvas, its numbers, and whether it is what was asked for.

import { Canvas } from "./canvas.js";
import { el } from "./dom.js";

const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);

export class Panel {
  constructor(id, story) {
    this.story = story;
    this.canvas = new Canvas(`canvas-${id}`, `Canvas of ${story.label}`);
    this.numbers = el("dl", { className: "numbers" });
    this.verdict = el("div", { className: "verdict" });
    this.node = el(
      "article",
      { className: "panel", "aria-label": story.label },
      el("h2", { textContent: story.label }),
      this.canvas.node,
      this.canvas.about,
      this.numbers,
      this.verdict,
    );
  }

  show(k, tint) {
    if (this.story.frames.length) this.canvas.show(this.story, k, tint);
  }

  // Tells time and cost once the text is done, and whether it keeps the rule.
  finish(rule) {
    const { times, done } = this.story;
    const told = {
      "first draft": seconds(times.first),
      "in total": seconds(times.total),
      evaluations: String(done.nfe),
      "tokens per evaluation": done.tokens_per_forward.toFixed(2),
      "tokens written": String(done.tokens),
    };
    const pair = ([name, value]) =>
      el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: value }));
    this.numbers.replaceChildren(...Object.entries(told).map(pair));
    if (rule) this.#judge(rule, done);
  }

  fail(message) {
    this.verdict.replaceChildren(el("p", { className: "alert", textContent: message }));
  }

  #judge(rule, { fits, answer }) {
    const name = { json_schema: "schema", regex: "expression", choices: "choices" };
    const what = name[rule] ?? "grammar";
    const words = {
      true: `✓ The text fits the ${what}.`,
      false: `✗ The text does not fit the ${what}: the canvas may be too short for it.`,
      null: `? Whether the text fits the ${what} is too hard to say.`,
    };
    this.verdict.replaceChildren(
      el("p", { textContent: words[fits] }),
      el("pre", { tabIndex: 0, "aria-label": "Result", textContent: pretty(answer) }),
    );
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

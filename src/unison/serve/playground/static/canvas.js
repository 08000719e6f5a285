// Shows a frame of a story as tokens one can point at. Only what changed is touched.

import { el } from "./dom.js";

const UNKNOWN = 0.5; // how a guess is shaded whose probability the server does not tell
const percent = (sure) => `${Math.round(sure * 100)} %`;

export class Canvas {
  constructor(id, label) {
    this.about = el("p", { className: "about-token hint", id: `${id}-about` });
    this.node = el("div", {
      className: "canvas",
      id,
      tabIndex: 0,
      role: "listbox",
      "aria-label": label,
      "aria-describedby": this.about.id,
    });
    this.cells = [];
    this.active = -1;
    this.node.addEventListener("keydown", (event) => this.#key(event));
    this.node.addEventListener("focus", () => this.#point(Math.max(this.active, 0)));
    const under = (event) => {
      const place = this.cells.indexOf(event.target);
      if (place >= 0) this.#point(place);
    };
    this.node.addEventListener("pointerover", under);
    this.node.addEventListener("click", under);
  }

  // Shows frame number k; tint is what colours written tokens: "sure", "age" or "none".
  show(story, k, tint) {
    const frame = story.frames[Math.min(k, story.length)];
    this.story = story;
    this.frame = frame;
    while (this.cells.length < frame.tokens.length) this.#grow();
    this.cells.forEach((cell, place) => {
      const { text, kind, p } = this.#seen(place, tint);
      if (cell.textContent !== text) cell.textContent = text;
      if (cell.dataset.kind !== kind) {
        cell.dataset.kind = kind;
        cell.className = `token ${kind}`;
        if (place === this.active) cell.classList.add("active");
      }
      cell.style.setProperty("--p", p);
    });
    if (this.active >= 0) this.#say();
  }

  #grow() {
    const role = "option";
    const cell = el("span", { id: `${this.node.id}-${this.cells.length}`, role });
    this.cells.push(cell);
    this.node.append(cell);
  }

  #seen(place, tint) {
    const { frame, story } = this;
    const token = frame.tokens[place];
    const mark = frame.marks.get(place);
    const guess = frame.guess.get(place);
    if (story.given[place]) return { text: this.#text(token), kind: "given", p: 1 };
    if (token === story.head.model.mask_id) {
      const text = guess ? this.#line(guess[0]) : "·";
      return { text, kind: mark ? `open ${mark}` : "open", p: guess ? (guess[1] ?? UNKNOWN) : 0 };
    }
    const text = this.#text(token);
    if (mark) return { text, kind: mark, p: 1 };
    if (frame.open[place]) {
      const [kind, p] = frame.at[place] ? ["open", guess?.[1] ?? UNKNOWN] : ["noise", 0];
      return { text: this.#line(token), kind, p };
    }
    return { text, ...this.#tinted(place, tint) };
  }

  #tinted(place, tint) {
    const { frame, story } = this;
    if (story.head.model.eos_ids.includes(frame.tokens[place])) return { kind: "end", p: 0 };
    if (tint === "age") return { kind: "aged", p: frame.at[place] / Math.max(story.length, 1) };
    const sure = frame.sure[place];
    return tint === "sure" && !Number.isNaN(sure) ? { kind: "tinted", p: sure } : { kind: "", p: 1 };
  }

  #text(token) {
    if (this.story.head.model.eos_ids.includes(token)) return "∎";
    const text = this.story.texts[token] ?? "\uFFFD";
    return text.replaceAll("\n", "↵\n").replaceAll("\t", "⇥") || "·";
  }

  // The same without breaking the line, as what is undecided should not.
  #line(token) {
    return this.#text(token).replaceAll("\n", "");
  }

  #key(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10 };
    const last = this.cells.length - 1;
    const ends = { Home: 0, End: last };
    const place = ends[event.key] ?? this.active + (moves[event.key] ?? NaN);
    if (Number.isNaN(place) || last < 0) return;
    event.preventDefault();
    this.#point(Math.min(Math.max(place, 0), last));
    this.cells[this.active].scrollIntoView({ block: "nearest" });
  }

  #point(place) {
    if (!this.cells[place]) return;
    this.cells[this.active]?.classList.remove("active");
    this.cells[this.active]?.removeAttribute("aria-selected");
    this.active = place;
    this.cells[place].classList.add("active");
    this.cells[place].setAttribute("aria-selected", "true");
    this.node.setAttribute("aria-activedescendant", this.cells[place].id);
    this.#say();
  }

  #say() {
    const { frame, story, active: place } = this;
    const quoted = (token) => `“${this.#line(token)}”`;
    const said = [`Position ${place + 1}`];
    const guess = frame.guess.get(place);
    const written = frame.tokens[place] !== story.head.model.mask_id;
    if (written) said.push(quoted(frame.tokens[place]));
    if (story.given[place]) said.push("given");
    else if (frame.at[place]) said.push(`written at step ${frame.at[place]}`);
    else said.push(written ? "noise" : "undecided");
    if (!story.given[place] && !Number.isNaN(frame.sure[place])) {
      said.push(`confidence ${percent(frame.sure[place])}`);
    }
    if (guess) {
      const sure = guess[1] === null ? "" : `, ${percent(guess[1])}`;
      said.push(`would write ${quoted(guess[0])}${sure}`);
    }
    this.about.textContent = said.join(" · ");
    this.cells[place].setAttribute("aria-label", this.about.textContent);
  }
}

// Plays steps at a readable speed, while they still arrive or afterwards.

import { $ } from "./dom.js";

export class Player {
  constructor(show) {
    this.show = show;
    this.at = 0;
    this.length = 0;
    this.playing = false;
    this.ended = true;
    this.due = 0;
    $("play").addEventListener("click", () => this.toggle());
    $("slider").addEventListener("input", () => {
      this.#play(false);
      this.#go(Number($("slider").value));
    });
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) $("speed").value = "Infinity";
  }

  // Begins anew: nothing is there yet.
  reset() {
    Object.assign(this, { at: 0, length: 0, ended: false });
    $("slider").max = 0;
    $("play").disabled = $("slider").disabled = false;
    this.#play(true);
    this.#go(0);
  }

  // Says that there are more steps.
  extend(length) {
    if (length <= this.length) return;
    this.length = length;
    $("slider").max = length;
    this.#label();
  }

  finish() {
    this.ended = true;
    if (!this.length) this.#play(false);
  }

  toggle() {
    if (!this.playing && this.ended && this.at >= this.length) this.#go(0);
    this.#play(!this.playing);
  }

  #play(on) {
    const was = this.playing;
    this.playing = on;
    $("play").textContent = on ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", on ? "Pause" : "Play");
    if (on && !was) {
      this.due = performance.now();
      requestAnimationFrame((now) => this.#tick(now));
    }
  }

  #tick(now) {
    if (!this.playing) return;
    const speed = Number($("speed").value);
    if (this.at < this.length && now >= this.due) {
      const steps = speed === Infinity ? this.length - this.at : 1;
      this.due = Math.max(this.due + 1000 / speed, now - 100);
      this.#go(this.at + steps);
    }
    if (this.ended && this.at >= this.length) this.#play(false);
    else requestAnimationFrame((next) => this.#tick(next));
  }

  #go(at) {
    this.at = at;
    $("slider").value = at;
    this.#label();
    this.show(at);
  }

  #label() {
    $("step").textContent = `step ${this.at} of ${this.length}`;
    $("slider").setAttribute("aria-valuetext", $("step").textContent);
  }
}

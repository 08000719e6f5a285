// One side's strategy: what can be chosen for the model, and what each choice means.

import { el } from "./dom.js";

const PARTS = {
  order: "Order: which position goes first",
  select: "Select: how many are written at once",
  revise: "Revise: what happens to written text",
  stop: "Stop: when the rest is written at once",
};

export class Strategy {
  constructor(box, id, known) {
    this.known = known;
    this.id = id;
    this.select = el("select", { id: `${id}-strategy`, "aria-label": "Strategy" });
    this.words = el("div", { className: "words", id: `${id}-words`, "aria-live": "polite" });
    this.pace = el("div", { className: "pair" });
    this.more = el("div", { className: "field more" });
    this.inputs = new Map();
    this.parts = new Map();
    this.select.setAttribute("aria-describedby", this.words.id);
    this.select.addEventListener("change", () => this.#explain());
    box.append(
      el("div", { className: "field", "data-param": "strategy" }, this.select),
      this.words,
      this.pace,
      el("details", {}, el("summary", { textContent: "More settings" }), this.more),
    );
  }

  get name() {
    return this.select.value || this.model.strategy;
  }

  // Offers what fits a model; what was chosen stays where it still fits.
  fit(model) {
    const chosen = this.select.value;
    this.model = model;
    const option = (name) => el("option", { value: name, textContent: name });
    const group = (label, names) => el("optgroup", { label }, ...names.map(option));
    const named = model.strategies.filter((name) => this.known.strategies[name]);
    const preset = (name) => this.known.strategies[name].preset;
    const groups = [
      group("Published recipes", named.filter(preset)),
      group("Samplers", named.filter((name) => !preset(name))),
    ];
    const own = el("option", { value: "", textContent: `the model's own: ${model.strategy}` });
    this.select.replaceChildren(own, ...groups.filter((one) => one.children.length));
    this.select.value = named.includes(chosen) ? chosen : "";
    this.#explain();
  }

  choose(name) {
    if (!this.model.strategies.includes(name)) return;
    this.select.value = name;
    this.#explain();
  }

  // Returns what the request says of this side; what stays as it is is left out.
  value() {
    const said = { strategy: this.select.value || null, parts: {}, settings: {} };
    for (const [part, select] of this.parts) {
      if (select.value !== select.dataset.standing) said.parts[part] = select.value;
    }
    for (const [name, read] of this.inputs) {
      const value = read();
      if (value === null) continue;
      if (name.startsWith("settings.")) said.settings[name.slice(9)] = value;
      else said[name] = value;
    }
    return said;
  }

  #explain() {
    const facts = this.known.strategies[this.name];
    this.words.replaceChildren();
    this.inputs.clear();
    this.parts.clear();
    if (facts) {
      const tag = (text) => el("span", { className: "tag", textContent: text });
      this.words.append(
        el("p", { textContent: facts.summary }),
        el("p", { className: "hint", textContent: facts.law.words }),
        el("p", { className: "hint" }, "Undoes ", ...facts.processes.map(tag)),
      );
    }
    this.#pace(facts);
    this.#more(facts);
  }

  #pace(facts) {
    const own = { kind: "int", range: "at least 1" };
    const numbers = [
      facts?.steps ? { ...own, name: "steps", hint: "auto" } : null,
      { kind: "float", name: "temperature", hint: "auto", range: "at least 0" },
      facts?.block_length && !this.model.block_length
        ? { ...own, name: "block_length", label: "block length", hint: "auto" }
        : null,
      { kind: "choice", name: "cache", choices: this.model.caches, default: "none" },
    ];
    this.pace.replaceChildren(...numbers.filter(Boolean).map((field) => this.#control(field)));
  }

  #more(facts) {
    const drawn = [
      { kind: "float", name: "top_p", label: "top p", about: "Keep the smallest set of tokens with this mass.", range: "in (0, 1]" },
      { kind: "int", name: "top_k", label: "top k", about: "Keep this many tokens.", range: "at least 1" },
    ];
    if (this.model.guidable) {
      drawn.push({ kind: "float", name: "cfg", label: "guidance", about: "How strongly the prompt pulls; 0 for not at all.", range: "at least 0" });
    }
    this.more.replaceChildren(...drawn.map((field) => this.#control(field)));
    if (!facts || !this.select.value) return;
    const own = facts.fields.filter((field) => !field.name.includes("."));
    this.more.append(...own.map((field) => this.#setting(field)));
    for (const [part, standing] of Object.entries(facts.parts)) this.#part(part, standing, facts);
  }

  #setting(field) {
    const label = field.name.split(".").at(-1).replaceAll("_", " ");
    return this.#control({ ...field, name: `settings.${field.name}`, label });
  }

  // A part of a composed strategy: which one, what it does, and its own settings.
  #part(part, standing, facts) {
    const id = `${this.id}-${part}`;
    const known = this.known.parts[part];
    const names = Object.keys(known);
    if (!names.includes(standing)) names.unshift(standing);
    const option = (name) => el("option", { value: name, textContent: name });
    const select = el("select", { id }, ...names.map(option));
    select.value = select.dataset.standing = standing;
    const about = el("p", { className: "hint" });
    const settings = el("div", {});
    const changed = () => {
      for (const name of this.inputs.keys()) {
        if (name.startsWith(`settings.${part}.`)) this.inputs.delete(name);
      }
      const chosen = known[select.value];
      const own = facts.fields.filter((field) => field.name.startsWith(`${part}.`));
      const fields = select.value === standing ? own : chosen.fields;
      about.textContent = chosen?.summary ?? "";
      settings.replaceChildren(...fields.map((field) => this.#setting(field)));
    };
    select.addEventListener("change", changed);
    this.parts.set(part, select);
    const label = el("label", { for: id, className: "named", textContent: PARTS[part] });
    const field = el("div", { "data-param": `parts.${part}` }, label, select, about);
    const group = { className: "part", role: "group", "aria-label": part };
    this.more.append(el("div", group, field, settings));
    changed();
  }

  // A control for a setting; empty, or as it stands, it says nothing.
  #control(field) {
    const id = `${this.id}-${field.name.replaceAll(".", "-")}`;
    const control = made[field.kind](id, field);
    this.inputs.set(field.name, () => read[field.kind](control, field));
    const label = el("label", { for: id, textContent: field.label ?? field.name });
    const words = [field.about, field.range && `${field.range[0].toUpperCase()}${field.range.slice(1)}.`].filter(Boolean);
    const about = el("p", { className: "hint", id: `${id}-about`, textContent: words.join(" ") });
    if (words.length) control.setAttribute("aria-describedby", about.id);
    const shown = words.length ? about : null;
    const explained = field.name === "cache" ? this.#cached(control) : shown;
    return el("div", { className: "field", "data-param": field.name }, label, control, explained);
  }

  #cached(select) {
    const about = el("p", { className: "hint", "aria-live": "polite" });
    const say = () => (about.textContent = this.known.caches[select.value] ?? "");
    select.addEventListener("change", say);
    say();
    return about;
  }
}

const number = (id, { hint, default: standing }, step) =>
  el("input", { id, type: "number", step, placeholder: hint ?? standing ?? "" });

const choice = (id, choices, standing) => {
  const made = el("select", { id }, ...choices.map((c) => el("option", { value: c, textContent: c })));
  made.value = standing;
  return made;
};

const made = {
  int: (id, field) => number(id, field, "1"),
  float: (id, field) => number(id, field, "any"),
  str: (id, field) => el("input", { id, type: "text", placeholder: field.default ?? "" }),
  bool: (id, field) => choice(id, ["yes", "no"], field.default ? "yes" : "no"),
  choice: (id, field) => choice(id, field.choices, field.default),
};

const numbered = (control) => {
  if (control.validity.badInput) return control.value || "no number";
  return control.value === "" ? null : Number(control.value);
};

const changed = (value, standing) => (value === standing ? null : value);

const read = {
  int: numbered,
  float: numbered,
  str: (control, field) => changed(control.value || field.default, field.default),
  bool: (control, field) => changed(control.value === "yes", field.default),
  choice: (control, field) => changed(control.value, field.default),
};

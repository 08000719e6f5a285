// The page: what the form asks is written, shown step by step, and can be saved.

import * as api from "./api.js";
import { $, clearFaults, el, fault } from "./dom.js";
import * as holes from "./holes.js";
import { Panel } from "./panel.js";
import { Player } from "./player.js";
import { Story } from "./story.js";
import { Strategy } from "./strategy.js";

const RULES = {
  json_schema: ["Schema", '{"type": "object", "properties": {"name": {"type": "string"}}}'],
  regex: ["Regular expression", "[A-Z][a-z]+ [0-9]{1,3}"],
  choices: ["Choices, one a line", "yes\nno"],
  grammar: ["Grammar (Lark, GBNF or EBNF)", 'start: "a" start | "b"'],
};
const COMPARED = ["fast-dllm", "llada", "composed"]; // offered first for the other side

let known = null;
let sides = [];
let panels = [];
let running = null;
const player = new Player(shown);

function shown(at) {
  for (const panel of panels) panel.show(at, $("tint").value);
}

// Facts.

async function load() {
  try {
    known = await api.facts();
  } catch (error) {
    alarm(error);
    if (error.status === 401 || error.status === 403) askForKey(error);
    return;
  }
  $("alert").hidden = true;
  $("logged").hidden = !known.logs;
  if (!known.sure) unsure();
  const name = ({ name }) => el("option", { value: name, textContent: name });
  $("model").replaceChildren(...known.models.map(name));
  sides = ["a", "b"].map((id) => {
    for (const old of $(`side-${id}`).querySelectorAll(":scope > :not(legend)")) old.remove();
    return new Strategy($(`side-${id}`), id, known);
  });
  fitted();
  COMPARED.toReversed().forEach((strategy) => sides[1].choose(strategy));
  if (known.grammars.length) RULES.grammar[2] = `Or a name: ${known.grammars.join(", ")}.`;
}

// The server tells no probabilities: nothing can be coloured by them.
function unsure() {
  for (const option of document.querySelectorAll("[data-sure]")) option.remove();
  $("tint").value = "age";
}

function askForKey(error) {
  fault($("form"), "key", error.message);
}

const model = () => known.models.find(({ name }) => name === $("model").value);

function fitted() {
  const one = model();
  const count = one.parameters.toLocaleString("en-GB");
  $("model-about").textContent =
    `${one.process} process, ${count} parameters, canvas of at most ${one.max_length} tokens`;
  $("blind").hidden = one.infills;
  $("length").max = one.max_length;
  if (Number($("length").value) > one.max_length) $("length").value = one.max_length >> 1;
  for (const side of sides) side.fit(one);
}

// The form.

function prompted() {
  const text = $("prompt").value;
  holes.drawn($("mirror"), text);
  $("mirror").scrollTop = $("prompt").scrollTop;
  $("holes").textContent = holes.described(text);
  const holed = holes.parsed(text).some((part) => typeof part === "number");
  $("length").disabled = holed;
}

function ruled() {
  const rule = $("rule").value;
  $("rule-field").hidden = !rule;
  if (!rule) return;
  const [label, example, more] = RULES[rule];
  $("rule-label").textContent = label;
  $("rule-text").placeholder = example;
  $("rule-hint").textContent = more ?? "The text is written so that it cannot be anything else.";
}

function wishes() {
  const common = {
    model: $("model").value,
    canvas: holes.canvas($("prompt").value, $("suffix").value, Number($("length").value)),
    seed: Number($("seed").value),
  };
  if ($("rule").value) common.constraint = { kind: $("rule").value, text: $("rule-text").value };
  const count = $("compare").checked ? 2 : 1;
  return sides.slice(0, count).map((side) => ({ ...common, ...side.value() }));
}

// A run.

async function run(event) {
  event.preventDefault();
  if (!known || running) return;
  clearFaults($("form"));
  $("alert").hidden = true;
  const asked = wishes();
  const rule = $("rule").value;
  running = new AbortController();
  busy(true);
  say("Writing …");
  const letters = asked.length > 1 ? ["A · ", "B · "] : [""];
  panels = asked.map((_, i) => new Panel(i, new Story(letters[i] + sides[i].name)));
  $("panels").replaceChildren(...panels.map((panel) => panel.node));
  $("together").hidden = panels.length < 2;
  player.reset();
  if (matchMedia("(max-width: 59.99rem)").matches) $("stage").scrollIntoView();
  await Promise.all(panels.map((panel, i) => write(panel, asked[i], i, rule)));
  player.finish();
  running = null;
  busy(false);
  $("share").disabled = !panels.some((panel) => panel.story.done);
}

async function write(panel, wish, side, rule) {
  try {
    await api.stream(wish, running.signal, (message) => {
      panel.story.take(message);
      if (message.event === "begin") panel.show(0, $("tint").value);
      player.extend(Math.max(...panels.map(({ story }) => story.length)));
    });
    panel.finish(rule);
    const { nfe, tokens } = panel.story.done;
    say(`${panel.story.label}: ${tokens} tokens in ${nfe} evaluations.`);
    shown(player.at);
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else failed(panel, error, side);
  }
}

function failed(panel, error, side) {
  panel.fail(error.message);
  say("It could not be written.");
  const own = $(side ? "side-b" : "side-a");
  if (error.status === 401 || error.status === 403) askForKey(error);
  else if (error.param === "canvas" && tooLong()) fault($("form"), "new_tokens", error.message);
  else if (!error.param) alarm(error);
  else if (!fault(own, error.param, error.message) && !fault($("form"), error.param, error.message)) {
    alarm(error);
  }
}

// Whether it is the number of tokens that makes the canvas too long.
const tooLong = () => !$("length").disabled && Number($("length").value) > model().max_length;

function alarm(error) {
  $("alert").textContent = error.message;
  $("alert").hidden = false;
}

function say(words) {
  $("status").textContent = words;
}

function busy(on) {
  $("run").disabled = on;
  $("stop").disabled = !on;
  if (on) $("share").disabled = true;
}

// Saving.

async function share() {
  const done = panels.filter((panel) => panel.story.done).map((panel) => panel.story);
  $("share").disabled = true;
  try {
    const page = await api.page(done.map((story) => story.document()), done.map((s) => s.label));
    const url = URL.createObjectURL(page);
    el("a", { href: url, download: "unison-trace.html" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    say("Saved: one page that opens anywhere, also without a network.");
  } catch (error) {
    alarm(error);
  }
  $("share").disabled = false;
}

$("form").addEventListener("submit", run);
$("stop").addEventListener("click", () => running?.abort());
$("model").addEventListener("change", fitted);
$("prompt").addEventListener("input", prompted);
$("prompt").addEventListener("scroll", () => ($("mirror").scrollTop = $("prompt").scrollTop));
$("insert").addEventListener("click", () =>
  holes.insert($("prompt"), Math.max(1, Math.trunc(Number($("hole-size").value)) || 1)),
);
$("rule").addEventListener("change", ruled);
$("compare").addEventListener("change", () => {
  $("side-b").hidden = !$("compare").checked;
  $("side-a").querySelector("legend").textContent = $("compare").checked ? "Strategy A" : "Strategy";
});
$("key").value = api.key.get();
$("key").addEventListener("change", () => {
  api.key.set($("key").value.trim());
  clearFaults($("access"));
  if (!known) load();
});
$("tint").addEventListener("change", () => shown(player.at));
$("share").addEventListener("click", share);
$("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit($("run"));
});
prompted();
load();

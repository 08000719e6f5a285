"""How does a reader see all of it at once? Numbers, figures, samples and how they came to be.

One page as :mod:`unison.evaluate.page` makes them. Without JavaScript each sample's final text
stands there; with it, a player shows how the text came to be, step by step.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from unison.evaluate import page
from unison.files import write_text
from unison.types import Estimate


@dataclass(frozen=True)
class Trace:
    """How one sample came to be; the first frame is what decoding began with.

    Attributes:
        frames: Per step, the text of every token; a frame joined is the text at that step.
        changed: Per step, which tokens that step wrote.
        settled: Per step, which tokens are no longer noise; ``None`` where the process does not
            say. The others are dimmed.
    """

    frames: Sequence[Sequence[str]]
    changed: Sequence[Sequence[bool]]
    settled: Sequence[Sequence[bool]] | None = None

    def __post_init__(self) -> None:
        if not self.frames:
            raise ValueError("A trace needs at least one frame.")
        wanted = [len(self.frames[0])] * len(self.frames)
        for name, rows in (("frames", self.frames), ("changed", self.changed),
                           ("settled", self.settled)):  # fmt: skip
            lengths = wanted if rows is None else [len(row) for row in rows]
            if lengths != wanted:
                raise ValueError(
                    f"A trace of {len(wanted)} frames of {wanted[0]} tokens needs as many in "
                    f"every row of {name}; its rows have {lengths}."
                )


@dataclass(frozen=True)
class Sample:
    """One text that a model wrote.

    Attributes:
        steps: Decoding steps it took.
        text: The final text.
        metrics: Measured over all samples of this model and number of steps, not this one alone.
        trace: How it came to be.
    """

    steps: int
    text: str
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    trace: Trace | None = None


@dataclass(frozen=True)
class ModelSamples:
    """What one model wrote, with one sample per number of steps.

    Attributes:
        name: The model.
        samples: In the order of the page.
        note: A sentence under the name.
    """

    name: str
    samples: Sequence[Sample]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        png: PNG bytes, for light paper.
        caption: What it shows and how to read it.
        alt: What someone who does not see it must know.
        dark: The same for dark paper; ``None`` shows ``png`` there too.
    """

    png: bytes
    caption: str
    alt: str
    dark: bytes | None = None


@dataclass(frozen=True)
class Report:
    """All that one page says, in the order of the page.

    Attributes:
        title: Heading.
        summary: Paragraphs of plain text.
        headlines: The numbers to remember, by what they are.
        pictures: Figures.
        models: Samples.
        settings: What was run; values are shown as they are.
    """

    title: str
    summary: Sequence[str] = ()
    headlines: Mapping[str, Estimate] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    models: Sequence[ModelSamples] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


def write_report(report: Report, path: Path) -> None:
    """Write the page atomically.

    Raises:
        OSError: Writing failed; ``path`` is as it was.
    """
    write_text(path, render(report))


def render(report: Report) -> str:
    """Return the whole page as one HTML document."""
    sections = [
        page.section(title.lower(), title, content)
        for title, content in (
            ("Numbers", _headlines(report.headlines)),
            ("Figures", _pictures(report.pictures)),
            ("Samples", _models(report.models)),
            ("Settings", page.settings(list(report.settings.items()))),
        )
    ]
    return page.whole(report.title, report.summary, sections, style=_STYLE, script=_SCRIPT)


def spell(estimate: Estimate) -> str:
    """Return value and standard error, both to the second digit of the error: ``3.139 ± 0.042``.

    An exact number stands alone; a number of unknown error says so.
    """
    value, stderr = estimate.value, estimate.stderr
    if not math.isfinite(value):
        return "n/a"
    if stderr == 0:
        return f"{value:,.6g}"
    if not math.isfinite(stderr):
        return f"{value:,.4g} ± ?"
    decimals = max(0, 1 - math.floor(math.log10(stderr)))
    return f"{value:,.{decimals}f} ± {stderr:,.{decimals}f}"


def _headlines(headlines: Mapping[str, Estimate]) -> str:
    if not headlines:
        return ""
    rows = "".join(
        f"<div><dt>{escape(label)}</dt><dd><strong>{_error(estimate)}</strong>"
        f"<small>{escape(estimate.unit)}, n = {estimate.n:,}</small></dd></div>"
        for label, estimate in headlines.items()
    )
    return f'<dl class="numbers">{rows}</dl><p class="note">± is one standard error.</p>'


def _error(estimate: Estimate) -> str:
    value, sign, stderr = spell(estimate).partition(" ± ")
    return f"{value} <span>± {stderr}</span>" if sign else value


def _pictures(pictures: Sequence[Picture]) -> str:
    figures = "".join(page.picture(p.png, p.dark, p.caption, p.alt) for p in pictures)
    return f'<div class="figures">{figures}</div>' if figures else ""


def _models(models: Sequence[ModelSamples]) -> str:
    return "".join([_LEGEND, *map(_model, models)]) if models else ""


def _model(model: ModelSamples) -> str:
    note = f'<p class="note">{escape(model.note)}</p>' if model.note else ""
    cards = "".join(_sample(model.name, sample) for sample in model.samples)
    return f'<h3>{escape(model.name)}</h3>{note}<div class="cards">{cards}</div>'


def _sample(model: str, sample: Sample) -> str:
    steps = f"{sample.steps:,} step{'' if sample.steps == 1 else 's'}"
    text = f'<div class="text">{escape(sample.text)}</div>'
    if sample.trace is not None:
        label = escape(f"Step of {model}, {steps}")
        text = (
            f'<div class="player">{text}<div class="controls" hidden>'
            f'<button type="button">Play</button><input type="range" aria-label="{label}">'
            f'<output></output></div><script type="application/json">{_encode(sample.trace)}'
            "</script></div>"
        )
    metrics = "".join(
        f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{_error(estimate)} "
        f"<small>{escape(estimate.unit)}</small></dd></div>"
        for name, estimate in sample.metrics.items()
    )
    return f"<article><h4>{steps}</h4>{text}<dl>{metrics}</dl></article>"


def _encode(trace: Trace) -> str:
    """Return a trace as JSON: each word once, then per frame only what differs from the last."""
    words = {word: i for i, word in enumerate(sorted({w for row in trace.frames for w in row}))}
    before: Sequence[str | None] = [None] * len(trace.frames[0])
    frames = []
    for i, frame in enumerate(trace.frames):
        new = [p for p, word in enumerate(frame) if word != before[p]]
        noise = [] if trace.settled is None else _places(not s for s in trace.settled[i])
        frames.append([new, [words[frame[p]] for p in new], _places(trace.changed[i]), noise])
        before = frame
    encoded = json.dumps({"words": list(words), "frames": frames}, separators=(",", ":"))
    return encoded.replace("<", "\\u003c")


def _places(flags: Iterable[bool]) -> list[int]:
    return [place for place, flag in enumerate(flags) if flag]


_LEGEND = (
    '<p class="note legend" hidden><span class="changed">written in this step</span> '
    '<span class="noise">still noise</span></p>'
)

_STYLE = """
dt,dd span{color:var(--muted)}
dl,dd{margin:0}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(13.5rem,1fr));gap:1.5rem 2rem}
.numbers dt{font-size:.875rem}
.numbers strong{font-size:1.6rem;font-weight:600;font-variant-numeric:tabular-nums}
.numbers strong span{font-size:1rem;font-weight:400;white-space:nowrap}
.numbers small{display:block;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,29rem),1fr));gap:1.25rem}
article{border:1px solid var(--faint);border-radius:.5rem;padding:1rem;min-width:0}
.text{font:.875rem/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
  white-space:break-spaces;overflow-wrap:anywhere}
.changed{background:var(--glow);box-shadow:0 2px 0 var(--accent)}
.noise{color:var(--muted);opacity:.75}
.legend span{margin-right:1rem;padding:0 .2rem}
.text span{transition:background-color .25s}
.controls{display:flex;align-items:center;gap:.75rem;margin-top:.75rem}
[hidden]{display:none}
button{font:inherit;font-size:.875rem;width:4.5rem;padding:.3rem 0;color:var(--ink);cursor:pointer;
  background:none;border:1px solid var(--muted);border-radius:.4rem}
button:hover{background:var(--glow)}
input{flex:1;min-width:4rem;accent-color:var(--accent)}
output{font-size:.8125rem;color:var(--muted);font-variant-numeric:tabular-nums;white-space:nowrap}
article dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(11.5rem,1fr));gap:.15rem 1rem;
  font-size:.8125rem;margin-top:.9rem}
article dt{display:inline}
article dt::after{content:" "}
article dd{display:inline;font-variant-numeric:tabular-nums}
@media(prefers-reduced-motion:reduce){.text span{transition:none}}
@media print{.controls,.legend{display:none}}
"""

_SCRIPT = """
"use strict";
const calm = matchMedia("(prefers-reduced-motion: reduce)");
for (const player of document.querySelectorAll(".player")) {
  const {words, frames} = JSON.parse(player.querySelector("script").textContent);
  const [box, controls] = player.children;
  const [button, slider, status] = controls.children;
  const last = frames.length - 1;
  const spans = frames[0][0].map(() => document.createElement("span"));
  const states = [];
  for (const [places, ids] of frames) {
    const state = states.length ? states[states.length - 1].slice() : [];
    places.forEach((place, i) => { state[place] = ids[i]; });
    states.push(state);
  }
  let timer = 0;
  const show = (step) => {
    const changed = new Set(frames[step][2]), noise = new Set(frames[step][3]);
    spans.forEach((span, i) => {
      const word = words[states[step][i]];
      if (span.textContent !== word) span.textContent = word;
      span.className = noise.has(i) ? "noise" : changed.has(i) ? "changed" : "";
    });
    slider.value = step;
    status.textContent = `step ${step} of ${last}`;
    slider.setAttribute("aria-valuetext", `${status.textContent}, ${changed.size} tokens written`);
    box.style.minHeight = `${box.offsetHeight}px`;
  };
  const stop = () => { clearTimeout(timer); timer = 0; button.textContent = "Play"; };
  const play = (step) => {
    show(step);
    if (step === last) { stop(); return; }
    const pause = calm.matches ? 1000 : Math.min(700, Math.max(60, 6000 / frames.length));
    timer = setTimeout(play, pause, step + 1);
    button.textContent = "Pause";
  };
  slider.min = 0; slider.max = last; slider.step = 1;
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  button.addEventListener("click", () => {
    if (timer) { stop(); return; }
    play(Number(slider.value) === last ? 0 : Number(slider.value));
  });
  addEventListener("resize", () => { box.style.minHeight = ""; });
  box.replaceChildren(...spans);
  controls.hidden = false;
  show(last);
}
for (const legend of document.querySelectorAll(".legend")) {
  legend.hidden = !document.querySelector(".player");
}
"""

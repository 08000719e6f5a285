"""unison score: say how likely a text is under a model, and how sure that is."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unison.cli import shared
from unison.evaluate.choosing import choose
from unison.evaluate.log_likelihood import Likelihood, log_likelihood
from unison.recipes.run import load


@dataclass(frozen=True)
class Flags:
    """Score texts. The first argument is a run or a model folder.

    Diffusion models are scored by a lower bound of log p, with its 95 % interval.

    Attributes:
        text: Files, one text each; - for standard input.
        lines: Every line of a file is a text of its own.
        context: What stands before each text.
        choices: Score these continuations of the context instead, and name the best.
        normalise: What the log p of a choice is divided by.
        method: auto, ar, nelbo, fixed-count, any-order, block or exact.
        precision: Go on until the 95 % interval is this many bits per byte to either side.
        draws: Network evaluations per text at least.
        max_draws: Network evaluations per text at most; with --rolling, per window.
        rolling: Cut texts that are too long for the model into windows.
        plain: Plain Monte Carlo, without variance reduction.
        seed: Names the noise.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    text: tuple[str, ...] = ()
    lines: bool = False
    context: str = ""
    choices: tuple[str, ...] = ()
    normalise: Literal["none", "tokens", "bytes"] = "none"
    method: str = "auto"
    precision: float | None = None
    draws: int = 32
    max_draws: int = 4096
    rolling: bool = False
    plain: bool = False
    seed: int = 0
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "score", arguments)
    if bool(flags.text) == bool(flags.choices):
        raise ValueError("give either --text, files to score, or --choices, continuations.")
    if flags.choices:
        _choose(name, flags)
        return
    texts = _texts(flags)
    scores = log_likelihood(
        load(name or shared.unnamed(), flags.device),
        [text for _, text in texts],
        flags.context,
        method=flags.method,
        precision=flags.precision,
        draws=flags.draws,
        max_draws=flags.max_draws,
        rolling=flags.rolling,
        seed=flags.seed,
        variance_reduction=not flags.plain,
    )
    labelled = [(label, score) for (label, _), score in zip(texts, scores, strict=True)]
    if flags.json:
        shared.emit([{"text": label, **_jsonable(score)} for label, score in labelled])
        return
    for label, score in labelled:
        print(f"{label}: {_said(score)}")


def _choose(name: str | None, flags: Flags) -> None:
    model = load(name or shared.unnamed(), flags.device)
    found = choose(
        model,
        flags.context,
        flags.choices,
        normalise=flags.normalise,
        method=flags.method,
        draws=flags.draws,
        seed=flags.seed,
    )
    if flags.json:
        scores = [shared.jsonable(score) for score in found.scores]
        shared.emit({**found._asdict(), "scores": scores})
        return
    for number, (text, score) in enumerate(zip(flags.choices, found.scores, strict=True)):
        mark = "*" if number == found.best else " "
        print(f"{mark} {text!r}: {shared.said(score)}")
    print(f"the best is the best with probability {found.probability:.3g}")


def _texts(flags: Flags) -> list[tuple[str, str]]:
    """Return texts, each with a label for people."""
    whole = [(place, _read(place)) for place in flags.text]
    if not flags.lines:
        return whole
    return [
        (f"{place}:{number}", line)
        for place, text in whole
        for number, line in enumerate(text.splitlines(), start=1)
        if line
    ]


def _read(place: str) -> str:
    try:
        return sys.stdin.read() if place == "-" else Path(place).expanduser().read_text("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{place} is not UTF-8 text; convert it first.") from None


def _jsonable(score: Likelihood) -> dict[str, Any]:
    return {
        **score._asdict(),
        "log_p": shared.jsonable(score.log_p),
        "bits_per_byte": shared.jsonable(score.bits_per_byte),
        "interval": score.interval,
    }


def _said(score: Likelihood) -> str:
    low, high = score.interval
    bits = score.bits_per_byte
    reach = (high - low) / 2 * bits.value / -score.log_p.value if score.log_p.value else 0.0
    words = [
        f"log p {'at least ' if score.bound else ''}{score.log_p.value:.6g} nats",
        f"95 % [{low:.6g}, {high:.6g}]",
        f"{bits.value:.4f} ± {reach:.2g} bits/byte",
        f"{score.num_tokens} tokens, {score.num_bytes} bytes",
        f"{score.method}, {score.evaluations} evaluations",
    ]
    if not math.isnan(score.gain):
        words.append(f"{score.gain:.3g} times plain Monte Carlo's worth")
    if not score.reached:
        words.append("precision not reached; raise --max-draws")
    return "; ".join(words)

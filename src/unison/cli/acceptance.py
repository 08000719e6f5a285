"""unison acceptance: draw how far each rule of speculation is from the best possible."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from unison import files
from unison.cli import shared
from unison.drafters.kind import watched
from unison.drafters.vocabulary import between, common_law
from unison.engine.reading import target_of
from unison.evaluate import figures
from unison.evaluate.figures import Curve, Panel
from unison.language_model import LanguageModel
from unison.prob import rng
from unison.prob.rng import Key
from unison.recipes.run import load
from unison.speculation.optimal import acceptance, optimal_acceptance

Laws = tuple[Float[Tensor, "N V"], Float[Tensor, "N V"]]
Rates = Mapping[str, Sequence[float]]

BEST = {  # what each rule is measured against: the drafts it takes
    "token": "independent drafts",
    "rrs": "independent drafts",
    "kseq": "independent drafts",
    "rsd": "without replacement",
    "greedy": "greedy drafts",
}
_DRAWN = ("rrs", "kseq", "rsd", "greedy", "match")
_SITE_TARGET, _SITE_DRAFT = 0, 1
_SPREAD = 2.0  # of the logits of a made-up target, in nats
_WRONG = 1.5  # of what its drafter gets wrong


@dataclass(frozen=True)
class Flags:
    """Print the share of drafts that each rule of speculation accepts, and the best possible.

    One level of a tree, k drafts. With --target and --drafter, the laws of two models at the
    places of a text; without, made-up laws at some temperatures.

    Attributes:
        target: A left-to-right model.
        drafter: A smaller one.
        text: What both read.
        k: Most drafts.
        temperatures: Of target and drafter.
        places: Laws that are averaged over.
        vocab: Tokens of made-up laws.
        seed: Names the made-up laws.
        out: A picture, .png or .svg.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout.
    """

    target: str | None = None
    drafter: str | None = None
    text: Path | None = None
    k: int = 4
    temperatures: tuple[float, ...] = (0.5, 1.0)
    places: int = 8
    vocab: int = 200
    seed: int = 0
    out: Path | None = None
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    flags = shared.parse(Flags, "acceptance", arguments)
    _check(flags)
    logits = _made_up(flags) if flags.target is None else _read(flags)
    found = {}
    for temperature in flags.temperatures:
        p, q = ((one / temperature).double().softmax(-1) for one in logits)
        found[temperature] = rates(p, q, flags.k)
    if flags.out is not None:
        files.write_bytes(flags.out, picture(found, flags.out.suffix[1:]))
    if flags.json:
        shared.emit({f"{t:g}": one for t, one in found.items()})
        return
    for temperature, one in found.items():
        shared.Console().print(table(temperature, one))
    if flags.out is not None:
        print(f"drawn: {flags.out}")


def rates(p: Float[Tensor, "N V"], q: Float[Tensor, "N V"], most: int) -> dict[str, list[float]]:
    """Return the mean acceptance of each rule and each optimum for 1 to ``most`` drafts."""
    counts = range(1, most + 1)
    kinds: dict[str, dict[str, bool]] = {
        "independent drafts": {},
        "without replacement": {"replacement": False},
        "greedy drafts": {"greedy": True},
    }
    found = {
        name: [float(optimal_acceptance(p, q, k, **kind).mean()) for k in counts]
        for name, kind in kinds.items()
    }
    return found | {
        rule: [float(acceptance(rule, p, q, k).mean()) for k in counts]
        for rule in ("token", *_DRAWN)
    }


def table(temperature: float, found: Rates) -> Table:
    """Return the rates, and what share of the best possible the most drafts reach."""
    most = len(found["token"])
    made = Table("rule", *[f"k = {k}" for k in range(1, most + 1)], "of the best")
    made.title = f"accepted at temperature {temperature:g}"
    for rule in ("token", *_DRAWN):
        best = found[BEST[rule]][-1] if rule in BEST else found[rule][-1]
        share = f"{found[rule][-1] / best:.1%}" if best > 0 else "-"
        made.add_row(rule, *[f"{rate:.3f}" for rate in found[rule]], share)
    made.add_section()
    for name in dict.fromkeys(BEST.values()):
        made.add_row(f"best, {name}", *[f"{rate:.3f}" for rate in found[name]], "")
    return made


def picture(found: Mapping[float, Rates], kind: str) -> bytes:
    """Return the rates by the number of drafts, a panel for each temperature."""
    panels = []
    for temperature, one in found.items():
        k = list(range(1, len(one["token"]) + 1))
        named = [(name, one[name]) for name in ("rrs", "kseq", "rsd", "greedy")]
        named += [("best, independent", one["independent drafts"])]
        named += [("best, without repl.", one["without replacement"])]
        curves = [Curve(name, k, rate) for name, rate in named]
        panels.append(Panel(curves, "drafts k", f"accepted, temperature {temperature:g}", True))
    return figures.drawn(panels, kind="svg" if kind == "svg" else "png")


def _check(flags: Flags) -> None:
    """Raise a ``ValueError`` for what cannot be drawn."""
    given = [flags.target, flags.drafter, flags.text]
    if any(given) != all(given):
        raise ValueError("give all of --target, --drafter and --text, or none for made-up laws.")
    if min(flags.k, flags.places) < 1 or flags.k > 12 or flags.vocab < 2:
        raise ValueError(
            f"--k must be from 1 to 12, --places at least 1 and --vocab at least 2, got {flags.k}, "
            f"{flags.places} and {flags.vocab}."
        )
    if not flags.temperatures or not all(0 < t < math.inf for t in flags.temperatures):
        raise ValueError(f"--temperatures must be above 0, got {flags.temperatures}.")
    if flags.out is not None and flags.out.suffix not in (".png", ".svg"):
        raise ValueError(f"--out must end in .png or .svg, got {flags.out}.")


def _made_up(flags: Flags) -> Laws:
    """Return logits of a target and of a drafter that is somewhat wrong."""
    key = Key(rng.rows(flags.seed, 0, flags.places))
    own, wrong = (
        torch.special.ndtri(rng.uniform(key, site, flags.vocab))
        for site in (_SITE_TARGET, _SITE_DRAFT)
    )
    return _SPREAD * own, _SPREAD * own + _WRONG * wrong


def _read(flags: Flags) -> Laws:
    """Return the logits of two models at places spread over a text."""
    target, draft = (load(str(name), flags.device) for name in (flags.target, flags.drafter))
    words = between(target, draft)
    assert flags.text is not None
    tokens = target.tokenizer.encode(flags.text.read_text())[: target.max_length - 1]
    if len(tokens) < 2:
        raise ValueError(f"{flags.text} is too short: {len(tokens)} tokens, of at least 2.")
    places = torch.linspace(0, len(tokens) - 1, flags.places).long().unique()
    theirs = _logits(draft, words.read(tokens), places)
    return _logits(target, tokens, places), common_law(theirs, words.table(theirs.device))


def _logits(model: LanguageModel, tokens: Sequence[int], places: Tensor) -> Any:
    """Return what a model thinks comes after some of the inputs of a text."""
    target = target_of(model)
    inputs = torch.tensor([[target.begin, *tokens]], device=model.device)
    hidden = watched(target.network, inputs).hidden[:, places.to(model.device)]
    with torch.no_grad():
        return target.network.logits(hidden)[0].float().cpu()

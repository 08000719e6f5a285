"""unison explain-speculation: say where the time goes when several tokens are written at once."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from unison import files
from unison.cli import prompts, shared, speculation
from unison.engine.precision import quantised
from unison.engine.quantised import Precision
from unison.evaluate import figures
from unison.evaluate.figures import Curve, Panel
from unison.generation import Sampling, speculating
from unison.language_model import LanguageModel
from unison.recipes.run import load
from unison.speculation import Ask, Speculation, Text, cost, speculate
from unison.speculation.account import Account, Best, Share, lengths, survival, token_class
from unison.speculation.cost import CostModel
from unison.speculation.parts import Target
from unison.speculation.pearl import Pearl


@dataclass(frozen=True)
class Flags:
    """Measure speculation. The first argument is a left-to-right model.

    Writes behind each prompt, counts which drafts pass, by depth and by the class of the token that
    was written, measures what the target takes for so many tokens at once, and says how long drafts
    should have been.

    Attributes:
        prompt: Given text.
        prompts: File with a prompt on each line (see unison generate).
        new_tokens: Tokens to write behind each prompt.
        temperature: 0 for the most probable token, 1 for the model's own law.
        weights: Pack the weights: exact changes none of them, 8 and 4 round to so many bits.
        cost: File of the target's measured cost: read if it is there, else written.
        out: Picture to draw (PNG or SVG).
        seed: Names all randomness.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    prompt: str = ""
    prompts: Path | None = None
    new_tokens: int = 64
    temperature: float = 0.0
    weights: Precision | None = None
    cost: Path | None = None
    out: Path | None = None
    seed: int = 0
    device: str = "auto"
    json: bool = False


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        lossless: Whether the text has the target's law.
        account: What was counted.
        seconds: Of each part of a round, in all.
        cost: Of the target and its drafter.
        lengths: What chains of each length would give; empty where nothing was drafted.
    """

    lossless: bool
    account: Account
    seconds: dict[str, float]
    cost: CostModel
    lengths: list[Best]


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    parts, arguments = speculation.take(arguments)
    flags = shared.parse(Flags, "explain-speculation", arguments, speculation.about())
    if parts is None:
        raise ValueError(
            "name a drafter: --drafter lookup, for example, or a trained one's folder."
        )
    if flags.out is not None:
        figures.require()
        if flags.out.suffix not in (".png", ".svg"):
            raise ValueError(f"--out {flags.out}: name a .png or an .svg file.")
    texts = _texts(flags)
    model = load(name or shared.unnamed(), flags.device)
    if flags.weights is not None:
        model = quantised(model, flags.weights)
    how = speculation.built(model, parts)
    if isinstance(how, Pearl):
        raise ValueError("pearl has no rounds to explain; name another scheduler.")
    how = speculating.fitted(model, how, Sampling(temperature=flags.temperature))
    report = explained(model, how, texts, flags)
    if flags.out is not None:
        files.write_bytes(flags.out, picture(report, flags.out.suffix[1:]))
    if flags.json:
        shared.emit(document(report))
    else:
        tell(report)


def _texts(flags: Flags) -> list[str]:
    if flags.prompts is None:
        return [flags.prompt]
    if flags.prompt:
        raise ValueError("--prompts FILE says what is given: leave --prompt out.")
    asked = prompts.read(flags.prompts)
    if asked.parts is not None or any(asked.suffix):
        raise ValueError("speculation continues texts: give prompts alone.")
    return [asked.prompt] if isinstance(asked.prompt, str) else list(asked.prompt)


def explained(model: LanguageModel, how: Speculation, texts: Sequence[str], flags: Flags) -> Report:
    """Write behind each text, and return what was found."""
    target = speculating.fitted_target(model, how)
    account = Account(lambda token: token_class(model.text([token], show_special=True)))
    for number, text in enumerate(texts):
        tokens = torch.tensor([[target.begin, *model.tokenizer.encode(text)]], device=model.device)
        length = torch.tensor([tokens.shape[1]], device=model.device)
        seed = torch.tensor([flags.seed + number])
        ask = Ask(Text(tokens, length), [flags.new_tokens], seed, model.eos_ids)
        speculate(how, target, ask, account)
    price = _price(model, target, how, flags)
    alive = survival(account.by_depth)
    return Report(
        how.lossless,
        account,
        dict(account.seconds),
        price,
        lengths(alive, price.target, lambda depth: depth * price.draft) if alive else [],
    )


def _price(model: LanguageModel, target: Target, how: Speculation, flags: Flags) -> CostModel:
    """Return what the target costs: as it was measured before, or now."""
    shape = model.network.config
    name = f"{shape.depth} blocks of {shape.hidden}, {shape.vocab_size} tokens, {flags.weights}"
    if flags.cost is not None and flags.cost.exists():
        price = cost.load(flags.cost, name)
    else:
        grid = cost.Grid((1, 2, 3, 4, 6, 8, 12, 16), (min(256, target.max_length // 2),))
        price = cost.profiled(target, grid, name)
        if flags.cost is not None:
            price.save(flags.cost)
    return price if how.drafter is None else cost.with_drafter(price, how.drafter, target)


def document(report: Report) -> dict[str, Any]:
    """Return the report as JSON."""
    account = report.account
    return {
        "lossless": report.lossless,
        "rounds": account.rounds,
        "tokens": account.written,
        "tokens_per_forward": account.tokens_per_forward,
        "drafts_per_round": account.nodes / max(account.rounds, 1),
        "by_depth": {str(depth): _share(share) for depth, share in account.by_depth.items()},
        "by_class": {name: _share(share) for name, share in account.by_class.items()},
        "seconds": report.seconds,
        "cost": dataclasses.asdict(report.cost),
        "lengths": [{**way._asdict(), "tokens_per_second": way.speed} for way in report.lengths],
    }


def _share(share: Share) -> dict[str, int]:
    return {"passed": share.passed, "tested": share.tested}


def tell(report: Report) -> None:
    """Print the report as tables."""
    console, account = Console(), report.account
    law = "the target's own law" if report.lossless else "NOT the target's law (a lossy part)"
    console.print(
        f"{account.written} tokens in {account.rounds} evaluations: "
        f"{account.tokens_per_forward:.2f} tokens per forward, "
        f"{account.nodes / max(account.rounds, 1):.1f} drafts per round; {law}."
    )
    console.print(_where(report.seconds))
    if account.by_depth:
        console.print(_shares("depth", {str(d): share for d, share in account.by_depth.items()}))
        console.print(_shares("token written", account.by_class))
        console.print(_ways(report.lengths))


def _where(seconds: dict[str, float]) -> Table:
    table, total = Table(title="Where the time went"), sum(seconds.values())
    for heading in ("part", "seconds", "share"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for part, spent in seconds.items():
        table.add_row(part, f"{spent:.3f}", f"{spent / total:.0%}" if total else "")
    return table


def _shares(what: str, shares: dict[str, Share]) -> Table:
    table = Table(title=f"Drafts that passed, by {what}")
    for heading in (what, "passed", "tested", "share"):
        table.add_column(heading, justify="left" if heading == what else "right")
    for name, share in shares.items():
        table.add_row(name, str(share.passed), str(share.tested), f"{share.rate:.0%}")
    return table


def _ways(ways: Sequence[Best]) -> Table:
    table = Table(title="How long drafts should have been (a chain of the first drafts)")
    for heading in ("drafts", "tokens a round", "ms a round", "tokens/s", "times plain"):
        table.add_column(heading, justify="right")
    best = max(ways, key=lambda way: way.speed)
    for way in ways:
        table.add_row(
            str(way.depth),
            f"{way.tokens:.2f}",
            f"{way.seconds * 1e3:.1f}",
            f"{way.speed:.1f}",
            f"{way.speed / ways[0].speed:.2f}" + (" best" if way is best else ""),
        )
    return table


def picture(report: Report, kind: Any) -> bytes:
    """Return acceptance, cost and speed over the length of drafts."""
    shares, ways = report.account.by_depth, report.lengths
    depth = list(shares)
    alive = survival(shares)
    over = [way.depth for way in ways]
    panels = [
        Panel(
            [
                Curve("passes", depth, [share.rate for share in shares.values()]),
                Curve("reached", over[1:], alive),
            ],
            "drafts in a round",
            "share of drafts that pass, and of rounds that come so far",
        ),
        Panel(
            [
                Curve("target", over, [report.cost.target(1 + n) * 1e3 for n in over]),
                Curve("with drafts", over, [way.seconds * 1e3 for way in ways]),
            ],
            "drafts in a round",
            "CPU milliseconds of a round",
        ),
        Panel(
            [Curve("", over, [way.speed for way in ways])],
            "drafts in a round",
            "tokens per CPU second",
        ),
    ]
    return figures.drawn(panels, kind=kind)

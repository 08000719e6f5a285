"""unison audit-leaks: measure what told log-probabilities give away of a hidden prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from unison import files
from unison.cli import shared
from unison.evaluate import figures
from unison.recipes.run import load
from unison.serve.leaks import OFF, Knobs
from unison.serve.leaks.candidates import talk
from unison.serve.leaks.inverter import Training
from unison.serve.leaks.report import (
    STANDARD,
    Advice,
    Row,
    Span,
    advised,
    panels,
    rows_of,
    spans,
    toy_rows,
)
from unison.serve.leaks.toy import Toy

_SPANS = (
    Knobs(),
    Knobs(20),
    Knobs(9),
    Knobs(8),
    Knobs(5),
    Knobs(None, 4),
    Knobs(20, 4),
    Knobs(20, 2),
    Knobs(20, 1),
)
_KINDS = (".png", ".svg")


@dataclass(frozen=True)
class Flags:
    """Say how often the best attacker names a hidden prompt, by what a server tells.

    Without a model, on a toy whose prompts are all tried, beside an inverter that is trained on
    them. With a model and a list of candidates, one of which is hidden, the best attacker alone.

    Attributes:
        candidates: A file with one prompt a line; it needs a model, the first argument.
        visible: What everybody knows to stand after a hidden candidate.
        turns: Tokens the attacker hears.
        draws: Conversations with each candidate.
        logprobs: Also audit this many alternatives, as the server's setting of that name.
        logprob_digits: And this many decimals.
        inverter_steps: Steps the inverter is trained, for each setting and number of tokens;
            0 for none, 300 for what the documentation shows.
        slack: How much more often than from the text alone the prompt may be named by what is
            recommended.
        seed: Names the toy's weights, or what is said.
        out: A picture, .png or .svg.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout.
    """

    candidates: Path | None = None
    visible: str = ""
    turns: int = 3
    draws: int = 4
    logprobs: int | None = None
    logprob_digits: int | None = None
    inverter_steps: int = 0
    slack: float = 0.05
    seed: int = 0
    out: Path | None = None
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "audit-leaks", arguments)
    _check(name, flags)
    knobs = _knobs(flags)
    rows = _on_toy(flags, knobs) if name is None else _on_model(name, flags, knobs)
    widths = spans(_SPANS) if name is None else []
    advice = advised(rows, flags.slack)
    if flags.out is not None:
        kind = "svg" if flags.out.suffix == ".svg" else "png"
        files.write_bytes(flags.out, figures.drawn(panels(rows), kind=kind))
    if flags.json:
        shared.emit(_document(rows, widths, advice))
        return
    _print(rows, widths, advice)


def _check(name: str | None, flags: Flags) -> None:
    if (name is None) != (flags.candidates is None):
        raise ValueError(
            "a real model's prompts cannot all be tried: give a model, the first argument, and "
            "--candidates, a file with one prompt a line; or neither, for the toy."
        )
    if not 1 <= flags.turns <= 4 and name is None:
        raise ValueError(f"the toy is tried for 1 to 4 turns, got {flags.turns}.")
    if flags.inverter_steps < 0:
        raise ValueError(f"inverter_steps must be at least 0, got {flags.inverter_steps}.")
    if flags.out is not None:
        figures.require()
        if flags.out.suffix not in _KINDS:
            raise ValueError(f"out must end in {' or '.join(_KINDS)}, got {flags.out}.")


def _knobs(flags: Flags) -> tuple[Knobs, ...]:
    """Return the standard settings, and the one asked for unless it is among them."""
    if flags.logprobs is None and flags.logprob_digits is None:
        return STANDARD
    asked = OFF if flags.logprobs == 0 else Knobs(flags.logprobs, flags.logprob_digits)
    return STANDARD if asked in STANDARD else (*STANDARD, asked)


def _on_toy(flags: Flags, knobs: Sequence[Knobs]) -> list[Row]:
    training = Training(steps=flags.inverter_steps) if flags.inverter_steps else None
    return toy_rows(Toy(seed=flags.seed), flags.turns, training, knobs)


def _on_model(name: str, flags: Flags, knobs: Sequence[Knobs]) -> list[Row]:
    assert flags.candidates is not None  # checked
    lines = flags.candidates.expanduser().read_text("utf-8").splitlines()
    said = talk(
        load(name, flags.device),
        [line for line in lines if line],
        turns=flags.turns,
        draws=flags.draws,
        visible=flags.visible,
        seed=flags.seed,
    )
    return rows_of(said, knobs)


def _document(rows: Sequence[Row], widths: Sequence[Span], advice: Advice) -> dict[str, Any]:
    return {
        "knobs": [
            {
                **row.knobs._asdict(),
                "best": [
                    {**leak._asdict(), "prompts": shared.jsonable(leak.prompts)}
                    for leak in row.best
                ],
                "learnt": [each._asdict() for each in row.learnt],
            }
            for row in rows
        ],
        "subspace": [{**span._asdict(), "knobs": span.knobs._asdict()} for span in widths],
        "advice": {
            **advice.knobs._asdict(),
            "text_only": advice.text_only,
            "recovered": advice.recovered,
            "slack": advice.slack,
        },
    }


def _print(rows: Sequence[Row], widths: Sequence[Span], advice: Advice) -> None:
    shared.Console().print(_recovered(rows))
    if widths:
        shared.Console().print(_rebuilt(widths))
    print(
        f"the text alone names {advice.text_only:.1%} of prompts; the most telling setting within "
        f"{advice.slack:.1%} of that is: {advice.knobs} ({advice.recovered:.1%})"
    )


def _recovered(rows: Sequence[Row]) -> Table:
    table = Table(title="share of hidden prompts named after each token")
    table.add_column("told of each token")
    for leak in rows[0].best:
        table.add_column(f"best, {leak.turns}", justify="right")
    table.add_column("bits learnt", justify="right")
    for each in rows[0].learnt:
        table.add_column(f"inverter, {each.turns}", justify="right")
    for row in rows:
        best = [_share(leak.prompts.value, leak.prompts.stderr) for leak in row.best]
        learnt = [f"{each.prompts:.3f}" for each in row.learnt]
        table.add_row(str(row.knobs), *best, f"{row.best[-1].bits:.2f}", *learnt)
    return table


def _share(value: float, stderr: float) -> str:
    return f"{value:.3f} ± {1.96 * stderr:.3f}" if stderr >= 5e-4 else f"{value:.3f}"


def _rebuilt(widths: Sequence[Span]) -> Table:
    table = Table(title="64 log-probabilities of a layer of width 8, rebuilt from what is told")
    for name in ("told", "rank seen", "settled", "residual, nats", "largest error, nats"):
        table.add_column(name)
    for span in widths:
        rank = "" if span.rank is None else str(span.rank)
        settled = "yes" if span.settled else "no"
        table.add_row(str(span.knobs), rank, settled, f"{span.residual:.1e}", f"{span.error:.1e}")
    return table

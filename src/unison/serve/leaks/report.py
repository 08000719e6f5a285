"""How do the knobs compare, and which may be left on? Tables, figures and a recommendation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from jaxtyping import Int
from torch import Tensor

from unison.evaluate.figures import Curve, Panel
from unison.serve.leaks.attacker import Leak, leaks
from unison.serve.leaks.inverter import Inverted, Training, inverted
from unison.serve.leaks.knobs import OFF, Knobs, told
from unison.serve.leaks.subspace import head_of, rebuild, seen_rank
from unison.serve.leaks.talk import Talk, listed
from unison.serve.leaks.toy import Toy, following

STANDARD = (
    Knobs(),
    *(Knobs(None, digits) for digits in (4, 3, 2, 1)),
    Knobs(5),
    Knobs(5, 2),
    Knobs(5, 1),
    Knobs(1),
    *(Knobs(1, digits) for digits in (3, 2, 1, 0)),
    Knobs(0),
    *(Knobs(0, digits) for digits in (2, 1, 0)),
    OFF,
)
_DRAWN = (Knobs(), Knobs(5, 1), Knobs(1, 1), Knobs(0, 1), Knobs(0, 0), OFF)
_WIDE = Toy(vocab=64, width=8)  # where D + 1 numbers are few of the vocabulary
_PLACES = 200


class Row(NamedTuple):
    """What one setting of the knobs lets through.

    Attributes:
        knobs: The setting.
        best: The best attacker, after each token.
        learnt: The trained inverter, after each token; empty where none was trained.
    """

    knobs: Knobs
    best: tuple[Leak, ...]
    learnt: tuple[Inverted, ...] = ()


class Span(NamedTuple):
    """How well a whole vocabulary is rebuilt from what is told.

    Attributes:
        knobs: What is told.
        rank: Of what is told of the whole vocabulary, as an attacker without weights sees it;
            ``None`` where part of it is told.
        settled: Whether the told numbers leave nothing open.
        residual: Largest root mean square by which told numbers are missed, nats.
        error: Largest error of a log-probability, nats.
    """

    knobs: Knobs
    rank: int | None
    settled: bool
    residual: float
    error: float


@dataclass(frozen=True)
class Advice:
    """What a server may tell where prompts are to stay hidden.

    Attributes:
        knobs: The most telling setting within the slack.
        text_only: How often the best attacker guesses the prompt from the text alone.
        recovered: How often with this setting.
        slack: How much more often was allowed.
    """

    knobs: Knobs
    text_only: float
    recovered: float
    slack: float


def toy_rows(
    toy: Toy, turns: int, training: Training | None, knobs: Sequence[Knobs] = STANDARD
) -> list[Row]:
    """Return what every setting lets through of the toy's prompts.

    Args:
        toy: The model.
        turns: Tokens that are heard.
        training: Of the inverter, anew for each setting and number of tokens; ``None`` for none.
        knobs: Settings.
    """
    network = toy.network()
    said = listed(partial(following, network), toy.prompts, turns)
    rows = []
    for each in knobs:
        learnt = () if training is None else _learnt(said, each, toy.prompts, network, training)
        rows.append(Row(each, tuple(leaks(said, each, toy.prompts)), learnt))
    return rows


def _learnt(
    said: Talk, knobs: Knobs, prompts: Int[Tensor, "X L"], network: Any, training: Training
) -> tuple[Inverted, ...]:
    head = head_of(network)
    some = (said._replace(turns=said.turns[:count]) for count in range(1, len(said.turns) + 1))
    return tuple(inverted(part, knobs, prompts, head, training) for part in some)


def rows_of(said: Talk, knobs: Sequence[Knobs] = STANDARD) -> list[Row]:
    """Return what every setting lets through of any talk, to the best attacker."""
    return [Row(each, tuple(leaks(said, each))) for each in knobs]


def spans(knobs: Sequence[Knobs]) -> list[Span]:
    """Return how well a vocabulary of 64 is rebuilt from what is told, of a layer of width 8."""
    network = _WIDE.network()
    head = head_of(network)
    step = len(_WIDE.prompts) // _PLACES
    logp = following(network, _WIDE.prompts[::step][:_PLACES]).double()
    found = []
    for each in knobs:
        heard = told(logp, each.top_k, each.digits)
        rebuilt = rebuild(heard, head)
        whole = heard.logp.gather(1, heard.tokens.argsort(1)) if each.top_k is None else None
        found.append(
            Span(
                each,
                None if whole is None else seen_rank(whole),
                bool(rebuilt.settled.all()),
                float(rebuilt.residual.max()),
                float((rebuilt.logp - logp).abs().max()),
            )
        )
    return found


def advised(rows: Sequence[Row], slack: float = 0.05) -> Advice:
    """Return the most telling setting that helps the best attacker little beyond the text.

    Args:
        rows: One of them tells no number: the text alone.
        slack: How much more often the prompt may be guessed, after the last token.

    Raises:
        ValueError: No row tells nothing, or the slack is negative.
    """
    if slack < 0:
        raise ValueError(f"slack must be at least 0, got {slack}.")
    alone = [row for row in rows if row.knobs.off]
    if not alone:
        raise ValueError("what the text alone gives away is not among the rows; add OFF.")
    text_only = alone[0].best[-1].prompts.value
    allowed = [row for row in rows if row.best[-1].prompts.value <= text_only + slack]
    most = max(allowed, key=lambda row: row.best[-1].bits)
    return Advice(most.knobs, text_only, most.best[-1].prompts.value, slack)


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Return the figure: prompts recovered after each token, by the best attacker and the learnt.

    Six settings at most are drawn: as many lines as a panel tells apart.
    """
    picked = [row for row in rows if row.knobs in _DRAWN]
    best = [
        Curve(str(row.knobs), *_points([(leak.turns, leak.prompts.value) for leak in row.best]))
        for row in picked
    ]
    drawn = [Panel(best, "tokens heard", "share of hidden prompts the best attacker names")]
    if any(row.learnt for row in picked):
        learnt = [
            Curve(str(row.knobs), *_points([(each.turns, each.prompts) for each in row.learnt]))
            for row in picked
        ]
        drawn.append(Panel(learnt, "tokens heard", "share a small trained inverter names"))
    return drawn


def _points(pairs: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]

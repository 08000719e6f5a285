"""Can a text of which parts are missing be completed so that a language holds it? Exactly.

The missing parts are gaps of any length, or slots for tokens. The completions of what is given
form a graph over the terminals of the language, lexemes that are known in part included; whether
one of them follows the rules is a question of saturation (``context_free.saturation``), and the
answer comes with a witness.

The question is that of Mündler, Dekoninck and Vechev (2025, arXiv 2508.10111); the answer for a
number of slots is ours.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from unison.constrain.automaton.net import spelled
from unison.constrain.context_free.binary import Binary, binary
from unison.constrain.context_free.closing import Closed, merged, trace
from unison.constrain.context_free.cuts import Cuts, cuts
from unison.constrain.context_free.gaps import UNKNOWN, Gaps
from unison.constrain.context_free.saturation import Graph, Walk, saturate
from unison.constrain.context_free.slots import GIVEN, Filling, Slots, narrowed
from unison.constrain.context_free.spread import Spread
from unison.constrain.language import ConstraintError, Grammar
from unison.constrain.vocabulary import Vocabulary

__all__ = [
    "GAP", "GIVEN", "Gap", "Ready", "Slots", "UndecidedError",
    "completion", "explanation", "fitting", "member", "ready",
]  # fmt: skip

_SHOWN = 60


@dataclass(frozen=True)
class Gap:
    """A missing part of any length, which may be nothing."""


GAP = Gap()
Piece = str | Gap


class UndecidedError(ConstraintError):
    """A question whose answer takes more work than was allowed."""


@dataclass(frozen=True, eq=False)
class Ready:
    """A grammar prepared for questions, where there are many.

    Attributes:
        rules: Its rules over terminals.
        cuts: How texts are cut into terminals.
        about: What the language is called in messages.
    """

    rules: Binary
    cuts: Cuts
    about: str


def ready(grammar: Grammar) -> Ready:
    """Prepare a grammar for questions."""
    rules = binary(grammar)
    return Ready(rules, cuts(rules, grammar), grammar.about)


def member(grammar: Grammar | Ready, text: str) -> bool:
    """Return whether the language holds a text."""
    return completion(grammar, [text]) is not None


def completion(
    grammar: Grammar | Ready, pieces: Sequence[Piece], limit: int | None = None
) -> str | None:
    """Return a text of the language in which something stands for each gap.

    Args:
        grammar: The language.
        pieces: Given texts and gaps, in order.
        limit: How much work is allowed, in facts looked at; ``None`` for all it takes.

    Returns:
        One of the texts; ``None`` if there is none.

    Raises:
        UndecidedError: The limit was reached.
    """
    found = _completion(_ready(grammar), _items(pieces), limit)
    return None if found is None else found.decode()


def fitting(
    grammar: Grammar | Ready, vocabulary: Vocabulary, slots: Slots, limit: int | None = None
) -> list[int] | None:
    """Return tokens for all slots whose text the language holds.

    Each hole holds text tokens, then nulls to its end; given tokens are never nulls.

    Args:
        grammar: The language.
        vocabulary: What tokens spell.
        slots: What is known about the slots.
        limit: How much work is allowed, in facts looked at in one search (there is one each for
            1, 2, 4, ... tokens in each hole); ``None`` for all it takes.

    Returns:
        One token for each slot; ``None`` if no tokens do.

    Raises:
        UndecidedError: The limit was reached.
    """
    language = _ready(grammar)
    spread = Spread(language.cuts, vocabulary)
    null = vocabulary.nulls[0] if vocabulary.nulls else GIVEN
    for some in narrowed(slots, vocabulary.nulls):  # where there are answers, short ones are near
        filling = Filling(language.cuts, spread, vocabulary, some)
        graph = Closed(filling)
        walk = _walk(language, graph, limit)
        if walk is not None:
            return filling.tokens(graph.moves(walk), null)
    return None


def explanation(grammar: Grammar | Ready, pieces: Sequence[Piece]) -> str | None:
    """Say which beginning of given texts is already impossible; ``None`` if there is a completion.

    Args:
        grammar: The language.
        pieces: Given texts and gaps, in order.
    """
    language = _ready(grammar)
    if completion(language, pieces) is not None:
        return None
    units: list[Piece] = []  # characters and gaps
    for piece in pieces:
        units += [piece] if isinstance(piece, Gap) else list(piece)
    about = language.about
    if completion(language, [GAP]) is None:
        return f"{about} holds no text at all."
    end = bisect_left(
        range(1, len(units) + 1),
        True,
        key=lambda count: completion(language, [*units[:count], GAP]) is None,
    )
    if end == len(units):
        return f"no text of {about} can end with {_shown(units)}."
    begin = next((i + 1 for i in reversed(range(end)) if isinstance(units[i], Gap)), 0)
    where = f"after {_shown(units[:begin])}" if begin else "at its beginning"
    return f"no text of {about} can contain {_shown(units[begin : end + 1])} {where}."


def _shown(units: Sequence[Piece]) -> str:
    """Return texts in quotation marks between gaps; of a long one, the end."""
    runs = groupby(units, lambda unit: isinstance(unit, Gap))
    shown = ["[gap]" if gap else _quoted("".join(map(str, run))) for gap, run in runs]
    return " ".join(shown)


def _quoted(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"...{text[-_SHOWN:]!r}"


def _completion(language: Ready, items: Sequence[int], limit: int | None) -> bytes | None:
    graph = Closed(Gaps(language.cuts, items))
    alike = len(language.cuts.barred) > 1  # else no two places have the same future
    walk = _walk(language, merged(graph) if alike else graph, limit)
    if walk is None:
        return None
    return b"".join(text for _, text, _ in graph.moves(trace(graph, walk.word) if alike else walk))


def _walk(language: Ready, graph: Graph, limit: int | None) -> Walk | None:
    outcome = saturate(language.rules, graph, limit)
    if not outcome.decided:
        raise UndecidedError(
            f"whether {language.about} allows a completion was not settled within "
            f"{outcome.facts:,} facts, the limit; raise it, or give no limit."
        )
    return outcome.walk


def _ready(grammar: Grammar | Ready) -> Ready:
    return ready(grammar) if isinstance(grammar, Grammar) else grammar


def _items(pieces: Sequence[Piece]) -> list[int]:
    """Return given bytes, and ``UNKNOWN`` once for gaps in a row."""
    flat = [
        item
        for piece in pieces
        for item in ([UNKNOWN] if isinstance(piece, Gap) else spelled(piece, "the given text"))
    ]
    return [item for item, run in groupby(flat) for item in ([item] if item == UNKNOWN else [*run])]

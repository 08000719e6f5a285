"""What does a grammar in Lark's notation hold, before it is a language?"""

from dataclasses import dataclass, field

from unison.constrain.language import Expr
from unison.constrain.sources.reading import Reader


@dataclass(frozen=True)
class Terminal:
    """A piece of text that rules do not look into.

    Attributes:
        expr: Its characters; ``Ref``s are other terminals.
        at: Where its definition stands.
        priority: The larger, the earlier it is tried.
        literal: The text of a terminal that is one string; ``None`` for patterns.
        habits: Its repetitions in the order of the text, "lazy" and "greedy", and the terminals
            it uses between them.
    """

    expr: Expr
    at: int
    priority: int = 0
    literal: str | None = None
    habits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """What a rule stands for, by ``Ref``s to rules, terminals and its own parameters."""

    expr: Expr
    at: int
    params: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """A template with what its parameters stand for."""

    template: str
    args: tuple[str, ...]
    at: int

    @property
    def shown(self) -> str:
        """How it is written, which is also the name of the rule it becomes."""
        return f"{self.template}{{{', '.join(self.args)}}}"


@dataclass
class Source:
    """All definitions of a grammar.

    Attributes:
        reader: The text, for messages.
        rules: By name.
        terminals: By name; those without one are called what they look like.
        ignored: Terminals that may stand anywhere.
        calls: Uses of templates, by what they look like.
        uses: Each name that is used, and where.
    """

    reader: Reader
    rules: dict[str, Rule] = field(default_factory=dict)
    terminals: dict[str, Terminal] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    uses: list[tuple[str, int]] = field(default_factory=list)

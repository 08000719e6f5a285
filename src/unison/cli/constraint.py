"""Which texts do flags allow, and what of them is written out beforehand?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unison import constrain
from unison.constrain import Grammar
from unison.constrain.language import ConstraintError
from unison.suggest import nearest


@dataclass(frozen=True)
class Allowed:
    """What ``generate`` takes.

    Attributes:
        constraint: The language of the text; ``None`` for any text.
        scaffold: Its literal text written out, with holes; ``None`` to write all of it.
    """

    constraint: Grammar | None = None
    scaffold: tuple[str | int, ...] | None = None


@dataclass(frozen=True)
class Asked:
    """The flags that say what text is allowed; at most one of the first five is set.

    Attributes:
        json_schema: File with a JSON schema.
        regex: Regular expression of the whole text.
        grammar: File with a grammar (Lark or GBNF notation), or the name of a shipped one.
        template: Text with holes.
        choices: The texts to choose from, between bars.
        scaffold: Tokens of each hole, the text between them written out; ``None`` for no scaffold.
        unknown_keywords: Whether keywords of a JSON schema that no draft knows are refused.
    """

    json_schema: Path | None = None
    regex: str | None = None
    grammar: str | None = None
    template: str | None = None
    choices: str | None = None
    scaffold: int | None = None
    unknown_keywords: Literal["refuse", "ignore"] = "refuse"


def allowed(asked: Asked) -> Allowed:
    """Return what the flags allow.

    Raises:
        ValueError: Several say what is allowed, a file cannot be read, or what it says cannot be
            met.
    """
    said = [name for name in _READERS if getattr(asked, name) is not None]
    if len(said) > 1:
        flags = " and ".join("--" + name.replace("_", "-") for name in said)
        raise ValueError(f"{flags} both say what text is allowed; give one of them.")
    if asked.scaffold is not None and (not said or said[0] not in ("json_schema", "template")):
        raise ValueError(
            "--scaffold writes out the text between the values of --json-schema or --template; "
            "give one of these, or leave it out."
        )
    if asked.unknown_keywords != "refuse" and "json_schema" not in said:
        raise ValueError("--unknown-keywords speaks of a --json-schema; give one, or leave it out.")
    return _READERS[said[0]](asked) if said else Allowed()


def _schema(asked: Asked) -> Allowed:
    assert asked.json_schema is not None
    text = _text(asked.json_schema, "--json-schema")
    unknown = asked.unknown_keywords
    grammar = constrain.json_schema(text, unknown=unknown)
    if asked.scaffold is None:
        return Allowed(grammar)
    return Allowed(grammar, constrain.scaffold(text, asked.scaffold, unknown=unknown))


def _regex(asked: Asked) -> Allowed:
    assert asked.regex is not None
    return Allowed(constrain.regex(asked.regex))


def _grammar(asked: Asked) -> Allowed:
    assert asked.grammar is not None
    if asked.grammar in constrain.GRAMMARS:
        return Allowed(constrain.GRAMMARS[asked.grammar]())
    path = Path(asked.grammar)
    if not path.suffix and not path.exists():
        raise ConstraintError(
            f"--grammar {asked.grammar}: there is no such file and no shipped grammar of that name"
            f"{nearest(asked.grammar, constrain.GRAMMARS)}; shipped: "
            f"{', '.join(constrain.GRAMMARS)}."
        )
    return Allowed(constrain.grammar(_text(path, "--grammar"), about=str(path)))


def _template(asked: Asked) -> Allowed:
    assert asked.template is not None
    grammar = constrain.template(asked.template)
    if asked.scaffold is None:
        return Allowed(grammar)
    return Allowed(grammar, constrain.template_parts(asked.template, slots=asked.scaffold))


def _choices(asked: Asked) -> Allowed:
    assert asked.choices is not None
    return Allowed(constrain.choice(asked.choices.split("|")))


_READERS: dict[str, Callable[[Asked], Allowed]] = {
    "json_schema": _schema,
    "regex": _regex,
    "grammar": _grammar,
    "template": _template,
    "choices": _choices,
}


def _text(path: Path, flag: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConstraintError(f"{flag} {path} is not UTF-8 text: {error}.") from None
    except OSError as error:
        raise ConstraintError(f"{flag} {path} cannot be read: {error.strerror}.") from None

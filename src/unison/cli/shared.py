"""What do all verbs share? Parsing with tyro, JSON on stdout, progress on stderr."""

import contextlib
import dataclasses
import inspect
import io
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection
from functools import partial
from itertools import takewhile
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args

import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from unison import box, files
from unison.cli.suggest import nearest
from unison.recipes import run
from unison.types import Estimate

T = TypeVar("T")
F = TypeVar("F")

Flat = tyro.conf.arg(name="")  # a nested configuration whose flags carry no prefix
console = Console(stderr=True)
_WIDEST = 100
_RULE = re.compile(r"[╭╰]|[─-]+$")


def parse(kind: type[F], verb: str, arguments: list[str], about: str = "") -> F:
    """Parse arguments into a dataclass; a field without a default is a flag that must be given.

    Args:
        kind: The dataclass; its docstring is the help.
        verb: For messages.
        arguments: What to parse.
        about: Paragraphs to end the description with.

    Raises:
        ValueError: A flag is unknown (the message suggests the nearest one), missing, or has a
            value that does not fit.
        SystemExit: Help was printed.
    """
    own = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]
    parsed = _parsed(_class_of(kind, [_shown(f) for f in own]), verb, arguments, about)
    return kind(**{f.name: getattr(parsed, f.name) for f in own})


def _parsed(kind: type[F], verb: str, arguments: list[str], about: str) -> F:
    parser = partial(
        tyro.cli,
        kind,
        prog=f"unison {verb}",
        description=_description(kind.__doc__ or "", about),
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed, unknown = parser(args=arguments, return_unknown_args=True)
    except SystemExit as stop:
        if stop.code:
            raise ValueError(
                f"{_first_words(said.getvalue())}; see unison {verb} --help."
            ) from None
        raise
    if unknown:
        flag = unknown[0].partition("=")[0]
        raise ValueError(
            f"unknown option {flag!r}{nearest(flag, _flags(parser))}; see unison {verb} --help."
        )
    return parsed


def parse_with(
    kind: type[F], config: T, verb: str, arguments: list[str], about: str = ""
) -> tuple[F, T]:
    """Parse a verb's own flags and, beside them without prefix, those of a configuration.

    Args:
        kind: The verb's own flags, a dataclass; its docstring is the help.
        config: The configuration, a dataclass. A field the verb has a flag of the same name for
            gets none.
        verb: For messages.
        arguments: What to parse.
        about: Paragraphs to end the description with.

    Raises:
        ValueError: A flag is unknown, or a value is out of range.
    """
    mine = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]
    twin = concrete(config, leave_out={f.name for f in mine})
    beside = ("config", Annotated[twin, Flat], twin())
    both = _class_of(kind, [*(_shown(f) for f in mine), beside])
    parsed: Any = _parsed(both, verb, arguments, about)
    chosen = {f.name: getattr(parsed, f.name) for f in mine}
    return kind(**chosen), restored(parsed.config, config)


def _class_of(kind: type, fields: list[tuple[str, Any, Any]]) -> type[Any]:
    """Return a dataclass with these fields and the help of another, without code quotes."""
    made = dataclasses.make_dataclass(kind.__name__, fields, frozen=True)
    made.__doc__ = (kind.__doc__ or "").replace("``", "")
    return made


def _shown(field: dataclasses.Field[Any]) -> tuple[str, Any, Any]:
    """Return a field as the help shows it: what is left out unless given needs no default."""
    default = dataclasses.field(default=field.default, default_factory=field.default_factory)
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    return field.name, field.type if required else _typed(field.type), default


def _typed(kind: Any) -> Any:
    """Return a type whose flag names what to type: never ``None``, nor an empty default."""
    choices = get_args(kind) if NoneType in get_args(kind) else ()
    names = [c.__name__.upper() for c in choices if isinstance(c, type) and c is not NoneType]
    metavar = "|".join(names) if names and len(names) + 1 == len(choices) else None
    return Annotated[kind, tyro.conf.arg(metavar=metavar, help_behavior_hint=_unless_empty)]


def _unless_empty(default: str) -> str:
    return "" if default in ("None", "False", "''", "") else f"(default: {default})"


def _description(doc: str, about: str) -> str:
    """Return the paragraphs of a docstring up to its fields, and more, at the terminal's width."""
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    text = f"{inspect.cleandoc(doc).partition('Attributes:')[0]}\n\n{about}"
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    # tyro joins lines that begin with a letter, whatever the width.
    fill = textwrap.TextWrapper(width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n\n".join(fill.fill(paragraph) for paragraph in paragraphs if paragraph)


def _first_words(box: str) -> str:
    """Return the first paragraph under the title of tyro's box, as one line."""
    lines = [line.strip("│ ") for line in box.splitlines()]
    under = next((i for i, line in enumerate(lines) if _RULE.match(line)), -1) + 1
    words = takewhile(lambda line: line and not _RULE.match(line), lines[under:])
    return " ".join(" ".join(words).split()).rstrip(".")


def _flags(parser: Callable[..., Any]) -> list[str]:
    """Return every flag of a parser, as its help names them."""
    help_text = io.StringIO()
    with contextlib.redirect_stdout(help_text), contextlib.suppress(SystemExit):
        parser(args=["--help"])
    return sorted(set(re.findall(r"--[a-z][a-z0-9.-]*", help_text.getvalue())))


def concrete(default: Any, leave_out: Collection[str] = ()) -> Any:
    """Return the same configuration as a dataclass whose open fields have their value's type.

    tyro renders flags from annotations; a field annotated with a protocol would get none.

    Args:
        default: A dataclass.
        leave_out: Fields that get no flag because the verb has one of that name.
    """
    kind = type(default)
    fields = [
        _twin_field(f, getattr(default, f.name))
        for f in dataclasses.fields(kind)
        if f.name not in leave_out
    ]
    return _class_of(kind, fields)


def _twin_field(field: dataclasses.Field[Any], value: Any) -> tuple[str, Any, Any]:
    """Return name, type and default of a field that tyro can render."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        twin = concrete(value)
        return field.name, twin, dataclasses.field(default_factory=twin)
    default = dataclasses.field(default_factory=lambda: value)
    return field.name, _typed(field.type), default


def restored(twin: Any, default: T) -> T:
    """Return a configuration parsed through ``concrete``; its own validation runs here."""
    parsed = {
        f.name: _restored_field(getattr(twin, f.name), getattr(default, f.name))
        for f in dataclasses.fields(twin)
    }
    return dataclasses.replace(default, **parsed)  # pyright: ignore[reportArgumentType]


def _restored_field(value: Any, default: Any) -> Any:
    return restored(value, default) if dataclasses.is_dataclass(value) else value


def take_flag(arguments: list[str], flag: str) -> tuple[str | None, list[str]]:
    """Remove ``flag VALUE`` or ``flag=VALUE`` from arguments; return the value and the rest.

    Raises:
        ValueError: The flag has no value.
    """
    for i, argument in enumerate(arguments):
        if argument == flag:
            if i + 1 == len(arguments):
                raise ValueError(f"{flag} needs a value.")
            return arguments[i + 1], arguments[:i] + arguments[i + 2 :]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2], arguments[:i] + arguments[i + 1 :]
    return None, arguments


def take_leading(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Remove a leading positional argument, if there is one."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return None, arguments


def emit(document: Any) -> None:
    """Print one JSON document on stdout."""
    print(files.to_json(document, indent=2))


def jsonable(estimate: Estimate | None) -> dict[str, Any] | None:
    """Return an estimate as the scripts' contract names it; ``emit`` writes an unknown as null."""
    return None if estimate is None else estimate._asdict()


def said(estimate: Estimate) -> str:
    """Return an estimate as people read it, with its 95 % interval."""
    return f"{estimate.value:.4g} ± {1.96 * estimate.stderr:.2g} {estimate.unit}"


def promise(spent: dict[str, Any]) -> str:
    """Return what a private run costs, as people read it."""
    epsilon = math.inf if spent["epsilon"] is None else spent["epsilon"]  # JSON knows no infinity
    return (
        f"privacy: epsilon {epsilon:.3g} at delta {spent['delta']:g} after {spent['steps']} steps "
        f"({spent['accountant']}; noise {spent['noise']:.3g}, clip {spent['clip']:g}, "
        f"chance of a row {spent['rate']:.3g})"
    )


def progress() -> Progress:
    """Return a progress bar on stderr; silent where that is no terminal."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


def unnamed() -> str:
    """Return the model meant where none is named, and say which it is."""
    name = run.unnamed()
    log(f"no model named: {name}" + (" (comes with unison)" if name in box.NAMES else ""))
    return name


def log(message: str) -> None:
    """Print a line on stderr."""
    print(message, file=sys.stderr)

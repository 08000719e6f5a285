"""Which parts is a composed strategy made of, by name?"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from unison.decode.api import Strategy
from unison.decode.diffusion.composed import Composed
from unison.decode.order import ORDERS
from unison.decode.revise import REVISIONS
from unison.decode.select import SELECTS
from unison.decode.stop import STOPS
from unison.suggest import nearest

PARTS: dict[str, Mapping[str, Any]] = {
    "order": ORDERS,
    "select": SELECTS,
    "revise": REVISIONS,
    "stop": STOPS,
}


def with_parts(
    strategy: Strategy, names: Mapping[str, str], settings: Mapping[str, Any] | None = None
) -> Strategy:
    """Return a strategy with parts exchanged by name; a part of the same kind keeps its settings.

    Args:
        strategy: A composed one, unless there are no names.
        names: Name in the table, by what the part does (``order``, ``select``, ...);
            ``order.order`` names the order inside an order.
        settings: Values of the new parts' required settings, as ``select.path``; others are left
            aside.

    Raises:
        ValueError: The strategy has no parts, a name is unknown, a required setting is missing, or
            parts contradict each other.
    """
    if not names:
        return strategy
    if not isinstance(strategy, Composed):
        raise ValueError(
            f"{type(strategy).__name__} is not made of parts, so its {next(iter(names))} cannot be "
            "chosen; use the strategy composed."
        )
    fresh: dict[str, Any] = {}
    for slot in sorted(names):  # the outer part before the one inside it
        part, inside, _ = slot.partition(".")
        standing = fresh.get(part, getattr(strategy, part))
        if inside:
            fresh[part] = _with_inner(standing, part, names[slot])
        else:
            kind = _kind(part, names[slot])
            keeps = type(standing) is kind
            fresh[part] = standing if keeps else _made(part, kind, settings or {})
    return replace(strategy, **fresh)


def _with_inner(outer: Any, part: str, name: str) -> Any:
    if part not in {field.name for field in fields(outer)}:
        raise ValueError(f"{type(outer).__name__} holds no other {part}; only perturbed does.")
    return replace(outer, **{part: _kind(part, name)()})


def _made(part: str, kind: type, settings: Mapping[str, Any]) -> Any:
    """Return a part of a kind, with the settings it cannot do without."""
    required = {name: f"{part}.{name}" for name in required_settings(kind)}
    missing = [slot for slot in required.values() if slot not in settings]
    if missing:
        raise ValueError(f"{part} {kind.__name__} needs {', '.join(missing)}.")
    return kind(**{name: settings[slot] for name, slot in required.items()})


def required_settings(kind: type) -> list[str]:
    """Return the settings of a part that have no value unless given one."""
    return [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]


def _kind(part: str, name: str) -> type:
    known = PARTS[part]
    if name not in known:
        raise ValueError(
            f"unknown {part} {name!r}{nearest(name, known)}; known: {', '.join(known)}."
        )
    return known[name]


def configured(value: Any, settings: Mapping[str, Any]) -> Any:
    """Return a strategy or a part with settings changed, by dotted name: ``select.threshold``.

    Raises:
        ValueError: There is no such setting, or its value is out of range.
    """
    own = {name: said for name, said in settings.items() if "." not in name}
    value = _changed(value, own)
    for part in dict.fromkeys(name.partition(".")[0] for name in settings if "." in name):
        inside = {
            name.partition(".")[2]: said
            for name, said in settings.items()
            if name.startswith(f"{part}.")
        }
        value = _changed(value, {part: configured(getattr(value, part, None), inside)})
    return value


def _changed(value: Any, changes: Mapping[str, Any]) -> Any:
    known = {field.name for field in fields(value)} if is_dataclass(value) else set()
    unknown = sorted(changes.keys() - known)
    if unknown:
        raise ValueError(
            f"{type(value).__name__} has no setting {unknown[0]!r}; it has "
            f"{', '.join(sorted(known)) or 'none'}."
        )
    return replace(value, **changes)  # pyright: ignore[reportArgumentType]


def part_names(strategy: Composed) -> dict[str, str]:
    """Return the name of each part of a strategy."""
    return {
        part: next(name for name, kind in known.items() if type(getattr(strategy, part)) is kind)
        for part, known in PARTS.items()
    }

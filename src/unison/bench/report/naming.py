"""What are models and strategies called where there is little room, so that no two are confused?"""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from unison.suites import SuiteError, spelt

_LONGEST = 32


def models(names: Iterable[str]) -> dict[str, str]:
    """Return for each model the shortest end of its path that no other one shares."""
    parts = {name: PurePosixPath(name).parts or (name,) for name in names}
    short = {}
    for name, own in parts.items():
        others = [other for each, other in parts.items() if each != name]
        length = next(
            (n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)),
            len(own),
        )
        short[name] = "/".join(own[-length:]) if length < len(own) else name
    return short


def strategies(names: Iterable[str]) -> dict[str, str]:
    """Return for each strategy its name and what tells it from others of that name."""
    read = {name: _read(name) for name in names}
    return {name: _told(*own, list(read.values())) for name, own in read.items()}


def _read(text: str) -> tuple[str, dict[str, str]]:
    try:
        name, settings = spelt(text)
    except SuiteError:
        return text, {}
    return name, {key: str(value) for key, value in settings.items()}


def _told(
    name: str, settings: dict[str, str], everything: Sequence[tuple[str, dict[str, str]]]
) -> str:
    """Return a name with the settings in which its namesakes differ; alone, with all of them."""
    namesakes = [other for called, other in everything if called == name]
    differing = [
        key
        for key in settings
        if len(namesakes) == 1 or any(other.get(key) != settings[key] for other in namesakes)
    ]
    words = [settings[k] if k == name or len(differing) == 1 else f"{k}={settings[k]}"
             for k in differing]  # fmt: skip
    text = " ".join([name, *words])
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

"""unison view: turn traces of generate --trace into one page that shows every step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unison import files, trace, view
from unison.cli import shared

_SUFFIX = ".html"
_SEVERAL = "traces.html"


@dataclass(frozen=True)
class Flags:
    """Show traces in a browser. The first arguments are trace files, or folders of them.

    The page is one file that needs nothing else and no network: canvases step by step, several
    traces side by side, maps, curves and the details of every token.

    Attributes:
        out: The page; by default beside the trace, or traces.html in the folder named first.
        title: Of the page; by default the traces' names.
        force: Replace the page if there is one.
    """

    out: Path | None = None
    title: str = ""
    force: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    places: list[Path] = []
    while arguments and not arguments[0].startswith("-"):
        places.append(Path(arguments[0]))
        arguments = arguments[1:]
    flags = shared.parse(Flags, "view", arguments)
    if not places:
        raise ValueError(
            "name the traces first: unison view TRACE.json or FOLDER; generate --trace writes one."
        )
    out = destination(places) if flags.out is None else flags.out
    _check(out, flags.force)
    found = gathered(places)
    names = [name for name, _ in found]
    title = flags.title or (", ".join(names) if len(names) <= 2 else places[0].resolve().name)
    page = view.page([document for _, document in found], title, names)
    files.write_text(out, page)
    size = len(page.encode()) / 1e6
    shared.log(f"{len(found)} trace{'s' * (len(found) > 1)}, {size:.2f} MB; open it in a browser")
    print(out)


def destination(places: list[Path]) -> Path:
    """Return where the page is written unless the user says."""
    if places[0].is_dir():
        return places[0] / _SEVERAL
    return places[0].with_suffix(_SUFFIX) if len(places) == 1 else Path(_SEVERAL)


def gathered(places: list[Path]) -> list[tuple[str, dict[str, Any]]]:
    """Return traces with their names: of every file, and of the traces in every folder.

    Raises:
        TraceError: A file is no trace, or a folder holds none.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for place in places:
        found += _in_folder(place) if place.is_dir() else [(place.name, trace.read(place))]
    return found


def _in_folder(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the traces in a folder; what is none there is named and left out."""
    found, reasons = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append((path.name, trace.read(path)))
        except trace.TraceError as error:
            reasons.append(str(error))
    if not found:
        why = f": {reasons[0]}" if reasons else "; generate --trace FILE writes one."
        raise trace.TraceError(f"there is no trace in {folder}{why}")
    for reason in reasons:
        shared.log(f"left out: {reason}")
    return found


def _check(out: Path, force: bool) -> None:
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file.")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}.")
    if out.exists() and not force:
        raise ValueError(f"{out} exists; name another with --out, or add --force to replace it.")

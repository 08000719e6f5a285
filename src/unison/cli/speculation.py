"""Which parts of speculation do flags name? One vocabulary for every verb that speculates."""

from dataclasses import replace
from typing import NamedTuple

from unison.cli import shared
from unison.fusion import load_fused
from unison.generation import spelling
from unison.language_model import LanguageModel
from unison.recipes.run import load
from unison.speculation import Speculation
from unison.speculation.builders import BUILDERS
from unison.speculation.pearl import Pearl
from unison.speculation.verifiers import VERIFIERS

PARTS = ("drafter", "builder", "verifier", "scheduler", "policy", "fusion", "sharer")


class Named(NamedTuple):
    """Parts as they were spelt; ``None`` for the usual ones.

    Attributes:
        drafter: Name, or folder.
        builder: Name.
        verifier: Name.
        scheduler: Name.
        policy: Name, or folder of trained thoughts.
        fusion: Folder of a fuser; goes with ``sharer``.
        sharer: The model that the target listens to.
    """

    drafter: str | None = None
    builder: str | None = None
    verifier: str | None = None
    scheduler: str | None = None
    policy: str | None = None
    fusion: str | None = None
    sharer: str | None = None


def take(arguments: list[str]) -> tuple[Named | None, list[str]]:
    """Remove the flags that name parts; return them, or ``None`` if there are none, and the rest.

    Raises:
        ValueError: A flag lacks its value.
    """
    said: dict[str, str] = {}
    for part in PARTS:
        value, arguments = shared.take_flag(arguments, f"--{part}")
        if value is not None:
            said[part] = value
    return (Named(**said) if said else None), arguments


def built(model: LanguageModel, named: Named) -> Speculation | Pearl:
    """Return the speculation that flags name.

    Raises:
        ValueError: A name or setting is unknown, or parts do not fit each other or the model.
    """
    if (named.fusion is None) != (named.sharer is None):
        raise ValueError("--fusion FOLDER and --sharer MODEL go together; give both or neither.")
    how = spelling.speculation(
        model,
        named.drafter,
        builder=named.builder,
        verifier=named.verifier,
        scheduler=named.scheduler,
        policy=named.policy,
    )
    if named.fusion is None or named.sharer is None:
        return how
    if isinstance(how, Pearl):
        raise ValueError("pearl reads the model itself: leave --fusion out.")
    return replace(how, target=load_fused(named.fusion, model, load(named.sharer)))


def about() -> str:
    """Return what can be chosen, as a paragraph of help."""
    tables = {
        "drafter": (*spelling.DRAFTER_NAMES, "a folder"),
        "builder": BUILDERS,
        "verifier": VERIFIERS,
        "scheduler": spelling.SCHEDULER_NAMES,
        "policy": (*spelling.POLICY_NAMES, "a folder of thoughts"),
        "fusion": ("a folder, with --sharer MODEL",),
    }
    lines = [f"--{part} {', '.join(known)}" for part, known in tables.items()]
    return (
        "Speculation, for left-to-right models: each flag takes NAME or NAME:SETTING=VALUE,...; "
        "any of them chooses it. " + "; ".join(lines) + "."
    )

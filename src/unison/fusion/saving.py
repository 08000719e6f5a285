"""Where does a fuser live? A folder that knows which two models it is between."""

import dataclasses
from pathlib import Path
from typing import Any

from unison.drafters import beside
from unison.drafters.beside import Beside, BesideError
from unison.drafters.saving import fingerprint
from unison.engine.reading import target_of
from unison.fusion.alignment import Pick, alignment
from unison.fusion.fuser import Fuser, Fusing
from unison.fusion.lesson import Pair
from unison.fusion.target import FusedTarget
from unison.language_model import LanguageModel

FORMAT = "unison-fuser"


def pair_of(receiver: LanguageModel, sharer: LanguageModel, pick: Pick = "longest") -> Pair:
    """Return two models and which of the sharer's tokens stands for each of the receiver's.

    Raises:
        ValueError: One is not a causal network of unison's own, or they are on different devices.
    """
    if receiver.device != sharer.device:
        raise ValueError(
            f"both models must be on one device, got {receiver.device} and {sharer.device}."
        )
    states = receiver.network.config.num_states
    table = alignment(receiver.tokenizer, sharer.tokenizer, states, pick)
    table = None if table is None else table.to(receiver.device)
    return Pair(target_of(receiver), target_of(sharer), table)


def save_fuser(
    folder: Path, fuser: Fuser, receiver: LanguageModel, sharer: LanguageModel, pick: Pick
) -> None:
    """Write a fuser.

    Raises:
        OSError: The disk is full or not writable; no file is half written.
    """
    settings = {"fusing": dataclasses.asdict(fuser.fusing), "pick": pick}
    models = {"receiver": fingerprint(receiver), "sharer": fingerprint(sharer)}
    beside.save(folder, Beside(FORMAT, settings, models), fuser)


def load_fused(path: str | Path, receiver: LanguageModel, sharer: LanguageModel) -> FusedTarget:
    """Return a target: a receiver that listens to a sharer through a trained fuser.

    Args:
        path: The fuser's folder.
        receiver: Decodes.
        sharer: Tells.

    Raises:
        BesideError: The folder is missing or damaged, or the fuser is between other models.
        ValueError: One of the models is not a causal network of unison's own.
    """
    folder = Path(path)
    values = beside.settings(folder, FORMAT, {"receiver": receiver, "sharer": sharer})
    fusing, pick = _read(folder, values)
    pair = pair_of(receiver, sharer, pick)
    made = Fuser(fusing, pair.receiver.network.config, pair.sharer.network.config)
    fuser = beside.filled(folder, made, next(pair.receiver.network.parameters()))
    return FusedTarget(pair.receiver, pair.sharer, fuser, pair.table)


def _read(folder: Path, values: dict[str, Any]) -> tuple[Fusing, Pick]:
    try:
        return Fusing(**values["fusing"]), values["pick"]
    except (KeyError, TypeError) as error:
        raise BesideError(f"{folder} has settings that do not fit: {error!r}") from None

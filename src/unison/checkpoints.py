"""How is a model read from files, and written to them? Every family the same way.

A model directory holds ``config.json``, ``model.safetensors``, a tokenizer and
``generation_config.json``; it needs no recipe to be loaded. The families are in
``unison.models.formats``, unison's own among them.
"""

import dataclasses
import importlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unison import box, files
from unison.data import Tokenizer, TokenizerError
from unison.data.foreign import checkpoint_tokenizer
from unison.data.tokenizer import hub_tokenizer
from unison.language_model import Defaults, LanguageModel
from unison.models import Transformer
from unison.models.formats import WRAPPED, gguf, lora, own, pools, reading, writing
from unison.models.formats.blueprint import Blueprint, CheckpointError
from unison.process import (
    PROCESSES,
    SCHEDULES,
    Absorbing,
    Holes,
    Process,
    Schedule,
    Sequential,
    Uniform,
)
from unison.process.schedule import LogLinear

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
# What a foreign generation_config.json calls our defaults; other settings there are not ours.
_STATED = {
    "temperature": "temperature",
    "top_p": "top_p",
    "steps": "steps",
    "block_length": "block_length",
}


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    *,
    tokenizer: str | Path | None = None,
    adapter: str | Path | None = None,
) -> LanguageModel:
    """Read a model of any family.

    Args:
        path: A folder, one file of weights (safetensors, GGUF, Lightning checkpoint), or where
            there is no such path ORG/NAME on the hub.
        device: Where to put the weights.
        dtype: Of the weights, such as ``bfloat16``; ``None`` for as they are stored.
        tokenizer: A folder, a ``tokenizer.json`` or ``hf:NAME``, where the model has none.
        adapter: The folder of a LoRA adapter to merge into the weights.

    Raises:
        CheckpointError: A file is missing, damaged, newer than this version, does not fit the
            others, or is of a family not supported.
    """
    place = locate(path)
    kept = None if tokenizer is None else _tokenizer_folder(tokenizer)
    opened = reading.open_checkpoint(place, kept)
    network, blueprint = reading.build(opened, _dtype(dtype), torch.device(device))
    if adapter is not None:
        lora.merge(network, blueprint.pieces, Path(adapter))  # pyright: ignore[reportArgumentType]
    words = _tokenizer(place, tokenizer, blueprint)
    if words.vocab_size > blueprint.config.vocab_size:
        raise CheckpointError(
            f"{place}: the tokenizer has {words.vocab_size} tokens and the model "
            f"{blueprint.config.vocab_size}; tokenizer.json belongs to another model."
        )
    ends = dict.fromkeys((*blueprint.eos_ids, words.eos_id))
    return LanguageModel(
        network,
        _process(blueprint, place),
        words,
        _defaults(blueprint, opened, place),
        dict(blueprint.extra.get("notes", {})) if opened.name == "unison" else {},
        opened.name,
        blueprint.inferred,
        tuple(ends),
        None if opened.name == "unison" else blueprint,
    )


def save(
    model: LanguageModel,
    path: str | Path,
    format: str = "unison",
    *,
    shard_bytes: int = writing.SHARD,
    pack: writing.Pack | None = None,
) -> None:
    """Write a model directory; ``config.json`` comes last and marks it as complete.

    Args:
        model: What is written.
        path: The directory.
        format: ``unison``, or the format it was read from (``model.format``).
        shard_bytes: Weights beyond this are divided into several files.
        pack: How a tensor is stored, as ``unison.engine.quantised.storage.packing`` returns it;
            unison's own format only.

    Raises:
        CheckpointError: The format cannot hold this model; nothing was written.
        OSError: The disk is full or not writable; what was there before is still whole.
    """
    path = Path(path)
    if pack is not None and format != "unison":
        raise CheckpointError(f"only unison's own format stores levels; {format!r} does not.")
    blueprint = _blueprint(model, format)
    if format in WRAPPED:
        files.replace_folder(path, lambda folder: _fill_wrapped(model, format, blueprint, folder))
        return
    config = writing.settings(format, blueprint)
    path.mkdir(parents=True, exist_ok=True)
    writing.write_weights(model.network, blueprint, path, shard_bytes, pack)
    _write_words(model, format, path)
    files.write_json(path / "config.json", config)


def describe(model: LanguageModel) -> dict[str, Any]:
    """Return the content of unison's own ``config.json``."""
    return own.write(_own_blueprint(model))


def locate(path: str | Path) -> Path:
    """Return a path on this machine: as it is, of a model in the box, or fetched from the hub.

    Raises:
        CheckpointError: There is no such path, or no such model on the hub.
    """
    place = Path(path).expanduser()
    if place.exists():
        return place
    boxed = box.folder(str(path))
    if boxed is not None:
        return boxed
    if not _HUB_NAME.fullmatch(str(path)):
        raise CheckpointError(
            f"{place} is not a directory; give the folder that holds config.json, or a model that "
            f"comes with unison: {', '.join(box.NAMES)}."
        )
    if importlib.util.find_spec("huggingface_hub") is None:
        raise CheckpointError(
            f"{path} is not a directory, and to fetch it from the hub the package huggingface_hub "
            "is needed; pip install 'unison[hf]'."
        )
    hub = importlib.import_module("huggingface_hub")
    try:
        return Path(hub.snapshot_download(str(path), allow_patterns=_HUB_FILES))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a directory; give the folder that holds config.json. Nor could it be "
            f"fetched from the hub ({str(error).splitlines()[0]})."
        ) from None


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if not isinstance(dtype, str):
        return dtype
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise CheckpointError(f"unknown dtype {dtype!r}; known: {', '.join(known)}.")
    return known[dtype]


def _tokenizer_folder(tokenizer: str | Path) -> Path | None:
    return None if str(tokenizer).startswith("hf:") else Path(tokenizer).expanduser()


def _tokenizer(place: Path, tokenizer: str | Path | None, blueprint: Blueprint) -> Tokenizer:
    eos = blueprint.eos_ids[0] if blueprint.eos_ids else None
    try:
        if tokenizer is not None:
            folder = _tokenizer_folder(tokenizer)
            return (
                hub_tokenizer(str(tokenizer)) if not folder else checkpoint_tokenizer(folder, eos)
            )
        if place.suffix == ".gguf" or (place.is_dir() and _lone_gguf(place)):
            return Tokenizer(gguf.tokenizer_json(_lone_gguf(place) or place), eos)
        return checkpoint_tokenizer(place if place.is_dir() else place.parent, eos)
    except TokenizerError as error:
        raise CheckpointError(str(error)) from None


def _lone_gguf(place: Path) -> Path | None:
    found = [] if (place / "tokenizer.json").exists() else sorted(place.glob("*.gguf"))
    return found[0] if len(found) == 1 else None


def _process(blueprint: Blueprint, place: Path) -> Process:
    size = blueprint.config.vocab_size
    try:
        if blueprint.process == "sequential":
            first = -1 if blueprint.bos_id is None else blueprint.bos_id
            return Sequential(size, first, _holes(blueprint.extra.get("holes"), place))
        schedule = _schedule(blueprint.extra.get("schedule"), place)
        if blueprint.process == "uniform":
            return Uniform(size, schedule)
        return Absorbing(size, schedule, -1 if blueprint.mask_id is None else blueprint.mask_id)
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{place}: {error}") from None


def _holes(stated: Mapping[str, Any] | None, place: Path) -> Holes | None:
    """Return the marks of an infilling model; other families have none."""
    return None if stated is None else own.built(Holes, stated, str(place))


def _schedule(stated: Mapping[str, Any] | None, place: Path) -> Schedule:
    """Return the schedule; checkpoints of other families follow the usual one, if any."""
    if stated is None:
        return LogLinear()
    values = dict(stated)
    name = values.pop("name", None)
    if name not in SCHEDULES:
        raise CheckpointError(f"{place}: unknown schedule {name!r}; known: {', '.join(SCHEDULES)}.")
    return own.built(SCHEDULES[name], values, str(place))


def _defaults(blueprint: Blueprint, opened: reading.Opened, place: Path) -> Defaults:
    if opened.name == "unison":
        return own.built(Defaults, blueprint.defaults, str(place))
    length = min(Defaults.length, blueprint.config.max_length)
    stated = {
        ours: opened.source.generation[theirs]
        for theirs, ours in _STATED.items()
        if opened.source.generation.get(theirs) is not None
    }
    return own.built(Defaults, {"length": length, **blueprint.defaults, **stated}, str(place))


def _blueprint(model: LanguageModel, format: str) -> Blueprint:
    """Return how the model is laid out in a format.

    Raises:
        CheckpointError: It is not the model's.
    """
    if format == "unison":
        return _own_blueprint(model)
    if model.blueprint is None or format != model.format:
        raise CheckpointError(
            f"this model cannot be written as {format!r}: it was read from {model.format!r}; save "
            f"it as {' or '.join(dict.fromkeys(('unison', model.format)))}."
        )
    if model.network.config != model.blueprint.config:
        raise CheckpointError(
            f"this model's shape is not that of the {format} checkpoint it was read from any "
            "more; save it as unison."
        )
    return model.blueprint


def _own_blueprint(model: LanguageModel) -> Blueprint:
    if not isinstance(model.network, Transformer):
        raise CheckpointError(
            f"a {type(model.network).__name__} runs inside another library and cannot be written "
            f"in unison's format; save it as {model.format!r}."
        )
    process, size = model.process, model.process.vocab_size
    extra: dict[str, Any] = {"notes": model.notes}
    if isinstance(process, Sequential) and process.holes is not None:
        extra["holes"] = dataclasses.asdict(process.holes)
    if not isinstance(process, Sequential):
        extra["schedule"] = _described(process.schedule)
    named = model.tokenizer.eos is None and model.eos_ids == (model.tokenizer.eos_id,)
    mask_id = process.mask_id if isinstance(process, Absorbing) else size
    bos_id = process.bos_id if isinstance(process, Sequential) else size
    return Blueprint(
        config=model.network.config,
        pieces=pools.pieces(model.network),
        process=_name_of(process, PROCESSES),  # pyright: ignore[reportArgumentType]
        mask_id=None if mask_id == size else mask_id,
        bos_id=None if bos_id == size else bos_id,
        eos_ids=() if named else model.eos_ids,
        inferred=model.inferred,
        extra=extra,
    )


def _described(schedule: Schedule) -> dict[str, Any]:
    if isinstance(schedule, nn.Module):
        raise CheckpointError("a learned schedule cannot be saved; fix it to a named one first.")
    settings = dataclasses.asdict(schedule)  # pyright: ignore[reportArgumentType]
    return {"name": _name_of(schedule, SCHEDULES), **settings}


def _name_of(value: object, table: Mapping[str, Any]) -> str:
    return next(name for name, kind in table.items() if type(value) is kind)


def _fill_wrapped(model: LanguageModel, format: str, blueprint: Blueprint, folder: Path) -> None:
    WRAPPED[format].save(model.network, blueprint, folder)
    files.write_text(folder / "tokenizer.json", model.tokenizer.json)


def _write_words(model: LanguageModel, format: str, path: Path) -> None:
    """Write the tokenizer and how the model is sampled."""
    files.write_text(path / "tokenizer.json", model.tokenizer.json)
    stated: dict[str, Any] = dataclasses.asdict(model.defaults)
    if format != "unison":
        stated = {theirs: stated[ours] for theirs, ours in _STATED.items()}
        stated = {name: value for name, value in stated.items() if value is not None}
        stated["eos_token_id"] = list(model.eos_ids)
    files.write_json(path / "generation_config.json", stated)

"""Where do weights live that are of use beside some model alone? A folder that knows which."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unison import files
from unison.drafters.saving import Fingerprint, fingerprint
from unison.language_model import LanguageModel

FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
CLOSE = 0.05  # of the entries' root mean square: more than rounding to 8 bits, less than others

M = TypeVar("M", bound=nn.Module)


class BesideError(ValueError):
    """Weights that cannot be read, or that belong to another model."""


class Beside(NamedTuple):
    """What weights are and whom they belong to.

    Attributes:
        format: What they are: ``unison-`` and a noun.
        settings: What their module is made from, as JSON values.
        models: The models they were trained beside, by their part in it.
    """

    format: str
    settings: Mapping[str, Any]
    models: Mapping[str, Fingerprint]


def save(folder: Path, beside: Beside, module: nn.Module) -> None:
    """Write a folder; ``config.json`` comes last and marks it as complete.

    Raises:
        OSError: The disk is full or not writable; no file is half written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: w.detach() for name, w in module.state_dict().items()}
    files.write_tensors(folder / WEIGHTS, tensors)
    models = {name: model._asdict() for name, model in beside.models.items()}
    content = {"format": beside.format, "format_version": FORMAT_VERSION}
    files.write_json(
        folder / CONFIG, {**content, "settings": dict(beside.settings), "models": models}
    )


def settings(folder: Path, format: str, models: Mapping[str, LanguageModel]) -> dict[str, Any]:
    """Return what a folder's module is made from, if it belongs to these models.

    Args:
        folder: Where the weights are.
        format: What they must be.
        models: Models by their part.

    Raises:
        BesideError: The folder is missing, damaged, newer than this version or something else, or
            its weights belong to other models.
    """
    path = folder / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        said, version = content["format"], int(content["format_version"])
        made = {name: _fingerprint(content["models"][name]) for name in models}
        values = dict(content["settings"])
    except FileNotFoundError:
        raise BesideError(f"{folder} holds no {CONFIG}; give the folder of a {format}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BesideError(f"{path} is damaged or no {format} ({error!r}).") from None
    if said != format:
        raise BesideError(f"{path} describes a {said}, not a {format}; name the folder of one.")
    if version > FORMAT_VERSION:
        raise BesideError(
            f"{path} has format version {version}, and {FORMAT_VERSION} is the newest that this "
            "unison can read; upgrade unison."
        )
    for name, model in models.items():
        reason = difference(made[name], fingerprint(model))
        if reason is not None:
            raise BesideError(
                f"{folder} was trained beside another {name}, with {reason}; give the model it "
                "was trained for, or train one for this model."
            )
    return values


def filled(folder: Path, module: M, like: Tensor) -> M:
    """Return a module with a folder's weights, on the device of ``like``, not to be trained.

    Raises:
        BesideError: The weights are missing, damaged or of another shape.
    """
    path = folder / WEIGHTS
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise BesideError(f"{path} cannot be read ({error}); copy or train it again.") from None
    except RuntimeError as error:
        raise BesideError(f"{path} does not fit the settings in {CONFIG}: {error}") from None
    return module.to(like.device).eval().requires_grad_(False)


def difference(made: Fingerprint, own: Fingerprint) -> str | None:
    """Return how a model differs from another, ``None`` for not at all or only in precision."""
    for name in ("vocab_size", "hidden", "depth"):
        if getattr(made, name) != getattr(own, name):
            return f"{name}={getattr(made, name)}, not {getattr(own, name)}"
    if made.tokenizer != own.tokenizer:
        return "another tokenizer"
    one, other = (torch.tensor(f.weights, dtype=torch.float64) for f in (made, own))
    if len(one) != len(other):
        return "other weights"
    apart = (one - other).square().mean().sqrt()
    return None if bool(apart <= CLOSE * other.square().mean().sqrt()) else "other weights"


def _fingerprint(stated: Mapping[str, Any]) -> Fingerprint:
    return Fingerprint(**{**stated, "weights": tuple(stated["weights"])})

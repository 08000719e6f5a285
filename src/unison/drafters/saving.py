"""Where does a trained drafter live? A folder that knows which target it was trained for."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unison import files
from unison.drafters import KINDS
from unison.drafters.kind import Kind
from unison.engine.reading import target_of
from unison.language_model import LanguageModel
from unison.models.transformer import Transformer
from unison.speculation.parts import Drafter
from unison.suggest import nearest

FORMAT_VERSION = 1
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_TOKENS, _WIDTH = 16, 8  # embeddings in a fingerprint, and entries of each
_CLOSE = 0.05  # of their root mean square: more than rounding to 8 bits, less than other weights


class DrafterError(ValueError):
    """A drafter that cannot be read, or that was trained for another target."""


class Fingerprint(NamedTuple):
    """What tells a target from others.

    Attributes:
        vocab_size: V.
        hidden: Width.
        depth: Blocks.
        weights: A few entries of the embedding and of the last norm. They are compared up to
            rounding, so that the same model in another precision is the same target.
        tokenizer: Checksum of the tokenizer.
    """

    vocab_size: int
    hidden: int
    depth: int
    weights: tuple[float, ...]
    tokenizer: str


class Trained(NamedTuple):
    """A drafter's weights and what they are.

    Attributes:
        kind: Settings.
        module: Weights.
    """

    kind: Kind
    module: nn.Module


def kind_named(name: str, settings: Mapping[str, Any] | None = None) -> Kind:
    """Return a kind of drafter by its name in ``KINDS``, with some settings changed.

    Raises:
        DrafterError: There is no such kind, setting or value.
    """
    if name not in KINDS:
        raise DrafterError(
            f"unknown kind of drafter {name!r}{nearest(name, KINDS)}; known: {', '.join(KINDS)}."
        )
    made = KINDS[name]()
    if not settings:
        return made
    own = [f.name for f in dataclasses.fields(made)]  # pyright: ignore[reportArgumentType]
    for setting in settings:
        if setting not in own:
            raise DrafterError(
                f"{name} has no setting {setting!r}{nearest(setting, own)}; it has "
                f"{', '.join(own) or 'none'}."
            )
    try:
        return dataclasses.replace(made, **settings)  # pyright: ignore
    except TypeError as error:
        raise DrafterError(f"the settings of {name} do not fit: {error}") from None


def fingerprint(model: LanguageModel) -> Fingerprint:
    """Return what tells a target from others.

    Raises:
        ValueError: It cannot be a target.
    """
    network = target_of(model).network
    config = network.config
    tokens = torch.linspace(0, config.vocab_size - 1, _TOKENS, device=model.device).long()
    with torch.no_grad():
        rows = network.embed(tokens[None])[0, :, :_WIDTH].float().flatten()
        norm = _weight(network.norm)[:_WIDTH].float()
    weights = tuple(round(x, 7) for x in torch.cat([rows, norm]).tolist())
    words = model.tokenizer.fingerprint
    return Fingerprint(config.vocab_size, config.hidden, config.depth, weights, words)


def save_drafter(folder: Path, trained: Trained, target: Fingerprint) -> None:
    """Write a drafter's folder; ``config.json`` comes last and marks it as complete.

    Raises:
        OSError: The disk is full or not writable; no file is half written.
    """
    kind = trained.kind
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: w.detach() for name, w in trained.module.state_dict().items()}
    files.write_tensors(folder / _WEIGHTS, tensors)
    content = {
        "format": "unison-drafter",
        "format_version": FORMAT_VERSION,
        "kind": kind.name,
        "settings": dataclasses.asdict(kind),  # pyright: ignore[reportArgumentType]
        "target": target._asdict(),
    }
    files.write_json(folder / _CONFIG, content)


def is_drafter(folder: Path) -> bool:
    """Return whether a folder calls itself a drafter, whole or damaged."""
    path = folder / _CONFIG
    return path.is_file() and b"unison-drafter" in path.read_bytes()


def load_drafter(path: str | Path, model: LanguageModel) -> Drafter:
    """Return a trained drafter for the target it was trained for.

    Args:
        path: Its folder.
        model: The target.

    Raises:
        DrafterError: The folder is missing, damaged or newer than this version, or the drafter
            was trained for another target.
        ValueError: The model cannot be a target.
    """
    trained = load_trained(path, model)
    return trained.kind.drafter(trained.module, target_of(model).network)


def load_trained(path: str | Path, model: LanguageModel) -> Trained:
    """Return a drafter's weights, on the device and in the precision of its target.

    Raises:
        DrafterError: See ``load_drafter``.
        ValueError: The model cannot be a target.
    """
    folder = Path(path)
    content = _content(folder)
    _check_target(folder, content, fingerprint(model))
    kind = kind_named(str(content["kind"]), _settings(content["settings"]))
    network: Transformer = target_of(model).network
    module = kind.module(network)
    try:
        module.load_state_dict(load_file(folder / _WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise DrafterError(
            f"{folder / _WEIGHTS} cannot be read ({error}); copy or train the drafter again."
        ) from None
    except RuntimeError as error:
        raise DrafterError(
            f"{folder / _WEIGHTS} does not hold the weights of a {kind.name} with the settings in "
            f"{_CONFIG}: {error}"
        ) from None
    like = next(network.parameters())
    return Trained(kind, module.to(like.device, like.dtype).eval().requires_grad_(False))


def _content(folder: Path) -> dict[str, Any]:
    """Return a drafter's ``config.json``, as far as it can be understood."""
    path = folder / _CONFIG
    if not path.is_file():
        raise DrafterError(
            f"{folder} is no drafter: there is no {_CONFIG}. Train one with unison train-drafter."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        said, version = content["format"], content["format_version"]
        parts = [content[name] for name in ("kind", "settings", "target")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DrafterError(f"{path} is damaged ({error!r}); train the drafter again.") from None
    if said != "unison-drafter" or not all(isinstance(part, dict) for part in parts[1:]):
        raise DrafterError(f"{path} describes no drafter; name the folder of one.")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise DrafterError(
            f"{path} has format version {version}, and {FORMAT_VERSION} is the newest that this "
            "unison can read; upgrade unison."
        )
    return content


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they were: JSON has lists where they have tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _check_target(folder: Path, content: Mapping[str, Any], own: Fingerprint) -> None:
    try:
        made = Fingerprint(**_settings(content["target"]))
    except TypeError as error:
        raise DrafterError(f"{folder / _CONFIG} is damaged ({error}).") from None
    sizes = ("vocab_size", "hidden", "depth")
    different = [
        f"{name}={getattr(made, name)}, not {getattr(own, name)}"
        for name in sizes
        if getattr(made, name) != getattr(own, name)
    ]
    if not different and made.tokenizer != own.tokenizer:
        different.append("another tokenizer")
    if not different and not _alike(made.weights, own.weights):
        different.append("other weights")
    if different:
        raise DrafterError(
            f"{folder} was trained for another target, with {', '.join(different)}; give the "
            "model it was trained for, or train a drafter for this one."
        )


def _alike(made: tuple[float, ...], own: tuple[float, ...]) -> bool:
    if len(made) != len(own):
        return False
    one, other = torch.tensor(made, dtype=torch.float64), torch.tensor(own, dtype=torch.float64)
    apart = (one - other).square().mean().sqrt()
    return bool(apart <= _CLOSE * other.square().mean().sqrt())


def _weight(norm: nn.Module) -> Tensor:
    return next(norm.parameters())

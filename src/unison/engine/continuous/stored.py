"""How is a rounded network kept? A folder: what is rounded how, and whole numbers.

``config.json`` has the network's configuration and the bits of every rounded layer,
``model.safetensors`` the levels (two to a byte up to 4 bits), scales and all other weights.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int8, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unison import files
from unison.engine.continuous.geometry import layers_of
from unison.engine.continuous.layer import RoundedLayer, Weights
from unison.engine.continuous.rounding import Grid
from unison.models.continuous import NETWORKS, build, name_of

FORMAT_VERSION = 1
_KIND = "unison-rounded-events"
_WEIGHTS = "model.safetensors"
_HALF_BYTE = 4


class RoundedFileError(ValueError):
    """A folder that is not a whole rounded network, or is of a later version."""


def save(network: nn.Module, path: str | Path) -> None:
    """Write a rounded network; a kill leaves the old folder or the new.

    Args:
        network: One of ``models.continuous.NETWORKS`` with rounded layers.
        path: The folder.

    Raises:
        ValueError: Nothing in the network is rounded, or it is of no kind in the table.
        OSError: The disk is full or not writable; what was there before is still whole.
    """
    rounded = _rounded(network)
    if not rounded:
        raise ValueError("no layer of the network is rounded; save it with event_model.save.")
    config: Any = network.config
    described = {
        "format": _KIND,
        "format_version": FORMAT_VERSION,
        "network": {"name": name_of(config), **dataclasses.asdict(config)},
        "layers": {
            name: {"bits": layer.bits, "seen_bits": layer.seen_bits, "fixed": layer.fixed}
            for name, layer in rounded.items()
        },
    }
    weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    for name, layer in rounded.items():
        if layer.bits <= _HALF_BYTE:
            weights[f"{name}.levels"] = halved(weights[f"{name}.levels"])

    def fill(folder: Path) -> None:
        files.put_tensors(folder / _WEIGHTS, weights)
        files.write_json(folder / "config.json", described)

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace_folder(path, fill)


def load(path: str | Path) -> nn.Module:
    """Read a rounded network, on the CPU and for evaluation.

    Raises:
        RoundedFileError: A file is missing, damaged or newer than this version.
    """
    path = Path(path)
    try:
        described = json.loads((path / "config.json").read_text(encoding="utf-8"))
        weights = load_file(path / _WEIGHTS)
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise RoundedFileError(f"{path} holds no whole rounded network: {error}") from None
    _check(path, described)
    try:
        stated = dict(described["network"])
        kind = NETWORKS[stated.pop("name")]
        shape = {key: tuple(v) if isinstance(v, list) else v for key, v in stated.items()}
        network = build(kind.config(**shape))
        _refit(network, described["layers"], weights)
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise RoundedFileError(f"{path}: config.json does not fit the weights: {error}") from None
    return network.eval()


def halved(levels: Int8[Tensor, "..."]) -> UInt8[Tensor, " bytes"]:
    """Return levels of 4 bits or fewer, two to a byte, the earlier below."""
    flat = (levels.flatten() + 8).to(torch.uint8)
    flat = torch.cat([flat, flat.new_zeros(len(flat) % 2)])
    return flat[::2] | (flat[1::2] << 4)


def whole(stored: UInt8[Tensor, " bytes"], shape: torch.Size) -> Int8[Tensor, "..."]:
    """Return the levels of a shape that ``halved`` packed."""
    pairs = torch.stack([stored & 15, stored >> 4], 1).flatten()
    return (pairs.to(torch.int8) - 8)[: shape.numel()].view(shape)


def _rounded(network: nn.Module) -> dict[str, RoundedLayer]:
    modules = network.named_modules()
    return {name: part for name, part in modules if isinstance(part, RoundedLayer)}


def _refit(network: nn.Module, layers: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
    """Put empty rounded layers into a fresh network, and unpack their levels."""
    known = dict(layers_of(network))
    for name, stated in layers.items():
        layer, levels, scale = known[name], weights[f"{name}.levels"], weights[f"{name}.scale"]
        if stated["bits"] <= _HALF_BYTE:
            levels = weights[f"{name}.levels"] = whole(levels, layer.weight.shape)
        seen = Grid(torch.ones(()), torch.zeros(()), stated["seen_bits"])
        rounded = RoundedLayer(
            layer,
            Weights(levels.clone(), scale, stated["bits"]),
            stated["seen_bits"],
            seen if stated["fixed"] else None,
        )
        network.set_submodule(name, rounded)


def _check(path: Path, described: Any) -> None:
    if not isinstance(described, dict) or described.get("format") != _KIND:
        raise RoundedFileError(f"{path}/config.json describes no rounded network of unison.")
    version = described.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RoundedFileError(
            f"{path} has format version {version}; this unison reads up to {FORMAT_VERSION}: "
            "upgrade unison, or write the folder again."
        )

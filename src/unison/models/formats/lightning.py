"""What does a Lightning training checkpoint of MDLM, BD3-LM or Duo hold? Read without running it.

Such a file is a pickle: beside tensors it names classes of the program that wrote it. Here every
name but those that rebuild tensors becomes an empty shell, so nothing in the file is executed.
"""

import pickle
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, _utils

from unison.models.formats.blueprint import CheckpointError

_REBUILD = {"_rebuild_tensor_v2", "_rebuild_parameter"}
_ARCHITECTURES = {
    "mdlm": "MDLM",
    "bd3lm": "BD3LM",
    "duo": "DUO",
    "duo_base": "DUO",
    "distillation": "DUO",
}


class _Shell:
    """Stands in for an object of a foreign class; keeps its attributes and does nothing.

    Items of a foreign dictionary go where OmegaConf keeps its own, to ``_content``.
    """

    def __new__(cls, *args: object, **kwargs: object) -> "_Shell":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.__dict__.update({str(name): value for name, value in part.items()})

    def __call__(self, *args: object, **kwargs: object) -> "_Shell":
        return _Shell()

    def __setitem__(self, key: object, value: object) -> None:
        vars(self).setdefault("_content", {})[key] = value

    def append(self, item: object) -> None:
        """Forget an item of a foreign list."""

    def extend(self, items: object) -> None:
        """Forget items of a foreign list."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what rebuilds a tensor, and a shell for everything else."""
        if module == "torch._utils" and name in _REBUILD:
            return getattr(_utils, name)
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type("_Foreign", (_Shell,), {})


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings in the words of the published config.json, and the weights.

    The moving average replaces the weights where there is one. It is stored as a list in the
    order of the network's parameters, which is that of the state dict without its buffers.

    Raises:
        CheckpointError: The file is damaged, no training checkpoint, of an unsupported kind, or
            its average does not fit its weights.
    """
    content = _content(path)
    state = content.get("state_dict")
    if not isinstance(state, dict) or not all(isinstance(w, Tensor) for w in state.values()):
        raise CheckpointError(
            f"{path} holds no state_dict of tensors; give a Lightning checkpoint, or convert it "
            "to safetensors with a config.json."
        )
    weights = {name: w for name, w in state.items() if name.startswith("backbone.")}
    average = _plain(content.get("ema"))
    averaged = isinstance(average, dict) and bool(average.get("shadow_params"))
    if averaged:
        weights |= _matched(path, weights, average["shadow_params"])  # pyright: ignore
    return _settings(path, _plain(content.get("hyper_parameters"))) | {
        "averaged": averaged
    }, weights


def _content(path: Path) -> dict[str, Any]:
    reader = types.ModuleType("unison_inert_pickle")
    reader.Unpickler = _Unpickler  # pyright: ignore[reportAttributeAccessIssue]
    try:
        content = torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)
    except (RuntimeError, EOFError, pickle.UnpicklingError, AttributeError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch checkpoint ({error}); it is damaged, or older "
            "than PyTorch 1.6."
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a dictionary, got {type(content).__name__}.")
    return content


def _matched(path: Path, weights: dict[str, Tensor], shadow: list[Tensor]) -> dict[str, Tensor]:
    names = [name for name in weights if not _is_buffer(name)]
    if len(shadow) < len(names) or any(
        weights[name].shape != average.shape for name, average in zip(names, shadow, strict=False)
    ):
        raise CheckpointError(
            f"{path}: the moving average has {len(shadow)} tensors that do not fit the network's "
            f"{len(names)}; the file is damaged or of another program."
        )
    return dict(zip(names, shadow, strict=False))


def _is_buffer(name: str) -> bool:
    return ".rotary_emb." in name or name.endswith(("kv_cache", "sampling_eps_min", ".mask"))


def _settings(path: Path, hyper: Any) -> dict[str, Any]:
    """Return the training's settings under the names of the published config.json."""
    config = _section(hyper, "config") or _section({"hyper": hyper}, "hyper")
    model, algo = _section(config, "model"), _section(config, "algo")
    kind = algo.get("name") or {"subs": "mdlm"}.get(config.get("parameterization", ""))
    if kind not in _ARCHITECTURES:
        raise CheckpointError(
            f"{path}: trained by {kind or config.get('parameterization') or 'an unknown method'}; "
            f"known: {', '.join(_ARCHITECTURES)}."
        )
    found = {
        "hidden_dim": model.get("hidden_size"),
        "cond_dim": model.get("cond_dim"),
        "n_blocks": model.get("n_blocks"),
        "n_heads": model.get("n_heads"),
        "model_length": model.get("length"),
        "dropout": model.get("dropout"),
        "time_conditioning": algo.get("time_conditioning", config.get("time_conditioning")),
        "block_size": config.get("block_size", algo.get("block_size")),
        "cross_attn": algo.get("cross_attn"),
        "adaln": model.get("adaln"),
    }
    architecture = _ARCHITECTURES[kind]
    return {
        "architectures": [architecture],
        "model_type": architecture.lower(),
        "algorithm": kind,
        **{name: value for name, value in found.items() if value is not None},
    }


def _section(settings: Any, name: str) -> dict[str, Any]:
    found = settings.get(name) if isinstance(settings, dict) else None
    return found if isinstance(found, dict) else {}


def _plain(value: Any) -> Any:
    """Return a foreign configuration as dictionaries, lists and values (OmegaConf's containers)."""
    if isinstance(value, _Shell):
        inner = vars(value)
        return _plain(inner["_content"] if "_content" in inner else inner.get("_val"))
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, str) and value.startswith("${") else value

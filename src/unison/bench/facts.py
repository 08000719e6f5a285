"""What must be known of a model and a machine to place a number?"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from unison.decode import Strategy
from unison.generation import Sampling
from unison.generation.settings import process_name
from unison.language_model import LanguageModel
from unison.suites import Problem
from unison.train import folder


def of_model(model: LanguageModel, name: str) -> dict[str, Any]:
    """Return which model it is, to the last weight, and how it lies in memory."""
    weights = list(model.network.parameters())
    return {
        "name": name,
        "format": model.format,
        "process": process_name(model.process),
        "parameters": sum(weight.numel() for weight in weights),
        "dtype": str(weights[0].dtype).removeprefix("torch."),
        "device": str(model.device),
        "max_length": model.max_length,
        "tokenizer": model.tokenizer.fingerprint,
        "weights_sha256": weights_hash(model.network),
    }


def weights_hash(network: Any) -> str:
    """Return one hash of all weights and buffers, by name, as they lie in memory."""
    told = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        told.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        told.update(raw.numpy().data)
    return told.hexdigest()


def environment() -> dict[str, Any]:
    """Return versions, machine, git state and the load of everyone on the machine."""
    load = list(os.getloadavg()) if hasattr(os, "getloadavg") else None
    return {**folder.environment(), "load": load}


def prompts_hash(problems: Sequence[Problem]) -> str:
    """Return one hash of all prompts and suffixes, in order, as text: no tokenizer changes it."""
    said = json.dumps([[problem.prompt, problem.suffix] for problem in problems])
    return hashlib.sha256(said.encode()).hexdigest()


def of_strategy(model: LanguageModel, strategy: Strategy, sampling: Sampling) -> dict[str, Any]:
    """Return the strategy as it runs, field by field, and what is wrapped around it."""
    defaults = model.defaults
    return {
        "strategy": plain(strategy),
        "temperature": defaults.temperature
        if sampling.temperature is None
        else sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": defaults.top_p if sampling.top_p is None else sampling.top_p,
        "cfg": sampling.cfg,
        "cache": sampling.cache if isinstance(sampling.cache, str) else "none",
    }


def plain(value: Any) -> Any:
    """Return a configuration as JSON values; what is no data is named."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)

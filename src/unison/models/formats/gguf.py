"""What does a GGUF file hold? transformers' own converter reads it, into its names for tensors."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import torch

from unison.models.formats.blueprint import CheckpointError
from unison.models.formats.tensors import Held


def read(path: Path) -> tuple[dict[str, Any], Held]:
    """Return settings as of config.json, and the weights in float32.

    Raises:
        CheckpointError: transformers or gguf is not installed, or cannot read the file.
    """
    transformers = _library(path)
    converter = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    local: dict[str, Any] = {"local_files_only": True, "gguf_file": path.name}
    try:
        config = transformers.AutoConfig.from_pretrained(path.parent, **local)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        weights = converter.load_gguf_checkpoint(
            str(path), return_tensors=True, model_to_load=model
        )["tensors"]
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise CheckpointError(f"{path} cannot be read as GGUF: {error}.") from error
    return config.to_dict() | {"architectures": [type(model).__name__]}, Held(weights)


def tokenizer_json(path: Path) -> str:
    """Return the ``tokenizer.json`` text of the tokenizer inside the file.

    Raises:
        CheckpointError: transformers or gguf is not installed, or cannot read the file.
    """
    transformers = _library(path)
    try:
        loaded = transformers.AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: its tokenizer cannot be read: {error}.") from error
    return loaded.backend_tokenizer.to_str()


def _library(path: Path) -> Any:
    for module in ("transformers", "gguf"):
        if importlib.util.find_spec(module) is None:
            raise CheckpointError(
                f"{path} is read through {module}, which is not installed; "
                "pip install 'unison[hf]'."
            )
    return importlib.import_module("transformers")

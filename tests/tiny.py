"""Runs that take a moment: a text, a shape and configurations as small as they come."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import torch

from unison.data import TokenizerSpec, train_tokenizer
from unison.distil import Distil
from unison.language_model import Defaults, LanguageModel
from unison.models import Transformer, TransformerConfig
from unison.objectives import OBJECTIVES
from unison.process import PROCESSES
from unison.recipes.run import Finished, Place, train
from unison.train import Data, Event, Optimizer, Train

TEXT = "\n\n".join(
    f"Paragraph {i}: the quick brown fox, number {i * i}, jumps over {i + 3} lazy dogs."
    for i in range(24)
)
SHAPE = TransformerConfig(hidden=16, depth=1, heads=2, max_length=16, cond_dim=8)
FAMILIES = {"duo": "uniform", "mdlm": "absorbing", "ar": "sequential"}


def shape(family: str, **changes: Any) -> TransformerConfig:
    """The smallest network an objective can train."""
    causal = family == "ar"
    return dataclasses.replace(
        SHAPE,
        attention="causal" if causal else "bidirectional",
        time="adaln" if family == "duo" else "none",
        **changes,
    )


def config(family: str = "duo", **changes: Any) -> Train:
    """A dozen steps that evaluate, save and log at different steps."""
    model = changes.pop("model", {})
    settings: dict[str, Any] = {
        "model": shape(family, **model),
        "objective": OBJECTIVES[family](),
        "data": Data(TokenizerSpec("char"), split="blank"),
        "optimizer": Optimizer(lr=1e-2, warmup=3, schedule="cosine"),
        "steps": 10,
        "batch_size": 4,
        "ema": 0.9,
        "eval_every": 4,
        "eval_blocks": 4,
        "save_every": 3,
        "log_every": 1,
    }
    return Train(**settings | changes)


def distillation(**changes: Any) -> Distil:
    """Three rounds of three steps."""
    settings: dict[str, Any] = {
        "rounds": 3,
        "round_steps": 3,
        "first_gap": 1 / 16,
        "optimizer": Optimizer(lr=1e-2, warmup=1),
        "batch_size": 4,
        "ema": 0.9,
        "eval_every": 5,
        "eval_blocks": 4,
        "save_every": 1,
        "log_every": 1,
    }
    return Distil(**settings | changes)


def corpus(folder: Path, text: str = TEXT) -> str:
    """Write the text and return its path as the command line would name it."""
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def model(family: str = "duo", *, length: int = 16, strength: float = 1.0, **changes: Any):
    """A language model of random weights, strong enough to say something."""
    tokenizer = train_tokenizer("char", [TEXT])
    kind = PROCESSES[FAMILIES[family]]
    process = kind(tokenizer.vocab_size)
    network = Transformer(
        shape(
            family,
            vocab_size=process.vocab_size,
            num_states=process.num_states,
            **{"max_length": length, **changes},
        )
    )
    randomise(network, strength)
    defaults = Defaults("left_to_right" if family == "ar" else "ancestral", 4, length)
    return LanguageModel(network.eval(), process, tokenizer, defaults)


@torch.no_grad()
def randomise(network: torch.nn.Module, strength: float = 1.0, seed: int = 0) -> None:
    """Replace every weight: zeroed heads and modulations would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        scale = strength / math.sqrt(weight.shape[-1])
        weight.copy_(torch.randn(weight.shape, generator=generator) * scale)


class Cut(BaseException):
    """Stands for the moment a run ends without warning."""


def cut_after(step: int):
    """An observer that ends the run once that many steps are done, before they are saved."""

    def observe(event: Event) -> None:
        if event.step == step:
            raise Cut

    return observe


def run(train_config: Train, text: str, out: Path, *, cut: int | None = None, **place: Any):
    """Train on the CPU; with ``cut``, until that step."""
    observe = () if cut is None else (cut_after(cut),)
    return train(train_config, [text], Place(out, device="cpu", **place), observe=observe)


def left_behind(folder: Path) -> dict[str, Any]:
    """Every file below a folder, without what a clock or the repository's state decides."""
    return {
        str(path.relative_to(folder)): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _content(path: Path) -> Any:
    if path.name == "log.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines]
    if path.name == "run.json":
        return {k: v for k, v in json.loads(path.read_text()).items() if k != "git"}
    return path.read_bytes()


def assert_same(one: Path, other: Path) -> None:
    """Fail unless two folders hold the same files, byte for byte."""
    a, b = left_behind(one), left_behind(other)
    assert sorted(a) == sorted(b)
    different = [name for name in a if a[name] != b[name]]
    assert not different, f"these files differ: {different}"


__all__ = [
    "Cut",
    "Finished",
    "assert_same",
    "config",
    "corpus",
    "cut_after",
    "distillation",
    "left_behind",
    "model",
    "randomise",
    "run",
    "shape",
]

"""Models that can spell every task, and what a bench of them needs."""

import dataclasses
import string
from functools import cache

import tiny
import torch

from unison.bench import Plan, run
from unison.data import train_tokenizer
from unison.language_model import LanguageModel
from unison.models import Transformer
from unison.process import PROCESSES


class Broken(torch.nn.Module):
    """Stands for a network that fails when it is used."""

    def __init__(self, whole: Transformer) -> None:
        super().__init__()
        self.weight, self.config = whole.embed.weight, whole.config

    def forward(self, *args: object, **kwargs: object) -> torch.Tensor:
        raise RuntimeError("out of luck")


@cache
def load(name: str) -> LanguageModel:
    """Return a model of random weights by family; two are what their names say."""
    if name == "missing":
        raise ValueError("there is no model missing")
    family = "mdlm" if name in ("broken", "long") else name
    base = tiny.model(family)
    tokenizer = train_tokenizer("char", [string.printable])
    process = PROCESSES[tiny.FAMILIES[family]](tokenizer.vocab_size)
    size = {"vocab_size": process.vocab_size, "num_states": process.num_states, "max_length": 160}
    if name == "long":
        size["max_length"] = 2000
    network = Transformer(tiny.shape(family, **size)).eval()
    tiny.randomise(network, 2.0)
    return dataclasses.replace(
        base,
        network=Broken(network) if name == "broken" else network,
        process=process,
        tokenizer=tokenizer,
        eos_ids=(tokenizer.eos_id,),
    )


def plan(**changes) -> Plan:
    """A bench of seconds."""
    settings = {
        "models": ("mdlm",),
        "suite": ("chain:terms=3",),
        "count": 5,
        "samples": 2,
        "batch_size": 4,
    }
    return Plan(**{**settings, **changes})


def ran(folder, **changes):
    """Run a small bench and return its results."""
    return run(plan(**changes), folder, load)

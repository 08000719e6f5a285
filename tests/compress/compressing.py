"""Small models and rows of text that a compression can be tried on."""

import torch
from tiny import model as tiny_model

from unison.language_model import LanguageModel
from unison.types import Tokens

WIDE = {"hidden": 32, "heads": 4, "depth": 2, "mlp_ratio": 2.0}
SHAPES = {
    "duo": {},
    "mdlm": {"norm": "rms", "mlp": "swiglu", "tied": True},
    "ar": {"kv_heads": 2, "mlp": "swiglu", "norm": "rms", "qkv_bias": True, "out_bias": True},
}


def model(family: str = "duo", **changes) -> LanguageModel:
    """A model of random weights whose rows are whole groups of 32."""
    return tiny_model(family, **{**WIDE, **SHAPES[family], **changes})


def text(of: LanguageModel, rows: int = 12, seed: int = 0) -> Tokens:
    """Rows of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, of.max_length)
    return torch.randint(of.process.vocab_size, shape, generator=generator)

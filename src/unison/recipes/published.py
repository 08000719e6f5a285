"""Which published runs can be repeated? Settings of the papers, as printed.

Duo: arXiv:2506.10892, section 5 and appendix C: 92M-parameter transformer, one million steps of
512 blocks, half of them curriculum at tau = 1e-3, distilled in five rounds.
"""

import dataclasses

from unison.data import TokenizerSpec
from unison.distil import Distil
from unison.models import PRESETS
from unison.objectives import Duo
from unison.recipes.recipe import Recipe
from unison.train import Data, Optimizer, Train


def duo_lm1b() -> Recipe:
    """Duo on the One Billion Word benchmark, packed to 128 BERT tokens."""
    return _duo("hf:bert-base-uncased", 128, "hf:lm1b")


def duo_owt() -> Recipe:
    """Duo on OpenWebText, packed to 1024 GPT-2 tokens."""
    return _duo("hf:gpt2", 1024, "hf:Skylion007/openwebtext")


def _duo(tokenizer: str, length: int, text: str) -> Recipe:
    train = Train(
        model=dataclasses.replace(PRESETS["small"], max_length=length),
        objective=Duo(curriculum_steps=500_000, tau=1e-3),
        data=Data(TokenizerSpec("existing", source=tokenizer), holdout=0.01, split="line"),
        optimizer=Optimizer(lr=3e-4, warmup=2500),
        steps=1_000_000,
        batch_size=512,
        micro_batch=32,
        ema=0.9999,
        eval_every=10_000,
        eval_blocks=1024,
        save_every=5000,
        log_every=100,
        tensorboard=True,
    )
    return Recipe(train, Distil(), (text,), steps=length)

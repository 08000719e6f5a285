"""Which runs fit a laptop, or one GPU?"""

import dataclasses

from unison.data import TokenizerSpec
from unison.distil import Distil
from unison.models import PRESETS, TransformerConfig
from unison.objectives import Duo
from unison.recipes.recipe import Recipe
from unison.train import Data, Optimizer, Train


def tiny_cpu() -> Recipe:
    """Seconds on a CPU: proves that everything works, learns little."""
    train = Train(
        model=PRESETS["nano"],
        objective=Duo(curriculum_steps=100),
        optimizer=Optimizer(lr=3e-3, warmup=20, schedule="constant"),
        steps=200,
        batch_size=16,
        ema=0.98,
        eval_every=100,
        eval_blocks=64,
        save_every=50,
    )
    return Recipe(train, tiny_distil(), steps=16)


def tiny_distil() -> Distil:
    """Seconds on a CPU."""
    return Distil(
        rounds=3,
        round_steps=20,
        first_gap=1 / 32,
        optimizer=Optimizer(lr=5e-4, warmup=5),
        batch_size=8,
        ema=0.9,
        eval_every=60,
        eval_blocks=32,
        save_every=20,
    )


def demo() -> Recipe:
    """Minutes on two CPU cores: words and layout of the text become visible."""
    train = Train(
        model=TransformerConfig(hidden=128, depth=4, heads=4, max_length=64, cond_dim=64),
        objective=Duo(curriculum_steps=900, tau=0.1, tau_end=0.01, soft="dense"),
        data=Data(TokenizerSpec("bpe", 512)),
        optimizer=Optimizer(lr=2e-3, warmup=50, beta2=0.99, schedule="cosine", final=0.05),
        steps=3000,
        batch_size=16,
        ema=0.995,
        eval_every=200,
        eval_blocks=128,
        save_every=400,
    )
    return Recipe(train, demo_distil(), steps=64)


def demo_distil() -> Distil:
    """Under a minute on two CPU cores: one round across the gap of an eight-step sampler."""
    return Distil(
        rounds=1,
        round_steps=200,
        first_gap=1 / 8,
        optimizer=Optimizer(lr=2e-4, warmup=20, beta2=0.99),
        batch_size=32,
        ema=0.98,
        eval_every=100,
        eval_blocks=64,
        save_every=100,
    )


def stories() -> Recipe:
    """Two hours on one CPU core with bfloat16 products: the model in the box."""
    train = Train(
        model=TransformerConfig(hidden=320, depth=6, heads=5, max_length=128, cond_dim=32),
        objective=Duo(curriculum_steps=800, tau=0.1, tau_end=0.01, top=4),
        data=Data(TokenizerSpec("bpe", 2048)),
        optimizer=Optimizer(
            "muon",
            lr=2e-3,
            muon_lr=2e-3,
            warmup=100,
            beta2=0.99,
            weight_decay=0.02,
            schedule="cosine",
            final=0.02,
        ),
        steps=2500,
        batch_size=32,
        ema=0.995,
        precision="bfloat16",
        eval_every=250,
        eval_blocks=128,
        save_every=50,
    )
    return Recipe(train, stories_distil(), text=(), steps=64)


def stories_continued() -> Recipe:
    """An hour and a half more on one CPU core, from ``stories``'s weights, without curriculum."""
    recipe = stories()
    train = recipe.train
    return dataclasses.replace(
        recipe,
        train=dataclasses.replace(
            train,
            objective=Duo(curriculum_steps=0),
            optimizer=dataclasses.replace(train.optimizer, lr=1.5e-3, muon_lr=1.5e-3),
            steps=2600,
        ),
    )


def stories_distil() -> Distil:
    """Minutes on two CPU cores: to samplers of eight and sixteen steps."""
    return Distil(
        rounds=2,
        round_steps=150,
        first_gap=1 / 16,
        optimizer=Optimizer(lr=2e-4, warmup=20, beta2=0.99),
        batch_size=32,
        ema=0.98,
        precision="bfloat16",
        eval_every=150,
        eval_blocks=64,
        save_every=50,
        steps=16,
    )


def small_gpu() -> Recipe:
    """Hours on one GPU of 16 GB or more: the published small model on shorter text."""
    train = Train(
        model=dataclasses.replace(PRESETS["small"], max_length=512),
        objective=Duo(curriculum_steps=50_000),
        data=Data(TokenizerSpec("bpe", 16_384)),
        optimizer=Optimizer(lr=3e-4, warmup=2500),
        steps=100_000,
        batch_size=64,
        micro_batch=32,
        eval_every=2000,
        eval_blocks=512,
        save_every=2000,
        log_every=50,
    )
    distil = Distil(round_steps=5000, batch_size=64, micro_batch=16)
    return Recipe(train, distil, steps=128)

"""Train a small masked model on the problems: what the decoding benchmarks decode.

    python -m benchmarks.problem_model --out runs/problems --minutes 60

Only answers are noised. Every eighth batch has long canvases. Saves an ordinary model folder every
few minutes; a folder that is there already is trained further.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import problems
from unison.checkpoints import load, save
from unison.language_model import Defaults, LanguageModel
from unison.models import Transformer, TransformerConfig
from unison.process import Absorbing
from unison.train import Optimizer
from unison.train.optim import make, set_rate

SHORT, LONG = problems.PROMPT + problems.ANSWER, 512
ROWS = {SHORT: 96, LONG: 16}


def fresh() -> LanguageModel:
    """Return an untrained model."""
    codec = problems.tokenizer()
    process = Absorbing(codec.vocab_size)
    shape = TransformerConfig(
        vocab_size=process.vocab_size,
        num_states=process.num_states,
        hidden=128,
        depth=4,
        heads=4,
        max_length=LONG,
        time="none",
        norm="rms",
        mlp="swiglu",
        mlp_ratio=3.0,
    )
    defaults = Defaults("ancestral", problems.ANSWER, SHORT)
    return LanguageModel(Transformer(shape), process, codec, defaults, {"task": "problems"})


def loss_of(model: LanguageModel, random: np.random.Generator, length: int) -> torch.Tensor:
    """Return the mean weighted cross-entropy of masked answer tokens, in nats."""
    rows = ROWS[length]
    clean, asked = problems.canvases(random, rows, length, model.tokenizer)
    level = torch.from_numpy((random.permutation(rows) + random.random(rows)) / rows)[:, None]
    masked = asked & (torch.from_numpy(random.random((rows, length))) < level)
    noisy = torch.where(masked, model.process.mask_id, clean)
    logits = model.network(noisy, torch.zeros(rows))
    nll = F.cross_entropy(logits[masked], clean[masked], reduction="none")
    weight = (1 / level.clamp(min=0.05)).expand_as(masked)[masked]
    return (nll * weight).sum() / asked.sum()


def main() -> None:
    """Train until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/problems"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    model = load(options.out) if (options.out / "config.json").exists() else fresh()
    model.network.train()
    optimizers = make(model.network, Optimizer(name="muon", lr=2e-3, muon_lr=3e-3))
    begin, step, saved, mean = time.monotonic(), 0, 0.0, None
    while (spent := (time.monotonic() - begin) / 60) < options.minutes:
        share = min(1.0, (step + 1) / 50, 1.02 - spent / options.minutes)
        set_rate(optimizers, share)
        loss = loss_of(model, random, LONG if step % 8 == 7 else SHORT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.network.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        step += 1
        if step % 50 == 0:
            print(f"{spent:6.1f} min  step {step}  loss {mean:.4f}", flush=True)
        if spent - saved > 3:
            save(model, options.out)
            saved = spent
    save(model, options.out)


if __name__ == "__main__":
    main()

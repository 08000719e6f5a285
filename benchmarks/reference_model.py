"""Train the models whose decoding is compared with the published loops.

    python -m benchmarks.reference_model --out runs/masked --minutes 15
    python -m benchmarks.reference_model --out runs/uniform --start runs/masked --minutes 8

A transformer four times as large as that of ``benchmarks.problem_model`` learns the same problems:
from masks as LLaDA's, or, where it starts from a masked model, from random tokens as
DiffusionGemma's. Only answers are noised. Minutes are CPU minutes of one thread; products are in
bfloat16, weights in float32.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import problems
from unison.checkpoints import load, save
from unison.language_model import Defaults, LanguageModel
from unison.models import Transformer, TransformerConfig
from unison.process import Absorbing, Uniform
from unison.train import Optimizer
from unison.train.optim import make, set_rate

LENGTH, ROWS = problems.PROMPT + problems.ANSWER, 32
SHARES = {"copy": 2, "sort": 2, "next": 2, "add": 3, "run": 1, "tell": 2}


def fresh(process: Absorbing | Uniform) -> LanguageModel:
    """Return an untrained model."""
    shape = TransformerConfig(
        vocab_size=process.vocab_size,
        num_states=process.num_states,
        hidden=256,
        depth=4,
        heads=4,
        max_length=LENGTH,
        time="none",
        norm="rms",
        mlp="swiglu",
        mlp_ratio=3.0,
    )
    defaults = Defaults("ancestral", problems.ANSWER, LENGTH)
    codec = problems.tokenizer()
    return LanguageModel(Transformer(shape), process, codec, defaults, {"task": "problems"})


def going_on(masked: LanguageModel) -> LanguageModel:
    """Return a uniform-state model with the weights of a masked one, less the mask's."""
    model = fresh(Uniform(masked.process.vocab_size))
    weights = masked.network.state_dict()
    wanted = model.network.state_dict()
    model.network.load_state_dict({name: w[: len(wanted[name])] for name, w in weights.items()})
    return model


def batch(random: np.random.Generator, model: LanguageModel) -> tuple[Tensor, Tensor]:
    """Return clean tokens, and the part of each answer that is noise, [ROWS, 1]."""
    tokens = np.full((ROWS, LENGTH), model.tokenizer.eos_id, dtype=np.int64)
    share = np.array([SHARES[kind] for kind in problems.KINDS])
    kinds = random.choice(list(problems.KINDS), size=ROWS, p=share / share.sum())
    for row, kind in zip(tokens, kinds, strict=True):
        drawn = problems.problem(random, LENGTH, str(kind))
        ids = model.tokenizer.encode(drawn.prompt + drawn.answer)
        row[: len(ids)] = ids
    level = (random.permutation(ROWS) + random.random(ROWS)) / ROWS
    return torch.from_numpy(tokens), torch.from_numpy(level)[:, None]


def loss_of(model: LanguageModel, random: np.random.Generator) -> Tensor:
    """Return a mean cross-entropy of noised answer tokens, in nats.

    Of masked tokens it is the usual bound, its weight kept below 20. Of random tokens nobody says
    which are noise, so all answer tokens count alike: the minimum is the same belief.
    """
    clean, level = batch(random, model)
    asked = torch.arange(LENGTH) >= problems.PROMPT
    hit = asked & (torch.from_numpy(random.random((ROWS, LENGTH))) < level)
    masked = isinstance(model.process, Absorbing)
    if masked:
        noise = torch.full_like(clean, model.process.mask_id)
    else:
        noise = torch.from_numpy(random.integers(model.process.vocab_size, size=(ROWS, LENGTH)))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.network(torch.where(hit, noise, clean), torch.zeros(ROWS))
    counted = hit if masked else asked.expand_as(hit)
    nll = F.cross_entropy(logits[counted].float(), clean[counted], reduction="none")
    weight = (1 / level.clamp(min=0.05) if masked else torch.ones_like(level)).expand_as(hit)
    return (nll * weight[counted]).sum() / (ROWS * problems.ANSWER)


def prepared(chosen: argparse.Namespace) -> LanguageModel:
    """Return the model to train: the one that is there, one to start from, or a fresh one."""
    if (chosen.out / "config.json").exists():
        return load(chosen.out)
    if chosen.start is not None:
        return going_on(load(chosen.start))
    return fresh(Absorbing(problems.tokenizer().vocab_size))


def options() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="a masked model that becomes a uniform one")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=float, default=1.0, help="times the usual learning rate")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train until the time is over."""
    chosen = options()
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    random = np.random.default_rng(chosen.seed)
    model = prepared(chosen)
    model.network.train()
    optimizers = make(model.network, Optimizer(name="muon", lr=2e-3, muon_lr=3e-3))
    begin, step, saved, mean = time.process_time(), 0, 0.0, 0.0
    while (spent := (time.process_time() - begin) / 60) < chosen.minutes:
        share = min((step + 1) / 50, 1.0, 2 * (1.01 - spent / chosen.minutes))
        set_rate(optimizers, chosen.rate * share)
        loss = loss_of(model, random)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.network.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        mean += (loss.item() - mean) / min(step, 50)
        if step % 50 == 0:
            print(f"{spent:6.1f} min  step {step}  loss {mean:.4f}", flush=True)
        if spent - saved > 2:
            save(model, chosen.out)
            saved = spent
    save(model, chosen.out)


if __name__ == "__main__":
    main()

"""Train the models on problems that the decoding benchmarks decode.

    python -m benchmarks.problem_model --out runs/problems --minutes 60
    python -m benchmarks.problem_model --plan large --out runs/masked --minutes 15
    python -m benchmarks.problem_model --plan large --start runs/masked --out runs/uniform

Two plans: a small network that knows long canvases too, every eighth batch, and a large one, four
times its size, whose canvases are short and whose products are in bfloat16. They learn from masks
as LLaDA, or, where they start from a masked model, from random tokens as DiffusionGemma. Only
answers are noised. Minutes are CPU minutes of one thread. A folder that holds a model is trained
further.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

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

SHORT, LONG = problems.PROMPT + problems.ANSWER, 512
LONG_EVERY = 8  # batches
SAVE_EVERY = 2  # minutes


class Plan(NamedTuple):
    """What is trained on what.

    Attributes:
        width: Of the network.
        rows: Of a batch, for each length of canvas.
        bfloat16: Whether products are.
    """

    width: int
    rows: Mapping[int, int]
    bfloat16: bool


PLANS = {
    "small": Plan(128, {SHORT: 96, LONG: 16}, bfloat16=False),
    "large": Plan(256, {SHORT: 32}, bfloat16=True),
}


def fresh(process: Absorbing | Uniform, plan: Plan) -> LanguageModel:
    """Return an untrained model."""
    shape = TransformerConfig(
        vocab_size=process.vocab_size,
        num_states=process.num_states,
        hidden=plan.width,
        depth=4,
        heads=4,
        max_length=max(plan.rows),
        time="none",
        norm="rms",
        mlp="swiglu",
        mlp_ratio=3.0,
    )
    defaults = Defaults("ancestral", problems.ANSWER, SHORT)
    codec = problems.tokenizer()
    return LanguageModel(Transformer(shape), process, codec, defaults, {"task": "problems"})


def going_on(masked: LanguageModel, plan: Plan) -> LanguageModel:
    """Return a uniform-state model with the weights of a masked one, less the mask's."""
    model = fresh(Uniform(masked.process.vocab_size), plan)
    weights = masked.network.state_dict()
    wanted = model.network.state_dict()
    model.network.load_state_dict({name: w[: len(wanted[name])] for name, w in weights.items()})
    return model


def loss_of(
    model: LanguageModel, random: np.random.Generator, plan: Plan, length: int = SHORT
) -> Tensor:
    """Return a mean cross-entropy of noised answer tokens, in nats.

    Of masked tokens it is the usual bound, its weight kept below 20. Of random tokens nobody says
    which are noise, so all answer tokens count alike: the minimum is the same belief.
    """
    rows = plan.rows[length]
    clean, asked = problems.canvases(random, rows, length, model.tokenizer)
    level = torch.from_numpy((random.permutation(rows) + random.random(rows)) / rows)[:, None]
    hit = asked & (torch.from_numpy(random.random((rows, length))) < level)
    masked = isinstance(model.process, Absorbing)
    if masked:
        noise = torch.full_like(clean, model.process.mask_id)
    else:
        noise = torch.from_numpy(random.integers(model.process.vocab_size, size=(rows, length)))
    with torch.autocast("cpu", torch.bfloat16, enabled=plan.bfloat16):
        logits = model.network(torch.where(hit, noise, clean), torch.zeros(rows))
    counted = hit if masked else asked
    nll = F.cross_entropy(logits[counted].float(), clean[counted], reduction="none")
    weight = (1 / level.clamp(min=0.05) if masked else torch.ones_like(level)).expand_as(hit)
    return (nll * weight[counted]).sum() / asked.sum()


def prepared(chosen: argparse.Namespace) -> LanguageModel:
    """Return the model to train: the one that is there, one to start from, or a fresh one."""
    plan = PLANS[chosen.plan]
    if (chosen.out / "config.json").exists():
        return load(chosen.out)
    if chosen.start is not None:
        return going_on(load(chosen.start), plan)
    return fresh(Absorbing(problems.tokenizer().vocab_size), plan)


def options() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/problems"))
    parser.add_argument("--plan", choices=PLANS, default="small")
    parser.add_argument("--start", type=Path, help="a masked model that becomes a uniform one")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train until the time is over."""
    chosen = options()
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    random = np.random.default_rng(chosen.seed)
    plan, model = PLANS[chosen.plan], prepared(chosen)
    model.network.train()
    optimizers = make(model.network, Optimizer(name="muon", lr=2e-3, muon_lr=3e-3))
    begin, step, saved, mean = time.process_time(), 0, 0.0, 0.0
    while (spent := (time.process_time() - begin) / 60) < chosen.minutes:
        set_rate(optimizers, min((step + 1) / 50, 1.0, 2 * (1.01 - spent / chosen.minutes)))
        long = LONG in plan.rows and step % LONG_EVERY == LONG_EVERY - 1
        loss = loss_of(model, random, plan, LONG if long else SHORT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.network.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        mean += (loss.item() - mean) / min(step, 50)
        if step % 50 == 0:
            print(f"{spent:6.1f} min  step {step}  loss {mean:.4f}", flush=True)
        if spent - saved > SAVE_EVERY:
            save(model, chosen.out)
            saved = spent
    save(model, chosen.out)


if __name__ == "__main__":
    main()

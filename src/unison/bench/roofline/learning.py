"""Which work learns, or reads a whole text? Steps of training, and a plain evaluation."""

from itertools import count

import torch

from unison.bench.record import BenchError
from unison.bench.roofline.stage import Stage
from unison.bench.roofline.work import Work
from unison.generation import process_name
from unison.models import Transformer
from unison.objectives import Loss
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Sequential
from unison.train import optim
from unison.train.ema import Average
from unison.train.step import Learner, take
from unison.types import Tokens

_SITE_TEXT = 0


def text(stage: Stage, rows: int) -> Tokens:
    """Return rows of uniformly drawn tokens."""
    u = rng.uniform(Key(rng.rows(stage.settings.seed, 0, rows)), _SITE_TEXT, stage.length)
    return (u * stage.main.process.vocab_size).long().to(stage.device)


def training(stage: Stage) -> Work:
    """Return an optimiser step of the main model's objective.

    Raises:
        ValueError: The network cannot be trained.
    """
    process = process_name(stage.main.process)
    return stepping(stage, "train", stage.fresh(process), stage.trained(process).objective)


def stepping(stage: Stage, name: str, network: Transformer, loss: Loss) -> Work:
    """Return an optimiser step: noise, loss, gradient, optimiser, average of the weights.

    Args:
        stage: Says how much text, and in which precision.
        name: Of the row.
        network: Its weights move.
        loss: What is minimised, for the main model's process.
    """
    process = stage.main.process
    config = stage.trained(process_name(process))
    network.train()
    learner = Learner(network, process, loss, optim.make(network, config.optimizer))
    average, tokens = Average(network, config.ema), text(stage, stage.settings.batch_size)
    numbers = count()

    def step() -> None:
        number = next(numbers)
        outcome = take(learner, config, tokens, number)
        if outcome.skipped:
            raise BenchError(f"the gradient of {name} was not finite at step {number}.")
        average.update(network, number)

    return Work(name, step, tokens.numel())


def evaluation(stage: Stage) -> Work:
    """Return one evaluation of the main model's network, as many rows as a training step."""
    model, tokens = stage.main, text(stage, stage.settings.batch_size)
    inputs = model.process.shifted(tokens) if isinstance(model.process, Sequential) else tokens
    sigma = torch.linspace(0.1, 2.0, len(tokens), device=stage.device)

    @torch.no_grad()
    def forward() -> None:
        model.network(inputs, sigma)

    return Work("forward", forward, tokens.numel())

"""How does elastic training go? The training loop, with another loss and a ledger beside it."""

import dataclasses
from collections.abc import Callable

from unison.compress.elastic.config import Elastic, check
from unison.compress.elastic.inside import own
from unison.compress.elastic.learning import Learning
from unison.compress.elastic.ledger import Ledger
from unison.compress.elastic.ordering import ordered
from unison.data import BlockStream, Corpus
from unison.language_model import LanguageModel
from unison.models import Transformer
from unison.objectives import bound_of
from unison.process import PROCESSES
from unison.train import Prepared, Train, TrainError


def prepare(
    elastic: Elastic, config: Train, prepared: Prepared
) -> tuple[Prepared, Callable[[int], None]]:
    """Return a training run made elastic, and what must happen before each of its steps.

    Args:
        elastic: The networks it is to hold.
        config: The run.
        prepared: The run of one network; its network becomes the largest.

    Raises:
        ValueError: The run cannot be elastic.
    """
    check(config)
    space = elastic.space(prepared.network.config)
    ledger = Ledger(len(space.choices))
    ledger.to(next(prepared.network.parameters()).device)
    learning = Learning(prepared.objective, elastic, space, ledger, config.seed)
    bound = prepared.bound or bound_of(prepared.process, prepared.network)
    made = prepared._replace(objective=learning, frozen={"ledger": ledger}, bound=bound)
    return made, lambda step: ledger.settle()


def continued(config: Train, base: LanguageModel, corpus: Corpus) -> Prepared:
    """Return the run of a trained model's network, its units in the order of their importance.

    Args:
        config: The run; its shape is the model's.
        base: The model.
        corpus: In the model's tokens.

    Raises:
        ValueError: It is not unison's own, or the objective is for another process.
    """
    network: Transformer = ordered(own(base))
    if not isinstance(base.process, PROCESSES[config.objective.process]):
        raise TrainError(
            f"{type(config.objective).__name__} trains models of the {config.objective.process} "
            f"process, and this one is {type(base.process).__name__.lower()}."
        )
    stream = BlockStream.over(corpus.train.tokens, base.max_length, config.batch_size, config.seed)
    return Prepared(corpus, stream, base.process, network, config.objective)


def as_train(config: Train, base: LanguageModel | None) -> Train:
    """Return the run as it is done: with the shape of the model it goes on from, uncompiled.

    Every step evaluates networks of other shapes, for which graphs would have to be made anew.
    """
    shape = config.model if base is None else base.network.config
    left = "off" if config.compile == "auto" else config.compile
    return dataclasses.replace(config, model=shape, compile=left)

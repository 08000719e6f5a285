"""How much memory does a piece of work take? Counted before it begins, so that all of it fits."""

from unison.engine.none import Uncached
from unison.engine.unchanged import Unchanged
from unison.generation.ordering import Order
from unison.language_model import LanguageModel

_BELIEFS = 4  # copies of a row's belief that are alive at once: said, tempered, judged, drawn from
_STREAMS = 12  # times its width that a position takes while a block is evaluated


def text_bytes(order: Order, number: int) -> int:
    """Return the bytes that writing one text of an order takes at most."""
    length = len(order.texts[number].row.tokens)
    cache = order.sampling.cache
    remembered = cache is not None and not isinstance(cache, Uncached | Unchanged)
    guided = 2 if order.sampling.cfg else 1
    return guided * positions_bytes(order.model, length, remembered=remembered)


def positions_bytes(model: LanguageModel, positions: int, *, remembered: bool = False) -> int:
    """Return the bytes that evaluating a canvas takes.

    Args:
        model: Evaluates.
        positions: Of the canvas.
        remembered: Whether keys and values stay.
    """
    config = model.network.config
    weights = next(model.network.parameters())
    memory = 2 * config.depth * config.num_kv_heads * config.head_dim * weights.element_size()
    beliefs = 4 * _BELIEFS * model.process.vocab_size
    return positions * (beliefs + 4 * _STREAMS * config.hidden + (memory if remembered else 0))

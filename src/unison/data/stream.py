"""Which blocks does training step n see?

The answer is a function of (seed, step) alone, so a run that resumes at a step needs no state.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from unison.data.blocks import TokenRow
from unison.data.documents import CorpusError

_MIN_BLOCKS = 2
_SEEDS = 1 << 64


@lru_cache(maxsize=4)  # an epoch lasts many steps; the answer does not depend on the cache
def _permutation(seed: int, epoch: int, size: int) -> Int64[np.ndarray, " N"]:
    """Order ``size`` blocks by random 64-bit words.

    The words come straight from Philox keyed by (seed, epoch), whose stream numpy promises to
    keep; its own ``permutation`` may change between versions.
    """
    generator = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64))
    order = np.argsort(generator.random_raw(size), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


@dataclass(frozen=True)
class BlockStream:
    """An endless sequence of batches of block indices, each epoch in a new order.

    Law: every epoch is a uniformly random permutation of all blocks, independent of the others.
    Batches run on across the ends of epochs; nothing is dropped or repeated.

    Attributes:
        num_blocks: Blocks in the split; at least 2.
        batch_size: Blocks per step over all ranks and micro-batches; the caller takes its slice.
        seed: In 0 .. 2^64 - 1.

    Raises:
        CorpusError: A field is out of range.
    """

    num_blocks: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse a stream that cannot be shuffled."""
        if self.num_blocks < _MIN_BLOCKS:
            raise CorpusError(
                f"the corpus has {self.num_blocks} whole block(s) and at least {_MIN_BLOCKS} are "
                "needed; choose shorter blocks or give more text."
            )
        if self.batch_size < 1:
            raise CorpusError(f"batch_size={self.batch_size} is not possible; choose at least 1.")
        if not 0 <= self.seed < _SEEDS:
            raise CorpusError(f"seed={self.seed} is not possible; choose one in 0 .. 2^64 - 1.")

    @classmethod
    def over(cls, tokens: TokenRow, length: int, batch_size: int, seed: int) -> "BlockStream":
        """Return the stream over the whole blocks of a row of tokens.

        Args:
            tokens: All tokens of the training split.
            length: Tokens per block.
            batch_size: Blocks per step.
            seed: In 0 .. 2^64 - 1.

        Raises:
            CorpusError: There are fewer than two blocks, or an argument is out of range.
        """
        if length < 1:
            raise CorpusError(f"a block of {length} tokens is not possible; choose at least 1.")
        num_blocks = len(tokens) // length
        if num_blocks < _MIN_BLOCKS:
            longest = len(tokens) // _MIN_BLOCKS
            raise CorpusError(
                f"the training split has {len(tokens)} tokens, which is {num_blocks} whole "
                f"block(s) of {length}; at least {_MIN_BLOCKS} are needed. Choose a length of at "
                f"most {longest}, or give more text."
            )
        return cls(num_blocks, batch_size, seed)

    def indices(self, step: int) -> Int64[np.ndarray, " B"]:
        """Return the blocks of one step, counted from 0.

        Raises:
            CorpusError: The step is negative.
        """
        if step < 0:
            raise CorpusError(f"step={step} is not possible; steps count from 0.")
        place = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epoch, offset = np.divmod(place, self.num_blocks)
        parts = [
            _permutation(self.seed, int(number), self.num_blocks)[offset[epoch == number]]
            for number in np.unique(epoch)
        ]
        return np.concatenate(parts)

    def epoch(self, step: int) -> float:
        """Return how many times every block was seen before a step, on average."""
        return step * self.batch_size / self.num_blocks

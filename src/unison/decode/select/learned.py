"""What a small network, trained for it, takes for final."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unison import files
from unison.decode.select.best import best
from unison.decode.sight import Chosen, Reach, Score, Sight, certainty


class Filter(NamedTuple):
    """Two linear layers from the confidences of a block to a logit for each of its positions.

    Attributes:
        inner: Weights of the first layer, [out, in].
        inner_bias: Its bias.
        outer: Weights of the second layer.
        outer_bias: Its bias.
    """

    inner: Float[Tensor, "N N"]
    inner_bias: Float[Tensor, " N"]
    outer: Float[Tensor, "N N"]
    outer_bias: Float[Tensor, " N"]

    @property
    def block_length(self) -> int:
        """Positions of the blocks it was trained on."""
        return len(self.inner)

    def __call__(self, confidence: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """Return the logits of writing each position."""
        hidden = (confidence @ self.inner.T + self.inner_bias).relu()
        return hidden @ self.outer.T + self.outer_bias


@dataclass(frozen=True)
class Learned:
    """Write what a filter takes for final, and as many positions as are due.

    Learn2PD (Bao et al., 2025, arXiv:2509.25188). The filter sees the probability of the likeliest
    token at every position of the block that was not given, in order; a block with fewer is
    filled up with 1, as if decided.

    Attributes:
        path: The filter's file, as ``save_filter`` writes it.
        threshold: Probability above which the filter is believed; 1 for never.
    """

    reads: ClassVar[Reach] = "block"
    paced: ClassVar[bool] = False
    path: str
    threshold: float = 0.96

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}.")
        self.filter()

    def filter(self, device: torch.device | None = None) -> Filter:
        """Return the filter, read once for each state of its file.

        Raises:
            ValueError: The file is missing or holds no filter.
        """
        path = Path(self.path)
        if not path.is_file():
            raise ValueError(f"path must be a filter's file, got {self.path}, which is none.")
        return _read(path, path.stat().st_mtime_ns, device or torch.device("cpu"))

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return what is final, and what is due."""
        network = self.filter(sight.belief.device)
        number = sight.active.long().cumsum(1) - 1
        known = sight.active & (number < network.block_length)
        place = torch.where(known, number, network.block_length)
        sees = certainty(sight.belief, sight.belief.argmax(-1)).float()
        block = sees.new_ones(len(sees), network.block_length + 1).scatter(1, place, sees)
        final = network(block[:, :-1]).sigmoid() > self.threshold
        believed = final.gather(1, place.clamp(max=network.block_length - 1)) & known
        return (sight.open & believed) | best(sight.open, score, sight.due)


def save_filter(path: Path, network: Filter) -> None:
    """Write a filter's file, atomically."""
    files.write_tensors(path, network._asdict())


def load_filter(path: Path) -> Filter:
    """Read a filter's file.

    Raises:
        ValueError: The file cannot be read or holds no filter.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"path must be a filter's file, got {path}: {error}.") from error
    if set(tensors) != set(Filter._fields):
        raise ValueError(
            f"path must be a filter's file, got {path}, which holds {', '.join(sorted(tensors))} "
            f"instead of {', '.join(Filter._fields)}."
        )
    network = Filter(**tensors)
    length = network.block_length
    shapes = ((length, length), (length,)) * 2
    if any(part.shape != shape for part, shape in zip(network, shapes, strict=True)):
        found = ", ".join(str(tuple(part.shape)) for part in network)
        raise ValueError(
            f"path must be a filter's file, got {path}, whose layers have the shapes {found}; "
            "both must map a block to a block."
        )
    return network


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, device: torch.device) -> Filter:
    return Filter(*(part.to(device) for part in load_filter(path)))

"""Linear maps that turn a stream inside the target into the streams of later places."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from unison.drafters import futures as comparing
from unison.drafters import probing
from unison.drafters.ahead import Ahead
from unison.drafters.futures import Futures
from unison.drafters.kind import Lesson
from unison.engine.reading import NetworkTarget
from unison.models import remember, stepping
from unison.models.layers import Hidden
from unison.models.transformer import Transformer
from unison.prob.rng import Key
from unison.speculation.parts import Drafting, Target
from unison.speculation.tree import How, Tree


class Maps(nn.Module):
    """One map for each pseudo token; at first each leaves the stream as it is."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in range(count))
        for one in self.maps:
            nn.init.eye_(one.weight)  # pyright: ignore
            nn.init.zeros_(one.bias)  # pyright: ignore


@dataclass(frozen=True)
class HiddenTransfer:
    """Hidden transfer (Wu et al., 2024, arXiv:2404.12022).

    Before some block a linear map of the last real token's stream takes the place of the stream
    of a token that is not there yet; it goes through the blocks that are left, and its output
    guesses a token further ahead. Later pseudo tokens see earlier ones, real ones see neither.
    Trained by the divergence from what the target says itself once it has read that far.

    Differs: when drafting, pseudo tokens also pass the blocks before theirs, where nobody looks
    at them.

    Attributes:
        blocks: The block before which each pseudo token begins, as shares of the depth; never
            less than that of the one before.
        decay: Weight of each depth in the loss, relative to the one before.
        places: Places of a text that a lesson cuts it at.
    """

    name: ClassVar[str] = "hidden_transfer"
    blocks: tuple[float, ...] = (0.2, 0.3, 0.4)
    decay: float = 0.8
    places: int = 32

    def __post_init__(self) -> None:
        told = self.blocks
        if not told or list(told) != sorted(told) or told[0] < 0 or told[-1] >= 1:
            raise ValueError(
                "hidden_transfer.blocks are shares of the target's depth in [0, 1), one for each "
                f"pseudo token, that do not decrease; got {told}."
            )
        comparing.check_decay(self.name, self.decay)
        if self.places < 1:
            raise ValueError(f"hidden_transfer.places must be at least 1, got {self.places}.")

    def module(self, network: Transformer) -> nn.Module:
        """Return maps that change nothing."""
        return Maps(network.config.hidden, len(self.blocks))

    def futures(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Futures:
        """See ``Foreseeing``."""
        length = len(self.blocks)
        places = comparing.cuts(inputs, self.places, length, key)
        step, base = probing.probe_step(places, inputs.shape[1], 1, length)
        like = next(network.parameters())
        memory = remember(network.config, len(inputs), step.sees.shape[-1], like)
        at = _numbers(self.blocks, network)
        real = probing.remembered(network, inputs, memory, at)
        streams = {
            block: real.taps[block].gather(1, base[..., None].expand(-1, -1, real.hidden.shape[-1]))
            for block in set(at)
        }

        def on_layer(number: int, h: Hidden) -> Hidden:
            if number not in streams:
                return h
            return _moved(module, at, number, (h, streams[number]), step.tokens)

        later = range(min(at), network.config.depth)
        with comparing.still(network):
            own = stepping.read(network, step, memory, on_layer, later)
            said = stepping.logits(network, own)
        guesses = said.unflatten(1, (places.shape[1], length))
        return comparing.compared(network, real.hidden, guesses, inputs, places)

    def lesson(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Lesson:
        """See ``Kind``."""
        return comparing.taught(self.futures(module, network, inputs, key), "law", self.decay)

    def drafter(self, module: nn.Module, network: Transformer) -> "TransferDrafter":
        """Return the drafter."""
        return TransferDrafter(Transfer(module, _numbers(self.blocks, network)))


@dataclass(frozen=True)
class Transfer:
    """What is done to the streams of a tree inside the target.

    Attributes:
        module: The maps.
        blocks: The block before which each is used.
    """

    module: nn.Module
    blocks: tuple[int, ...]

    def __call__(self, number: int, h: Hidden, tree: Tree) -> Hidden:
        """Return the streams before a block; those of real nodes stay as they are."""
        if number not in self.blocks:
            return h
        tokens = torch.where(tree.how == How.PROBE, tree.tokens, 0)
        base = torch.zeros_like(tree.tokens)
        for j, block in enumerate(self.blocks):
            if block == number:
                base = torch.where(tokens == -1 - j, probing.bases(tree, j + 1), base)
        real = h.gather(1, base[..., None].expand_as(h))
        return _moved(self.module, self.blocks, number, (h, real), tokens)


@dataclass(frozen=True)
class TransferDrafter:
    """Guesses by pseudo tokens inside the target, which ``fitted`` puts there.

    Attributes:
        transfer: The maps, and where they are used.
    """

    copies: ClassVar[bool] = False
    transfer: Transfer

    @property
    def taps(self) -> tuple[int, ...]:
        """None."""
        return ()

    def fitted(self, target: NetworkTarget) -> NetworkTarget:
        """Return the target with the maps in it.

        Raises:
            ValueError: It has another width or too few blocks.
        """
        width = next(self.transfer.module.parameters()).shape[-1]
        config = target.network.config
        if width != config.hidden or self.transfer.blocks[-1] >= config.depth:
            raise ValueError(
                f"these maps are for a target of width {width} and more than "
                f"{self.transfer.blocks[-1]} blocks, and this one has width {config.hidden} and "
                f"{config.depth}; use maps trained for this target."
            )
        return replace(target, insert=self.transfer)

    def open(self, target: Target, rows: int) -> Drafting:
        """Return the drafting of empty texts.

        Raises:
            ValueError: The target was not prepared for it.
        """
        if not isinstance(target, NetworkTarget) or target.insert is not self.transfer:
            raise ValueError(
                "this target has none of the drafter's maps in it; give prepared(target, drafter)."
            )
        length = len(self.transfer.blocks)
        device = next(target.network.parameters()).device
        ahead = Ahead.unknown(rows, length, target.vocab_size, device)
        return probing.opened(1, length, target.max_length, ahead)


def _numbers(shares: tuple[float, ...], network: Transformer) -> tuple[int, ...]:
    return tuple(int(share * network.config.depth) for share in shares)


def _moved(
    module: nn.Module,
    blocks: tuple[int, ...],
    number: int,
    streams: tuple[Hidden, Hidden],
    tokens: Int[Tensor, "B M"],
) -> Hidden:
    """Return the streams with those of the pseudo tokens that begin before this block.

    Args:
        module: The maps.
        blocks: The block of each.
        number: The block that is next.
        streams: Of every token, and of the real one that each pseudo token is behind.
        tokens: -1 - j at pseudo token j.
    """
    h, real = streams
    for j, (block, one) in enumerate(zip(blocks, module.maps, strict=True)):  # pyright: ignore
        if block == number:
            pseudo = one(real.to(one.weight.dtype)).to(h.dtype)
            h = torch.where((tokens == -1 - j)[..., None], pseudo, h)
    return h

"""Heads on the target's last state that guess two, three and more tokens ahead."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.drafters import futures as comparing
from unison.drafters.ahead import Ahead, last_node
from unison.drafters.futures import Futures, Learns
from unison.drafters.kind import Lesson, watched
from unison.models.layers import Hidden
from unison.models.transformer import Transformer
from unison.prob.rng import Key
from unison.speculation.parts import Drafting, Guess, Outcome, Plan, Scores, Target, Text
from unison.speculation.tree import Node, Nodes, Tree


class Head(nn.Module):
    """Residual blocks h + SiLU(W h), and an output layer of its own or none.

    It starts as the target's own prediction: W is zero, and the output layer a copy.
    """

    def __init__(self, network: Transformer, layers: int, own_output: bool) -> None:
        super().__init__()
        width = network.config.hidden
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        for layer in self.layers:
            for weight in layer.parameters():
                nn.init.zeros_(weight)
        self.output = None
        if own_output:
            self.output = _output_of(network)

    def forward(self, h: Hidden) -> Hidden:
        """Return what the output layer reads, in the precision of what it read."""
        state = h.to(self.layers[0].weight.dtype)  # pyright: ignore
        for layer in self.layers:
            state = state + F.silu(layer(state))
        return state.to(h.dtype)


class Heads(nn.Module):
    """One head for each depth.

    Args:
        network: The target.
        heads: K.
        layers: Residual blocks of each.
        own_output: Whether each has an output layer of its own.
    """

    def __init__(self, network: Transformer, heads: int, layers: int, own_output: bool) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(network, layers, own_output) for _ in range(heads))

    def forward(self, network: Transformer, h: Hidden) -> Float[Tensor, "B P K V"]:
        """Return the logits of each head."""
        said = []
        for head in self.heads:
            state = head(h)
            output = head.output
            said.append(network.logits(state) if output is None else output(state))  # pyright: ignore
        return torch.stack(said, dim=2).float()


@dataclass(frozen=True)
class Medusa:
    """Medusa-1 (Cai et al., 2024, arXiv:2401.10774): the target stays as it is.

    Differs: heads share the target's output layer unless told otherwise. With a large vocabulary
    an output layer is nearly all of a head's weights, more than a small corpus can teach, and all
    that a residual block has to learn is where the states of later tokens lie.

    Attributes:
        heads: Tokens guessed, from the second after the last one read.
        layers: Residual blocks of each head.
        own_output: Give each head an output layer of its own, at first a copy of the target's.
        learns: From the target's law, its likeliest token, or the text.
        decay: Weight of each depth in the loss, relative to the one before.
        places: Places of a text that a lesson looks at.
    """

    name: ClassVar[str] = "medusa"
    heads: int = 4
    layers: int = 1
    own_output: bool = False
    learns: Learns = "law"
    decay: float = 0.8
    places: int = 32

    def __post_init__(self) -> None:
        for name in ("heads", "layers", "places"):
            if getattr(self, name) < 1:
                raise ValueError(f"medusa.{name} must be at least 1, got {getattr(self, name)}.")
        comparing.check_decay(self.name, self.decay)

    def module(self, network: Transformer) -> nn.Module:
        """Return heads that all make the target's own prediction."""
        return Heads(network, self.heads, self.layers, self.own_output)

    def futures(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Futures:
        """See ``Foreseeing``."""
        hidden = watched(network, inputs).hidden
        places = comparing.cuts(inputs, self.places, self.heads, key)
        seen = hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[-1]))
        with comparing.still(network):
            guesses = module(network, seen)
        return comparing.compared(network, hidden, guesses, inputs, places)

    def lesson(
        self, module: nn.Module, network: Transformer, inputs: Int[Tensor, "B L"], key: Key
    ) -> Lesson:
        """See ``Kind``."""
        return comparing.taught(self.futures(module, network, inputs, key), self.learns, self.decay)

    def drafter(self, module: nn.Module, network: Transformer) -> "MedusaDrafter":
        """Return the drafter."""
        return MedusaDrafter(module, network, self.heads)


@dataclass(frozen=True)
class MedusaDrafter:
    """Guesses by trained heads.

    Attributes:
        module: The heads.
        network: The target they were trained for.
        heads: How many there are.
    """

    copies: ClassVar[bool] = False
    module: nn.Module
    network: Transformer
    heads: int

    @property
    def taps(self) -> tuple[int, ...]:
        """None: what the output layer reads is enough."""
        return ()

    def open(self, target: Target, rows: int) -> Drafting:
        """Return the drafting of empty texts.

        Raises:
            ValueError: The target has another vocabulary.
        """
        vocab_size = self.network.config.vocab_size
        if target.vocab_size != vocab_size:
            raise ValueError(
                f"these heads guess {vocab_size} tokens and the target has {target.vocab_size}; "
                "use heads trained for this target."
            )
        device = next(self.network.parameters()).device
        return MedusaDrafting(self, Ahead.unknown(rows, self.heads, vocab_size, device))


class MedusaDrafting:
    """Heads in the middle of a batch of texts; what they guess rests on the last state read."""

    def __init__(self, drafter: MedusaDrafter, ahead: Ahead) -> None:
        self.drafter, self.ahead = drafter, ahead

    def begin(self, text: Text, scores: Scores) -> None:
        """See ``Drafting``; a text of a begin token alone has no state yet."""
        if scores.hidden.shape[1] > 0:
            self._look(scores.hidden, (text.length - 2).clamp(min=0))
            self.ahead = self.ahead._replace(reach=self.ahead.reach * (text.length > 1))

    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """See ``Drafting``."""
        return self.ahead.guess(tree, frontier)

    def texts(self, plan: Plan) -> Int[Tensor, "B K D"]:
        """See ``Drafting``: none, as it guesses token by token."""
        device = self.ahead.reach.device
        return torch.zeros(len(plan.depth), 0, 0, dtype=torch.int64, device=device)

    def finish(self, tree: Tree) -> Tree:
        """Return the tree."""
        return tree

    def observe(self, outcome: Outcome) -> None:
        """Look at the state of the last node accepted."""
        self._look(outcome.scores.hidden, last_node(outcome))

    def keep(self, rows: Int[Tensor, " R"]) -> "MedusaDrafting":
        """See ``Drafting``."""
        return MedusaDrafting(self.drafter, self.ahead.keep(rows))

    @torch.inference_mode()
    def _look(self, hidden: Hidden, place: Node) -> None:
        seen = hidden.gather(1, place[:, None, None].expand(-1, -1, hidden.shape[-1]))
        said = self.drafter.module(self.drafter.network, seen)[:, 0]
        self.ahead = Ahead.of(said, torch.full_like(place, self.drafter.heads))


def _output_of(network: Transformer) -> nn.Linear:
    """Return a copy of a network's output layer."""
    if network.head is not None:
        return copy.deepcopy(network.head).requires_grad_(True)
    words = network.embed.weight[: network.config.vocab_size].detach()
    output = nn.Linear(words.shape[1], words.shape[0], bias=False, device=words.device)
    output.weight = nn.Parameter(words.clone())
    return output

"""May ranks that share a canvas stop waiting for each other? They hear of one another steps late.

What DistriFusion (Li et al., 2024, arXiv:2402.19481) does with patches of an image, done with runs
of positions of a text: after some steps in which all wait for each other, a rank computes its
positions at once, with the keys and values that the others had ``lag`` steps before, while those of
this step are under way. PCPP (2024, arXiv:2412.02962) lets attention see only a share of the
others' positions, the nearest, so that less is sent (``ratio``).

The canvas itself is known to all: every rank runs the strategy on the whole of it, and the last
hidden states are brought together, fresh, at the end of every evaluation. So all ranks draw the
same tokens, whatever they know late. What is late is what layers say of other ranks' positions: a
token written at one step is read there ``lag`` steps later. A text's steps differ by whole tokens,
where an image's differ by little noise, so what lateness costs must be measured for a model and a
number of steps (``benchmarks/many_devices.py``); with ``lag=0, ratio=1`` nothing is lost.

Ranks are processes (``ManyProcesses``) or imagined in one (``OneProcess``): the numbers and the
bytes are the same. Rows pass one at a time, each in its own length.

Bytes that arrive at a rank in one evaluation of a row: ``depth`` times 2 kv_heads head_dim for each
position it sees of others, and ``hidden`` for each position of others, times the entry's size.

Differs: there are no group norms to correct, and the paper's attention is not masked.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from unison.denoising import Question, answered, evaluated
from unison.models import Transformer
from unison.models.network import Call, Network, by_call
from unison.models.sight import at
from unison.models.view import View
from unison.process import Process
from unison.scale.attention import Canvas, Circle, cut
from unison.scale.context import unfit
from unison.scale.inference.around import OneProcess, Parts, Pending
from unison.scale.inference.positions import check, headless, whole_of
from unison.scale.plan import PlanError
from unison.types import Belief, Focus, Mask, Time, Tokens


@dataclass(frozen=True)
class LateContext:
    """What a rank knows of the positions of others.

    Attributes:
        ratio: The share of a canvas that attention sees on either side of a rank's own positions,
            the nearest first; 1 is all of it.
        lag: How many steps old it is; 0 waits for the others in every layer.
        warm: Steps of a row at the beginning at which it is fresh; the first one always is.
    """

    ratio: float = 1.0
    lag: int = 1
    warm: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"the ratio of context must be in [0, 1], got {self.ratio}.")
        if min(self.lag, self.warm) < 0:
            raise ValueError(
                f"lag and warm must be at least 0 steps, got {self.lag} and {self.warm}."
            )

    def denoiser(
        self,
        network: Network,
        process: Process,
        parts: Parts | None = None,
        valid: Mask | None = None,
    ) -> "LateDenoiser":
        """Return the denoiser of one batch, to be called step after step.

        Args:
            network: The same on every rank.
            process: What it undoes.
            parts: Who holds which positions; ``None`` imagines two ranks in this process.
            valid: False at padding; ``None`` if there is none.

        Raises:
            PlanError: The network cannot be called with parts of canvases.
        """
        parts = OneProcess() if parts is None else parts
        whole = whole_of(network)
        reason = unfit(whole.config, parts.count, "ring")
        if reason is not None:
            raise PlanError(reason)
        lengths = None if valid is None else tuple(valid.sum(1).tolist())
        return LateDenoiser(_OnParts(whole, _Said(self, parts)), process, lengths)


@dataclass
class _Row:
    """What parts said of late about one row.

    Attributes:
        step: Evaluations so far.
        held: Of every layer, what was posted at the last of them.
    """

    step: int = 0
    held: dict[int, deque[Pending]] = field(default_factory=dict)

    def copy(self) -> "_Row":
        held = {layer: deque(some, some.maxlen) for layer, some in self.held.items()}
        return _Row(self.step, held)


class _Said:
    """What layers ask instead of the other positions; about one row at a time."""

    def __init__(self, context: LateContext, parts: Parts) -> None:
        self.context, self.parts = context, parts
        self.traffic: dict[str, int] = {"attention": 0, "answer": 0}
        self.row = _Row()
        self.canvas = Canvas(_imagined(parts.count), (0,))

    def begin(self, length: int, block: int | None) -> None:
        """Go on to the next evaluation of the row."""
        circle = _imagined(self.parts.count)
        self.canvas = Canvas(circle, cut(length, self.parts.count), block=block)
        self.row.step += 1

    def attended(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return what the queries of the parts held here find, [batch, positions, heads * width].

        Args:
            layer: Which attention it is.
            queries: Of those parts, one behind the other, [batch, heads, positions, width].
            keys: Likewise, with as many heads or fewer.
            values: As the keys.
        """
        both = torch.cat([keys, values], -1)
        around = self._heard(layer, both)
        spans = [self.canvas.part(part) for part in self.parts.own]
        lengths = [past - first for first, past in spans]
        found = []
        for number, (query, own) in enumerate(
            zip(queries.split(lengths, 2), both.split(lengths, 2), strict=True)
        ):
            before, behind = around[2 * number : 2 * number + 2]
            first, past = spans[number]
            columns = first - before.shape[2], past + behind.shape[2]
            told, said = torch.cat([before, own, behind], 2).chunk(2, -1)
            seen = self.canvas.mask(spans[number], columns, query.device)
            narrow = told.shape[1] != query.shape[1]
            found.append(
                F.scaled_dot_product_attention(query, told, said, attn_mask=seen, enable_gqa=narrow)
            )
        return torch.cat(found, 2).transpose(1, 2).flatten(2)

    def together(self, hidden: Tensor) -> Tensor:
        """Return the hidden states of the whole canvas, now."""
        whole, arriving = self.parts.everyone(hidden, self.canvas.cuts)
        self.traffic["answer"] += arriving
        return whole

    def _heard(self, layer: int, both: Tensor) -> tuple[Tensor, ...]:
        reach = round(self.context.ratio * self.canvas.length)
        pending = self.parts.around(both, self.canvas.cuts, reach)
        self.traffic["attention"] += pending.arriving
        empty: deque[Pending] = deque(maxlen=self.context.lag + 1)
        held = self.row.held.setdefault(layer, empty)
        held.append(pending)
        return held[-1 if self.row.step <= self.context.warm else 0].wait()


class _OnParts:
    """A network that computes the positions held here, and answers for the whole canvas."""

    def __init__(self, network: Transformer, said: _Said) -> None:
        self.network, self.said, self.config = network, said, network.config
        self._part = headless(network)
        for layer, block in enumerate(self._part.blocks):
            attention: Any = block.attention
            attention.attended = _asking(said, layer)

    def parameters(self) -> Any:
        """Return the weights."""
        return self.network.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name."""
        return self.network.state_dict()

    @by_call
    def __call__(self, call: Call) -> Float[Tensor, "B F V"]:
        """Return what the network answers, as far as parts know of each other."""
        told, view = check(call)  # a row comes without its padding
        block = {"causal": 1}.get(self.config.attention, self.config.block_length)
        self.said.begin(told.shape[1], block)
        spans = [self.said.canvas.part(part) for part in self.said.parts.own]
        place = torch.cat([torch.arange(*span, device=told.device) for span in spans])
        here = View(positions=place.expand(len(told), -1))
        whole = self.said.together(self._part(told[:, place], call.sigma, view=here))
        return self.network.logits(whole if view.read is None else at(whole, view.read))


class LateDenoiser:
    """The belief of a network whose positions several ranks compute, hearing of each other late.

    It remembers: one denoiser serves one batch, call after call, rows in the same order. Ranks that
    share canvases make the same calls.

    Attributes:
        network: Computes the positions held here.
        process: What it undoes.
        lengths: Positions of each row; ``None`` where no row has padding.
    """

    def __init__(
        self,
        network: _OnParts,
        process: Process,
        lengths: Sequence[int] | None,
        rows: Sequence[_Row] | None = None,
    ) -> None:
        self.network, self.process, self.lengths = network, process, lengths
        self._rows = None if rows is None else list(rows)

    @property
    def traffic(self) -> Mapping[str, int]:
        """Bytes that arrived at the parts held here, for ``attention`` and for the ``answer``."""
        return self.network.said.traffic

    def keep(self, rows: Int[Tensor, " R"]) -> "LateDenoiser":
        """Return the denoiser of some rows, by number, with its own copy of what was said."""
        numbers = rows.tolist()
        lengths = None if self.lengths is None else [self.lengths[n] for n in numbers]
        kept = None if self._rows is None else [self._rows[n].copy() for n in numbers]
        return LateDenoiser(self.network, self.process, lengths, kept)

    def finish(self) -> None:
        """Wait for what is still under way; call it before processes part."""
        for row in self._rows or ():
            for held in row.held.values():
                for pending in held:
                    pending.wait()

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        """Return the belief everywhere, or what the network itself says at ``focus``.

        Raises:
            ValueError: The batch is not the one remembered.
        """
        del earlier  # of self-conditioned networks, which are refused
        if self._rows is None:
            self._rows = [_Row() for _ in range(len(xt))]
        if len(self._rows) != len(xt):
            raise ValueError(
                f"this denoiser remembers {len(self._rows)} rows and was given {len(xt)}; make one "
                "for each batch, and keep(rows) to go on with some of its rows."
            )
        answers = [self._answer(n, xt[n : n + 1], t[n : n + 1], focus) for n in range(len(xt))]
        return torch.cat(answers)

    def _answer(self, number: int, xt: Tensor, t: Tensor, focus: Focus | None) -> Tensor:
        assert self._rows is not None
        self.network.said.row = self._rows[number]
        length = xt.shape[1] if self.lengths is None else self.lengths[number]
        noisy = xt[:, :length], t
        if focus is None:
            said = evaluated(self.network, self.process, [Question(noisy)])[0]
            return F.pad(said, (0, 0, 0, xt.shape[1] - length))
        here = slice(number, number + 1)
        view = View(read=focus.positions[here], block=focus.block[here])
        return answered(self.network, self.process, [Question(noisy, None, view)])[0]


def _asking(said: _Said, layer: int) -> Callable[[Tensor, Tensor, Tensor, Any], Tensor]:
    """Return what a layer calls in place of its own attention."""

    def attended(queries: Tensor, keys: Tensor, values: Tensor, mask: Any) -> Tensor:
        del mask  # it speaks of the positions held here
        return said.attended(layer, queries, keys, values)

    return attended


def _imagined(count: int) -> Circle:
    """Return a circle whose members are looked at from outside."""
    return Circle(tuple(range(count)), 0)

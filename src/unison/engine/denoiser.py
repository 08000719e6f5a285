"""How does a network answer when most of its positions are remembered?"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from unison.denoising import Question, answered, evaluated
from unison.engine import grouping, prefixes, state
from unison.engine.grouping import Group
from unison.engine.policy import Policy
from unison.engine.prefixes import Prefixes
from unison.engine.state import State
from unison.engine.tally import Tally
from unison.models import KeyValues, Network, View, remember
from unison.process import Process, Sequential
from unison.types import Belief, Focus, Mask, Time, Tokens


class CachedDenoiser:
    """The belief of a network that computes only what a policy calls stale.

    It remembers: one denoiser serves one batch, call after call, rows in the same order. What it
    decides depends on the row alone, and so do the shapes of the row's matrices: on a CPU each
    row passes through the network by itself; on a GPU rows with about as many positions to
    compute do together, which costs one wait for the device.

    Attributes:
        network: Noisy tokens and noise level in, logits out; one that can take ``View.compute``.
        process: What the network was trained to undo.
        policy: Which positions are computed.
        valid: False at padding, which is never computed; ``None`` if there is none.
        tally: What was computed so far, shared with the denoisers ``keep`` makes.
        prefixes: Beginnings of texts shared with other batches of the network; ``None`` for none.
    """

    def __init__(
        self,
        network: Network,
        process: Process,
        policy: Policy,
        valid: Mask | None = None,
        prefixes: Prefixes | None = None,
    ) -> None:
        if prefixes is not None and not policy.exact_under_revision:
            raise ValueError(
                f"shared prefixes go with a cache that never differs from none, and "
                f"{type(policy).__name__} does; use cache 'exact'."
            )
        self.network, self.process, self.policy, self.valid = network, process, policy, valid
        self.prefixes = prefixes
        self.tally = Tally()
        self._state: State | None = None
        self._names: list[int] | None = None  # of the rows, in the first batch

    def keep(self, rows: Int[Tensor, " R"]) -> "CachedDenoiser":
        """Return a denoiser of some of the rows, by number, with its own copy of the memory."""
        valid = None if self.valid is None else self.valid[rows]
        kept = CachedDenoiser(self.network, self.process, self.policy, valid, self.prefixes)
        numbers = rows.tolist()
        kept.tally = self.tally
        kept._names = numbers if self._names is None else [self._names[row] for row in numbers]
        kept._state = None if self._state is None else self._state.keep(rows)
        return kept

    def joined(
        self,
        parts: "Sequence[CachedDenoiser]",
        canvases: Sequence[Tokens],
        valid: Mask | None,
        length: int,
    ) -> "CachedDenoiser":
        """Return the denoiser of the rows of several, itself among them, with what they remember.

        Args:
            parts: Of the same network and policy.
            canvases: What each would be asked about next.
            valid: Of the rows together.
            length: Canvas positions they have then.
        """
        whole = CachedDenoiser(self.network, self.process, self.policy, valid, self.prefixes)
        if any(part._state is not None for part in parts):
            states = [
                part._before(tokens).stretched(length)
                for part, tokens in zip(parts, canvases, strict=True)
            ]
            whole._state = state.stacked(states)
        return whole

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        """Return the belief everywhere, or what the network itself says at ``focus``.

        Raises:
            ValueError: The batch is not the one remembered, or the policy works by the active
                block and no focus names it.
        """
        if focus is None and self.policy.blocks:
            raise ValueError(
                f"{type(self.policy).__name__} works by the active block, which this strategy "
                "does not name; use one that writes block by block, or cache 'none'."
            )
        before = self._before(xt)
        now = state.standing(before, xt, focus, self.process, self.network.config)
        valid = torch.ones_like(now.undecided) if self.valid is None else self.valid
        stale = (self.policy.stale(now) | now.needed) & valid
        groups = self._groups(stale, valid)
        asked = [self._asked(group, before, stale, (xt, t), focus, earlier) for group in groups]
        ask = evaluated if focus is None else answered
        answers = ask(self.network, self.process, asked)
        for group, question in zip(groups, asked, strict=True):
            memory = cast(KeyValues, cast(View, question.view).memory)
            grouping.give_back(before.memory, memory, group.rows)
        if focus is None:
            answers = [
                self._everywhere(answer, question, xt)
                for answer, question in zip(answers, asked, strict=True)
            ]
        begins = self._state is None
        self._state = before.after(now, stale, self._told(stale, focus, earlier))
        if begins and self.prefixes is not None:
            prefixes.keep(self._state, self.prefixes)
        return grouping.in_order(answers, groups)

    def _before(self, xt: Tokens) -> State:
        """Return what is remembered."""
        if self._state is None:
            like = next(self.network.parameters())
            # Attention on a GPU reads keys and values in bfloat16, whatever the weights are.
            like = like.new_empty(0, dtype=torch.bfloat16 if xt.is_cuda else like.dtype)
            rows, length = xt.shape
            memory = remember(self.network.config, rows, length, like)
            return self._seeded(state.first(memory, self.process.settled(xt)), xt)
        if self._state.seen.shape != xt.shape:
            raise ValueError(
                f"this denoiser remembers a batch of shape {tuple(self._state.seen.shape)} and "
                f"was given {tuple(xt.shape)}; make one for each batch, and keep(rows) to go on "
                "with some of its rows."
            )
        return self._state

    def _seeded(self, before: State, xt: Tokens) -> State:
        """Return a first state with what the store remembers of each row's beginning."""
        if self.prefixes is None:
            return before
        inputs = self.process.shifted(xt) if isinstance(self.process, Sequential) else xt
        return prefixes.seeded(before, inputs, self.valid, self.prefixes)

    def _groups(self, stale: Mask, valid: Mask) -> list[Group]:
        """Divide the rows and count their work: the one place where the host waits."""
        computed, lengths = torch.stack([stale.sum(1), valid.sum(1)]).tolist()
        self._names = list(range(len(computed))) if self._names is None else self._names
        for name, count, length in zip(self._names, computed, lengths, strict=True):
            self.tally.add(name, count, length)
        if stale.is_cuda:
            return grouping.alike(computed, lengths, stale.shape[1])
        return grouping.alone(computed, lengths)

    def _asked(  # what a network takes
        self,
        group: Group,
        before: State,
        stale: Mask,
        noisy: tuple[Tokens, Time],
        focus: Focus | None,
        earlier: Tensor | None,
    ) -> Question:
        """Return what a group is asked; it remembers what is computed."""
        rows = torch.tensor(group.rows, device=stale.device)
        xt, t = noisy[0][rows, : group.length], noisy[1][rows]
        compute = None if group.width is None else grouping.gathered(stale[rows], group.width)
        memory = grouping.borrowed(before.memory, group.rows)
        if focus is None:
            view = View(compute, compute, memory)
        else:
            view = View(focus.positions[rows], compute, memory, block=focus.block[rows])
        valid = None if self.valid is None or not xt.is_cuda else self.valid[rows]
        told = None if earlier is None else earlier[rows]
        return Question((xt, t), valid, view, told)

    def _everywhere(self, answer: Tensor, question: Question, xt: Tokens) -> Tensor:
        """Return the belief on the whole canvas."""
        compute = cast(View, question.view).compute
        if compute is not None:
            answer = self._spread(answer, compute, question.noisy[0])
        return F.pad(answer, (0, 0, 0, xt.shape[1] - answer.shape[1]))

    def _spread(self, said: Tensor, compute: Tensor, xt: Tensor) -> Tensor:
        """Return the belief everywhere from that at the computed positions: the rest is certain."""
        whole = said.new_zeros(*xt.shape, said.shape[-1])
        whole = whole.scatter(1, compute[..., None].expand(said.shape), said)
        return self.process.log_x0(whole, xt)

    def _told(self, stale: Mask, focus: Focus | None, earlier: Belief | None) -> Mask:
        """Return True where an earlier belief went into what is now remembered."""
        if not self.network.config.self_conditioning:
            return torch.zeros_like(stale)
        if focus is None or earlier is None:
            return stale
        return torch.zeros_like(stale).scatter(1, focus.positions, True)

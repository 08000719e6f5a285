"""How do many requests share one model? All advance a token at a time; they come and go freely."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from unison.engine import prefixes as beginnings
from unison.engine.prefixes import Prefixes
from unison.engine.reading import NetworkTarget
from unison.engine.slots import Slots
from unison.models import KeyValues, remember, stepping
from unison.models.stepping import Step
from unison.speculation.choosing import Keyed
from unison.speculation.policies.plain import Plain, Tempered


@dataclass(frozen=True)
class Request:
    """One text to write.

    Attributes:
        inputs: What is given, the begin token first.
        room: Most tokens to write.
        seed: Its random stream.
        ends: Tokens that end it.
        policy: Temperature and truncation.
    """

    inputs: tuple[int, ...]
    room: int
    seed: int = 0
    ends: tuple[int, ...] = ()
    policy: Plain = field(default_factory=Plain)

    def __post_init__(self) -> None:
        if not self.inputs or self.room < 1:
            raise ValueError(
                "a request has at least one input, the begin token, and room for at least one "
                f"token, got {len(self.inputs)} inputs and room for {self.room}."
            )


class Said(NamedTuple):
    """One token of one request.

    Attributes:
        request: Its number.
        token: What was written.
        done: Whether the text ends with it.
        probability: What it had under the policy.
    """

    request: int
    token: int
    done: bool
    probability: float


class _Running(NamedTuple):
    asked: Request
    last: int
    written: int


class Flow:
    """Requests that share every evaluation of a model (token-level continuous batching).

    Temporal fusion (Flover, Yao et al., 2023, arXiv:2305.13484; iteration-level scheduling, Orca,
    Yu et al., 2022): a request joins at the next iteration after its prompt was read, all live
    requests advance by one token per iteration in one evaluation, and each leaves as soon as it
    is done. Memory is one buffer of slots, as large as it had to be so far; the live ones are a
    slice of it.

    Law: each request's own, whatever else runs: its random numbers are named by its seed and its
    place in the text, its keys and values are its own.

    Args:
        target: The model.
        slots: Requests that run at once; others wait in the order they came.
        room: Inputs of the longest request, prompt and answer.
        prefixes: Beginnings of prompts that need not be read again; ``None`` for none.
    """

    def __init__(
        self,
        target: NetworkTarget,
        slots: int = 16,
        room: int | None = None,
        prefixes: Prefixes | None = None,
    ) -> None:
        self.target, self.prefixes = target, prefixes
        self.room = target.max_length if room is None else min(room, target.max_length)
        self._slots = Slots(slots)
        self._running: dict[int, _Running] = {}
        self._waiting: deque[tuple[int, Request]] = deque()
        self._next = 0
        like = next(target.network.parameters())
        self._memory = remember(target.network.config, 1, 1, like)
        self._device = like.device

    def submit(self, request: Request) -> int:
        """Queue a request and return its number.

        Raises:
            ValueError: It is longer than the memory of a slot.
        """
        need = len(request.inputs) + request.room - 1  # the last token is never read
        if need > self.room:
            raise ValueError(
                f"the request needs {need} inputs and a slot holds {self.room}; shorten it or make "
                f"a flow with more room (at most {self.target.max_length})."
            )
        self._waiting.append((self._next, request))
        self._next += 1
        return self._next - 1

    def cancel(self, request: int) -> None:
        """Drop a request, waiting or running, before the next iteration; others go on."""
        self._waiting = deque(one for one in self._waiting if one[0] != request)
        if request in self._running:
            self._leave(request)

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._waiting or self._running)

    @torch.no_grad()
    def advance(self) -> list[Said]:
        """Let waiting requests join, then write one token of each running one."""
        while self._waiting and self._slots.free:
            self._join(*self._waiting.popleft())
        if not self._running:
            return []
        names = self._slots.requests
        tokens, sure = self._drawn(names, self._logits(names))
        said = []
        for name, token, one in zip(names, tokens, sure, strict=True):
            now = self._running[name]
            written = now.written + 1
            done = token in now.asked.ends or written == now.asked.room
            said.append(Said(name, token, done, one))
            self._running[name] = _Running(now.asked, token, written)
            if done:
                self._leave(name)
        return said

    def _join(self, name: int, asked: Request) -> None:
        """Read a prompt, all but its last input, into a slot of its own."""
        slot = self._slots.join(name)
        prompt = asked.inputs[:-1]
        self._reserve(slot + 1, len(prompt) + asked.room)
        memory = self._part(slot, slot + 1)
        known = self._known(prompt, memory)
        if prompt[known:]:
            tokens = torch.tensor([prompt[known:]], device=self._device)
            every = torch.arange(len(prompt), device=self._device)
            place = every[known:]
            step = Step(tokens, place[None], place[None], (every <= place[:, None])[None])
            stepping.read(self.target.network, step, memory)
        if self.prefixes is not None:
            self.prefixes.keep(prompt, memory)
        self._running[name] = _Running(asked, asked.inputs[-1], 0)

    def _known(self, prompt: tuple[int, ...], memory: KeyValues) -> int:
        """Write what is remembered of a prompt into a memory; return how many inputs that is."""
        found, known = (0, None) if self.prefixes is None else self.prefixes.find(prompt)
        if known is not None:
            beginnings.write(memory, known, 0)
        return found

    def _leave(self, name: int) -> None:
        del self._running[name]
        for source, goal in self._slots.leave(name):
            for part in (*self._memory.keys, *self._memory.values):
                part[goal] = part[source]

    def _reserve(self, slots: int, room: int) -> None:
        """Make the memory hold as much; it grows by doubling, up to all slots and all room."""
        have = self._memory.keys[0].shape
        rows = have[0] if slots <= have[0] else min(max(slots, 2 * have[0]), self._slots.size)
        length = have[2] if room <= have[2] else min(max(room, 2 * have[2]), self.room)
        more = (0, 0, 0, length - have[2], 0, 0, 0, rows - have[0])
        if any(more):
            self._memory = KeyValues(
                *(tuple(F.pad(one, more) for one in part) for part in self._memory)
            )

    def _part(self, first: int, past: int) -> KeyValues:
        return KeyValues(*(tuple(one[first:past] for one in part) for part in self._memory))

    def _logits(self, names: Sequence[int]) -> Tensor:
        """Return what the model says after the last token of each running request."""
        now = [self._running[name] for name in names]
        tokens = torch.tensor([[one.last] for one in now], device=self._device)
        ends = [len(one.asked.inputs) + one.written - 1 for one in now]
        place = torch.tensor([[end] for end in ends], device=self._device)
        sees = torch.arange(max(ends) + 1, device=self._device) <= place[..., None]
        memory = self._part(*self._slots.window)
        network = self.target.network
        hidden = stepping.read(network, Step(tokens, place, place, sees), memory)
        return stepping.logits(network, hidden)

    def _drawn(self, names: Sequence[int], logits: Tensor) -> tuple[list[int], list[float]]:
        """Return the token of each request and its probability; one policy's are drawn together."""
        now = [self._running[name] for name in names]
        tokens = torch.zeros(len(now), dtype=torch.int64, device=self._device)
        sure = torch.zeros(len(now), device=self._device)
        for policy in {one.asked.policy for one in now}:
            rows = [i for i, one in enumerate(now) if one.asked.policy == policy]
            some = torch.tensor(rows, device=self._device)
            seed = torch.tensor([now[i].asked.seed for i in rows], device=self._device)
            written = torch.tensor([now[i].written for i in rows], device=self._device)
            zero = torch.zeros_like(some)
            logp = Tempered(policy, logits[some]).at(zero)
            drawn = Keyed(seed, zero, written).write(logp, zero, zero == 0)
            tokens[some] = drawn
            sure[some] = logp.gather(1, drawn[:, None])[:, 0].exp().float()
        return tokens.tolist(), sure.tolist()


def fused(target: NetworkTarget, requests: Sequence[Request], slots: int = 16) -> Iterator[Said]:
    """Write all requests, and yield each token as it comes.

    Args:
        target: The model.
        requests: What to write; numbered from 0.
        slots: Requests that run at once.
    """
    room = max(len(one.inputs) + one.room for one in requests)
    flow = Flow(target, min(slots, len(requests)), room)
    for request in requests:
        flow.submit(request)
    while flow.busy:
        yield from flow.advance()

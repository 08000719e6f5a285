"""How do a network's logits become the belief that decoding reads, row by row?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from unison.models import Network, TransformerConfig, View
from unison.models.network import Call, answers
from unison.process import Absorbing, Process, Sequential
from unison.types import Belief, Focus, Mask, Time, Tokens

ROWS_ON_GPU = 16  # per forward; one row fills a CPU


@dataclass(frozen=True)
class RowDenoiser:
    """The belief p(x_0 | x_t) of a network about rows that never see each other.

    The network always runs on the same number of rows, the last group filled up with copies:
    matrix kernels round differently for different shapes, and a row must not see its batch. On a
    CPU that is one row of exactly its own length. A self-conditioned network that is given no
    earlier belief is called twice: the second call reads the first's answer.

    Attributes:
        network: Noisy tokens and noise level in, logits out.
        process: What the network was trained to undo.
        valid: False at padding, which then influences nothing; ``None`` if there is none.
    """

    network: Network
    process: Process
    valid: Mask | None = None

    def keep(self, rows: Tensor) -> "RowDenoiser":
        """Return the denoiser of some of the rows, by number."""
        return replace(self, valid=None if self.valid is None else self.valid[rows])

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        """Return the belief everywhere, or what the network itself says at ``focus``."""
        view = None if focus is None else View(read=focus.positions, block=focus.block)
        asked = [self._asked(rows, xt, t, view, earlier) for rows in _groups(len(xt), xt.device)]
        if view is None:
            answers = evaluated(self.network, self.process, asked)
            answers = [F.pad(one, (0, 0, 0, xt.shape[1] - one.shape[1])) for one in answers]
        else:
            answers = answered(self.network, self.process, asked)
        whole = answers[0] if len(answers) == 1 else torch.cat(answers)  # cat copies even one
        return whole[: len(xt)]

    def shadow(self, xt: Tokens, t: Time, focus: Focus) -> tuple[Belief, Belief]:
        """Return the belief at ``focus``, and the belief there that leaves the own token out.

        For each position of ``focus`` a masked input is appended at the same place, a shadow
        (WINO, arXiv:2507.18578): no token sees a shadow; a shadow sees every token but the one it
        stands for, and the other shadows. A self-conditioned network is called twice.

        Raises:
            ValueError: The process has no mask, or the network's answers stand one position off.
        """
        if not isinstance(self.process, Absorbing):
            raise ValueError(
                f"a shadow is a mask beside a token, and the {type(self.process).__name__} process "
                "has no mask; use a revision without shadows."
            )
        if self.network.config.shifted:
            raise ValueError(
                "this checkpoint answers about a position at the one before it, where no shadow "
                "stands; use a revision without shadows."
            )
        groups = _groups(len(xt), xt.device)
        asked = [self._shadows(rows, self.process.mask_id, (xt, t), focus) for rows in groups]
        answers = evaluated(self.network, self.process, [question for question, _ in asked])
        pairs = [
            _seen_and_unseen(answer, copies)
            for answer, (_, copies) in zip(answers, asked, strict=True)
        ]
        seen, unseen = (torch.cat(part)[: len(xt)] for part in zip(*pairs, strict=True))
        return seen, unseen

    def _shadows(
        self, rows: Tensor, mask_id: int, noisy: tuple[Tensor, Tensor], focus: Focus
    ) -> "tuple[Question, Tensor | None]":
        """Return what to ask of a group, and the number of each place among distinct ones."""
        xt, t = noisy
        valid = None if self.valid is None else self.valid[rows]
        length, valid = _trimmed(xt.shape[1], valid)
        places, copies = focus.positions[rows], None
        if not places.is_cuda:  # one row, each position once
            distinct, copies, _ = _distinct(places[0])
            places = distinct[None]
        masks = torch.full_like(places, mask_id)
        if valid is not None:
            valid = torch.cat([valid, torch.ones_like(places, dtype=torch.bool)], dim=1)
        view = _shadowed(self.network.config, length, places)._replace(block=focus.block[rows])
        inputs = torch.cat([xt[rows, :length], masks], dim=1), t[rows]
        return Question(inputs, valid, view), copies

    def _asked(
        self, rows: Tensor, xt: Tokens, t: Time, view: View | None, earlier: Tensor | None
    ) -> "Question":
        valid = None if self.valid is None else self.valid[rows]
        length, valid = _trimmed(xt.shape[1], valid)
        noisy = xt[rows, :length], t[rows]
        known = None if earlier is None else earlier[rows]
        return Question(noisy, valid, None if view is None else view_of(view, rows), known)


def _seen_and_unseen(answer: Tensor, copies: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the answers of tokens and those of their shadows, repeated where places were."""
    seen, unseen = answer.split(answer.shape[1] // 2, dim=1)
    return (seen, unseen) if copies is None else (seen[:, copies], unseen[:, copies])


class Question(NamedTuple):
    """What is asked about a group of rows.

    Attributes:
        noisy: x_t and its time.
        valid: False at padding.
        view: What is computed and read; without ``read`` the answer is p(x_0 | x_t) of the whole
            canvas, with it what the network itself says at those positions.
        earlier: An earlier belief at the positions read.
    """

    noisy: tuple[Tokens, Time]
    valid: Mask | None = None
    view: View | None = None
    earlier: Belief | None = None


def answered(network: Network, process: Process, asked: Sequence[Question]) -> list[Belief]:
    """Return ``evaluated`` questions that read; a CPU's one row answers at no position twice."""
    once, copies = [], []
    for question in asked:
        view = cast(View, question.view)
        if view.read is None or view.read.is_cuda:
            once.append(question)
            copies.append(None)
            continue
        read, number, place = _distinct(view.read[0])
        if torch.equal(read, view.read[0]):  # each once and in order: nothing to copy
            once.append(question)
            copies.append(None)
            continue
        earlier = None if question.earlier is None else question.earlier[:, place]
        once.append(question._replace(view=view._replace(read=read[None]), earlier=earlier))
        copies.append(number)
    answers = evaluated(network, process, once)
    return [
        answer if number is None else answer[:, number]
        for answer, number in zip(answers, copies, strict=True)
    ]


def _shadowed(config: TransformerConfig, length: int, places: Tensor) -> View:
    """Return the view of a canvas with shadows appended: the canvas's answers, then theirs.

    Args:
        config: Says who sees whom among tokens.
        length: Positions of the canvas.
        places: Where the shadows stand, [B, F]. Of two at one place the second is seen by none.
    """
    rows, count = places.shape
    canvas = torch.arange(length, device=places.device).expand(rows, -1)
    where = torch.cat([canvas, places], dim=1)
    rank = where // (config.block_length or 1)
    if config.attention == "bidirectional":
        rank = torch.zeros_like(where)
    again = (places[:, :, None] == places[:, None, :]).tril(-1).any(-1)
    shadow = torch.arange(length + count, device=places.device) >= length
    behind = F.pad(~again, (length, 0))[:, None, :] & shadow[:, None]
    mine = shadow[:, None] & (where[:, :, None] == where[:, None, :])
    seen = (~shadow & ~mine) | behind
    index = torch.arange(count, device=places.device).expand(rows, -1)
    return View(
        read=torch.cat([places, length + index], dim=1),
        positions=where,
        mask=seen & (rank[:, :, None] >= rank[:, None, :]),
    )


def view_of(view: View, rows: Tensor) -> View:
    """Return the view of some of the rows; it must not hold a memory."""
    return View(*(None if part is None else part[rows] for part in view))  # pyright: ignore


def _trimmed(length: int, valid: Mask | None) -> tuple[int, Mask | None]:
    """Return how much of a group to compute, and what of it is padding.

    On a CPU a group is one row, and its padding is left away; on a GPU cutting to the longest row
    would have to wait for the device.
    """
    if valid is None or valid.is_cuda:
        return length, valid
    return int(valid.sum()), None


def _distinct(read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each position once, the number of each among these, and where each stands in ``read``.

    A short row repeats a position until it is as long as the others of its batch; computing it
    once more would let it see them in its rounding.
    """
    distinct, number = read.unique(return_inverse=True)
    place = torch.arange(len(read))
    return distinct, number, torch.zeros_like(distinct).scatter(0, number, place)


def _groups(rows: int, device: torch.device) -> tuple[Tensor, ...]:
    """Return row numbers in groups of exactly the same size, the last filled up with row 0."""
    size = 1 if device.type == "cpu" else ROWS_ON_GPU
    numbers = torch.arange(rows, device=device)
    return torch.cat([numbers, numbers.new_zeros(-rows % size)]).split(size)


@torch.no_grad()
def evaluated(network: Network, process: Process, asked: Sequence[Question]) -> list[Belief]:
    """Return the answer to each question; a network that likes to hears them together.

    Args:
        network: Answers.
        process: What it undoes.
        asked: Each is evaluated on exactly its rows.
    """
    device = asked[0].noisy[0].device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        logits = _logits(network, [_call(process, question) for question in asked])
    return [
        process.log_x0(said, question.noisy[0])
        if question.view is None or question.view.read is None
        else process.belief(said)
        for said, question in zip(logits, asked, strict=True)
    ]


def evaluate(
    network: Network,
    process: Process,
    noisy: tuple[Tokens, Time],
    valid: Mask | None = None,
    view: View | None = None,
    earlier: Belief | None = None,
) -> Belief:
    """Return one evaluation of exactly these rows; arguments as in ``Question``."""
    return evaluated(network, process, [Question(noisy, valid, view, earlier)])[0]


def _call(process: Process, question: Question) -> Call:
    xt, t = question.noisy
    if isinstance(process, Sequential):
        inputs, sigma = process.shifted(xt), t.float()
    else:
        inputs, sigma = xt, -process.schedule.alpha(t.double()).log().float()
    return Call(inputs, sigma, question.valid, question.earlier, question.view)


def _logits(network: Network, calls: Sequence[Call]) -> list[Tensor]:
    """Return the answers; a self-conditioned network without an earlier belief is asked twice."""
    if not network.config.self_conditioning:
        return answers(network, [call._replace(earlier=None) for call in calls])
    unread = [i for i, call in enumerate(calls) if call.earlier is None]
    firsts = answers(network, [_first(calls[i]) for i in unread]) if unread else []
    told = [_told(call) for call in calls]
    for i, first in zip(unread, firsts, strict=True):
        view = calls[i].view
        known = None if view is None else view._replace(known=view.compute)
        told[i] = calls[i]._replace(earlier=first.float().softmax(-1), view=known)
    return answers(network, told)


def _first(call: Call) -> Call:
    """Return the call whose answer a self-conditioned network then reads."""
    return call._replace(view=None if call.view is None else call.view._replace(read=None))


def _told(call: Call) -> Call:
    """Return the call with its earlier belief as probabilities."""
    if call.earlier is None:
        return call
    known = None if call.view is None else call.view._replace(known=call.view.read)
    return call._replace(earlier=call.earlier.exp(), view=known)

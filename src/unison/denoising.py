"""How do a network's logits become the belief that decoding reads, row by row?"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unison.models import Network, TransformerConfig, View
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
        answers = [self._group(rows, xt, t, view, earlier) for rows in _groups(len(xt), xt.device)]
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
        pairs = [
            self._shadows(rows, self.process.mask_id, (xt, t), focus)
            for rows in _groups(len(xt), xt.device)
        ]
        seen, unseen = (torch.cat(part)[: len(xt)] for part in zip(*pairs, strict=True))
        return seen, unseen

    def _shadows(
        self, rows: Tensor, mask_id: int, noisy: tuple[Tensor, Tensor], focus: Focus
    ) -> tuple[Tensor, Tensor]:
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
        answer = evaluate(self.network, self.process, inputs, valid, view)
        seen, unseen = answer.split(places.shape[1], dim=1)
        return (seen, unseen) if copies is None else (seen[:, copies], unseen[:, copies])

    def _group(
        self, rows: Tensor, xt: Tokens, t: Time, view: View | None, earlier: Tensor | None
    ) -> Tensor:
        valid = None if self.valid is None else self.valid[rows]
        length, valid = _trimmed(xt.shape[1], valid)
        noisy = xt[rows, :length], t[rows]
        known = None if earlier is None else earlier[rows]
        if view is None:
            answer = evaluate(self.network, self.process, noisy, valid, None, known)
            return F.pad(answer, (0, 0, 0, xt.shape[1] - length))
        return answered(self.network, self.process, noisy, valid, view_of(view, rows), known)


def answered(
    network: Network,
    process: Process,
    noisy: tuple[Tokens, Time],
    valid: Mask | None,
    view: View,
    earlier: Belief | None,
) -> Belief:
    """Return ``evaluate`` of one group of rows; a CPU's one row answers at no position twice."""
    if view.read is None or view.read.is_cuda:
        return evaluate(network, process, noisy, valid, view, earlier)
    read, copies, place = _distinct(view.read[0])
    earlier = None if earlier is None else earlier[:, place]
    once = view._replace(read=read[None])
    return evaluate(network, process, noisy, valid, once, earlier)[:, copies]


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
def evaluate(
    network: Network,
    process: Process,
    noisy: tuple[Tokens, Time],
    valid: Mask | None = None,
    view: View | None = None,
    earlier: Belief | None = None,
) -> Belief:
    """Return one evaluation of exactly these rows.

    Args:
        network: Answers.
        process: What it undoes.
        noisy: x_t and its time.
        valid: False at padding.
        view: What is computed and read; without ``read`` the answer is p(x_0 | x_t) of the whole
            canvas, with it what the network itself says at those positions.
        earlier: An earlier belief at the positions read.
    """
    xt, t = noisy
    if isinstance(process, Sequential):
        inputs, sigma = process.shifted(xt), t.float()
    else:
        inputs, sigma = xt, -process.schedule.alpha(t.double()).log().float()
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda):
        logits = _logits(network, inputs, sigma, valid, view, earlier)
    if view is None or view.read is None:
        return process.log_x0(logits, xt)
    return process.belief(logits)


def _logits(  # what a network takes
    network: Network,
    inputs: Tokens,
    sigma: Time,
    valid: Mask | None,
    view: View | None,
    earlier: Belief | None,
) -> Tensor:
    if not network.config.self_conditioning:
        return network(inputs, sigma, valid, None, view)
    if earlier is not None:
        known = None if view is None else view._replace(known=view.read)
        return network(inputs, sigma, valid, earlier.exp(), known)
    first = network(inputs, sigma, valid, None, None if view is None else view._replace(read=None))
    told = view if view is None else view._replace(known=view.compute)
    return network(inputs, sigma, valid, first.float().softmax(-1), told)

"""What does a model believe of texts that must obey a constraint, each row its own?"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.constrain.joint import Conditioned, Conditioner, Stretch
from unison.decode.api import Counted, Rowwise
from unison.decode.jointly import LAST_RESORT, Shape, Uniforms
from unison.prob import categorical
from unison.process import Process, Uniform
from unison.types import Belief, Denoiser, Focus, Shadowing, Time, Tokens


@dataclass(frozen=True)
class Bound:
    """A constraint of a row; a row may have several, of stretches that do not overlap.

    Attributes:
        conditioner: Knows the language.
        first: Where the constrained stretch begins on the canvas.
        hole: For each slot of it, the number of its hole; -1 where the token is given.
        others: Whether the row has open places of which no constraint speaks.
    """

    conditioner: Conditioner
    first: int
    hole: Int[np.ndarray, " N"]
    others: bool = False


@dataclass(frozen=True)
class ConstrainedDenoiser:
    """The belief of a denoiser, given that each row's text obeys its constraint.

    It remembers a way to finish each row: one denoiser serves one batch, rows in the same order.
    The automata run on the host, so a call waits for the device once.

    Attributes:
        denoise: What is conditioned.
        process: Says which tokens are settled.
        rows: The constraints of each row.
        keep: As in ``Rowwise``; ``None``, which to a protocol is none, where ``denoise`` cannot.
        shadow: As in ``Shadowing``, the first belief heard before it is conditioned; likewise.
        evaluations: As in ``Counted``; likewise.
    """

    denoise: Denoiser
    process: Process
    rows: tuple[tuple[Bound, ...], ...]
    keep: Callable[[Int[Tensor, " R"]], Denoiser] | None = field(init=False, repr=False)
    shadow: Callable[[Tokens, Time, Focus], tuple["Hearing", Belief]] | None = field(
        init=False, repr=False
    )
    evaluations: Callable[[], Int[Tensor, " B"]] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        can = {
            "keep": (Rowwise, self._keep),
            "shadow": (Shadowing, self._shadow),
            "evaluations": (Counted, self._evaluations),
        }
        for name, (kind, own) in can.items():
            object.__setattr__(self, name, own if isinstance(self.denoise, kind) else None)

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        """Return the marginals; the model's own belief where nothing is constrained."""
        return self.hear(xt, t, focus, earlier).under().marginals()

    def hear(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> "Hearing":
        """Return what the model says."""
        return Hearing(self, self.denoise(xt, t, focus, earlier), xt, focus)

    def _keep(self, rows: Int[Tensor, " R"]) -> "ConstrainedDenoiser":
        kept = tuple(self.rows[row] for row in rows.tolist())
        return replace(self, denoise=cast(Rowwise, self.denoise).keep(rows), rows=kept)

    def _shadow(self, xt: Tokens, t: Time, focus: Focus) -> tuple["Hearing", Belief]:
        said, unseen = cast(Shadowing, self.denoise).shadow(xt, t, focus)
        return Hearing(self, said, xt, focus), unseen

    def _evaluations(self) -> Int[Tensor, " B"]:
        return cast(Counted, self.denoise).evaluations()


@dataclass(frozen=True)
class Hearing:
    """What the model said of one canvas.

    Attributes:
        whose: Knows the constraints.
        said: By itself.
        xt: Of this canvas.
        focus: At these positions; ``None`` for all.
    """

    whose: ConstrainedDenoiser
    said: Belief
    xt: Tokens
    focus: Focus | None

    def under(self, shape: Shape | None = None) -> "Texts":
        """Return the law of texts under the belief, reshaped."""
        shaped = self.said if shape is None else shape(self.said)
        if shaped is self.said:
            return Texts(self, self.said)
        return Texts(self, torch.maximum(shaped, self.said - LAST_RESORT))

    @cached_property
    def stretches(self) -> list[list[tuple[Stretch, Int[Tensor, " O"]]]]:
        """The constrained slots of each row, and the columns that speak of open ones."""
        xt = self.xt.cpu().numpy()
        settled = self.whose.process.settled(self.xt).cpu().numpy()
        places = None if self.focus is None else self.focus.positions.cpu().numpy()
        if self.focus is not None and isinstance(self.whose.process, Uniform):
            # No token ever settles under this process, but those of finished blocks stay.
            start = self.focus.block[:, 0].cpu().numpy()
            settled = settled | (np.arange(xt.shape[1]) < start[:, None])
        return [
            [
                _stretch(bound, xt[i], settled[i], None if places is None else places[i])
                for bound in bounds
            ]
            for i, bounds in enumerate(self.whose.rows)
        ]


def _stretch(
    row: Bound, xt: np.ndarray, settled: np.ndarray, places: np.ndarray | None
) -> tuple[Stretch, Int[Tensor, " O"]]:
    part = slice(row.first, row.first + len(row.hole))
    open_ = (row.hole >= 0) & ~settled[part]
    column = np.full(len(xt), -1, dtype=np.int64)
    if places is None:
        column[:] = np.arange(len(xt))
    else:
        column[places[::-1]] = np.arange(len(places))[::-1]
    asked = np.where(open_, column[part], -1)
    heard = asked >= 0
    number = np.full(len(asked), -1, dtype=np.int64)
    number[heard] = np.arange(heard.sum())
    tokens = np.where(open_, -1, xt[part]).astype(np.int64)
    return Stretch(tokens, number, row.hole), torch.from_numpy(asked[heard])


@dataclass(frozen=True)
class Texts:
    """The law of each row's texts under one belief.

    Attributes:
        heard: Of this canvas.
        belief: Log-weights of tokens, of which rows under a constraint take those of open slots.
    """

    heard: Hearing
    belief: Belief

    @cached_property
    def laws(self) -> list[list[Conditioned]]:
        """The law of each constrained stretch, row by row."""
        return [
            [
                bound.conditioner.law(stretch, self._said(i, columns))
                for bound, (stretch, columns) in zip(bounds, slots, strict=True)
            ]
            for i, (bounds, slots) in enumerate(
                zip(self.heard.whose.rows, self.heard.stretches, strict=True)
            )
        ]

    def _said(self, row: int, columns: Int[Tensor, " O"]) -> Tensor:
        """Return the weights of a stretch's open slots."""
        said = self.belief[row]
        return said[columns.to(said.device)] if len(columns) < len(said) else said

    def marginals(self) -> Belief:
        """Return each position's own law; the belief itself where nothing is constrained."""
        if len(self.laws) == 1 and self._whole(0):
            return self.laws[0][0].marginals()[None].to(self.belief.dtype)
        answer = self.belief.clone()
        for i, (laws, slots) in enumerate(zip(self.laws, self.heard.stretches, strict=True)):
            for law, (_, columns) in zip(laws, slots, strict=True):
                answer[i, columns.to(answer.device)] = law.marginals().to(answer.dtype)
        return answer

    def _whole(self, row: int) -> bool:
        """Whether one law of a row speaks of every position heard, in order."""
        slots = self.heard.stretches[row]
        return len(slots) == 1 and len(slots[0][1]) == self.belief.shape[1]

    def draw(self, u: Uniforms) -> Int[Tensor, "B F"]:
        """Return one text of each row; independent tokens where nothing is constrained."""
        apart, host = self._taken(u[..., 1]), u.cpu().numpy()

        def tied(i: int, row: Bound, law: Conditioned) -> np.ndarray:
            return law.draw(host[i, row.first : row.first + len(row.hole)])

        return self._tokens(tied, lambda i: categorical.sample(self.belief[i], apart[i]))

    def likeliest(self) -> Int[Tensor, "B F"]:
        """Return the likeliest text of each row."""
        return self._tokens(
            lambda i, row, law: law.likeliest(), lambda i: self.belief[i].argmax(-1)
        )

    def _tokens(
        self,
        tied: Callable[[int, Bound, Conditioned], np.ndarray],
        apart: Callable[[int], Tensor],
    ) -> Int[Tensor, "B F"]:
        return torch.stack(
            [
                self._row(i, laws, tied, apart) if laws else apart(i)
                for i, laws in enumerate(self.laws)
            ]
        )

    def _row(
        self,
        i: int,
        laws: list[Conditioned],
        tied: Callable[[int, Bound, Conditioned], np.ndarray],
        apart: Callable[[int], Tensor],
    ) -> Int[Tensor, " F"]:
        """Return the tokens of a row under constraints: those of no stretch are drawn apart."""
        focus, whole = self.heard.focus, self.heard.xt[i].clone()
        bounds = self.heard.whose.rows[i]
        if any(bound.others for bound in bounds):
            places = slice(None) if focus is None else focus.positions[i]
            whole[places] = apart(i).to(whole.dtype)
            for bound in bounds:
                part = slice(bound.first, bound.first + len(bound.hole))
                whole[part] = self.heard.xt[i, part]
        for law, bound in zip(laws, bounds, strict=True):
            text = torch.as_tensor(tied(i, bound, law), device=whole.device)
            part = whole[bound.first : bound.first + len(text)]
            part.copy_(torch.where(text >= 0, text, part))
        return whole if focus is None else whole[focus.positions[i]]

    def _taken(self, values: Float[Tensor, "B L"]) -> Float[Tensor, "B F"]:
        focus = self.heard.focus
        return values if focus is None else values.gather(1, focus.positions)

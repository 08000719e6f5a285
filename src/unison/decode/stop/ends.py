"""Where does a text end? The first end token, and the rest of the row behind it."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.decode.sight import Verdict


def is_end(tokens: Int[Tensor, "*N"], eos_ids: tuple[int, ...]) -> Bool[Tensor, "*N"]:
    """Return True at tokens that end the text."""
    ends = torch.zeros_like(tokens, dtype=torch.bool)
    for end in eos_ids:  # one by one: a list of them would be sent to the device, and wait for it
        ends = ends | (tokens == end)
    return ends


def first(where: Bool[Tensor, "B L"]) -> Int[Tensor, " B"]:
    """Return the first marked position of each row; the length where there is none."""
    place = torch.arange(where.shape[1], device=where.device)
    return torch.where(where, place, where.shape[1]).amin(1)


def cut_after(
    position: Int[Tensor, " B"], length: int, block: Bool[Tensor, " B"], eos_ids: tuple[int, ...]
) -> Verdict:
    """Return that a row no longer matters behind a position; all of it does at ``length``."""
    cut = (position + 1).clamp(max=length)
    return Verdict(block, torch.zeros_like(block), cut, eos_ids[0] if eos_ids else -1)


def check(eos_ids: tuple[int, ...]) -> None:
    """Raise ValueError if these are no tokens."""
    if min(eos_ids, default=0) < 0:
        raise ValueError(f"eos_ids must be tokens, at least 0, got {eos_ids}.")

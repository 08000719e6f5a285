"""What DiffusionGemma writes, one row, restated from transformers' generation loop.

Every random number is an argument, so that two programs can be given the same ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Uniforms = Callable[[str, int, int], torch.Tensor]
"""(what for: ``start``, ``token`` or ``noise``; canvas; step, from 1; 0 for the start) to
uniforms of the canvas's length, float64."""


@dataclass(frozen=True)
class Settings:
    canvases: int = 1
    steps: int = 48
    bound: float = 0.1
    t_max: float = 0.8
    t_min: float = 0.4
    stable: int = 1
    confident: float = 0.005
    eos: tuple[int, ...] = ()
    pad: int | None = None


def tokens_at(u: torch.Tensor, size: int) -> torch.Tensor:
    """A uniform token where ``u`` says."""
    return (u * size).long()


def inverse(probs: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The token of each row of ``probs`` at ``u``."""
    running = probs.double().cumsum(-1)
    return torch.searchsorted(running / running[:, -1:], u[:, None], right=True)[:, 0]


def entropies(z: torch.Tensor) -> torch.Tensor:
    p = z.softmax(-1)
    return -torch.where(p > 0, p * z.log_softmax(-1), 0.0).sum(-1)


def accepted(h: torch.Tensor, bound: float) -> torch.Tensor:
    """True at positions whose entropies, smallest first, sum to at most the bound before them."""
    taken = torch.zeros(len(h), dtype=torch.bool)
    so_far = torch.tensor(0.0)
    for i in h.argsort().tolist():
        so_far = so_far + h[i]
        if so_far - h[i] > bound:
            break
        taken[i] = True
    return taken


@torch.no_grad()
def write(
    model: Any, prompt: list[int], settings: Settings, uniforms: Uniforms
) -> tuple[list[int], list[int]]:
    """Prompt and whole canvases as written, and the decoder evaluations of each canvas."""
    text, evaluations = list(prompt), []
    for canvas in range(settings.canvases):
        new, spent = write_canvas(
            model, text, settings, lambda what, step, c=canvas: uniforms(what, c, step)
        )
        evaluations.append(spent)
        ends = [i for i, token in enumerate(new) if token in settings.eos]
        if ends and settings.pad is not None:
            new = new[: ends[0] + 1] + [settings.pad] * (len(new) - ends[0] - 1)
        text += new
        if ends:
            break
    return text, evaluations


def write_canvas(
    model: Any, text: list[int], settings: Settings, uniforms: Callable[[str, int], torch.Tensor]
) -> tuple[list[int], int]:
    size = model.config.text_config.vocab_size
    cache = model.model.encoder(input_ids=torch.tensor([text])).past_key_values
    x = tokens_at(uniforms("start", 0), size)
    said, best, history = None, [], []
    for step in range(1, settings.steps + 1):
        raw = model(
            past_key_values=cache, decoder_input_ids=x[None], self_conditioning_logits=said
        ).logits
        left = torch.tensor(settings.steps + 1 - step, dtype=torch.int32)
        z = raw[0] / (settings.t_min + (settings.t_max - settings.t_min) * (left / settings.steps))
        drawn = inverse(z.softmax(-1), uniforms("token", step))
        h = entropies(z)
        keep = accepted(h, settings.bound)
        x = torch.where(keep, drawn, tokens_at(uniforms("noise", step), size))
        best = z.argmax(-1).tolist()
        before = history[-settings.stable :] if settings.stable else []
        history.append(best)
        same = len(before) == settings.stable and all(old == best for old in before)
        if same and h.mean() < settings.confident:
            return best, step
        said = z[None].to(model.lm_head.weight.dtype)
    return best, settings.steps

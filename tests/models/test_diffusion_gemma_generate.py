"""The oracle of DiffusionGemma's sampler writes what transformers' own generation writes."""

from typing import Any

import pytest
import tiny_gemma
import torch
from oracle import diffusion_gemma as oracle
from tiny_gemma import CANVAS, V
from torch import Tensor

transformers = pytest.importorskip("transformers", minversion="5.23")

PROMPT = [2, 5, 6]


@pytest.fixture(scope="module")
def theirs() -> Any:
    return tiny_gemma.made()


class Tape:
    """The same uniforms for transformers, by order of its calls, and for the oracle, by name."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.canvas, self.step, self.drew = -1, 0, False

    def __call__(self, what: str, canvas: int, step: int) -> Tensor:
        seed = hash((self.seed, ("start", "token", "noise").index(what), canvas, step))
        generator = torch.Generator().manual_seed(seed % 2**31)
        return torch.rand(CANVAS, dtype=torch.float64, generator=generator)

    def randint(self, low: int, high: int, size: tuple[int, int], device: Any) -> Tensor:
        """A canvas of noise: to start with where no token has been drawn since the last."""
        if self.drew:
            self.drew = False
            return oracle.tokens_at(self("noise", self.canvas, self.step), high)[None]
        self.canvas, self.step = self.canvas + 1, 0
        return oracle.tokens_at(self("start", self.canvas, 0), high)[None]

    def multinomial(self, probs: Tensor, num_samples: int) -> Tensor:
        self.step, self.drew = self.step + 1, True
        return oracle.inverse(probs, self("token", self.canvas, self.step))[:, None]


SETTINGS = [
    oracle.Settings(canvases=2, steps=6),
    oracle.Settings(canvases=2, steps=12, bound=0.7, confident=0.4, t_max=0.5, t_min=0.1),
    oracle.Settings(canvases=2, steps=9, bound=3.0, confident=1.5, stable=2, t_max=0.3, t_min=0.2),
    oracle.Settings(canvases=2, steps=9, bound=1.0, confident=1.5, stable=0, t_max=0.7, t_min=0.3),
    oracle.Settings(canvases=3, steps=4, bound=1.0, eos=tuple(range(8, 13)), pad=0),
]


def _generate(theirs: Any, settings: oracle.Settings) -> tuple[list[int], int]:
    """Transformers' own text and decoder evaluations."""
    config = transformers.models.diffusion_gemma.generation_diffusion_gemma
    passes = []
    handle = theirs.model.decoder.register_forward_hook(lambda *_: passes.append(1))
    out = theirs.generate(
        torch.tensor([PROMPT]),
        max_new_tokens=settings.canvases * CANVAS,
        max_denoising_steps=settings.steps,
        sampler_config=config.EntropyBoundSamplerConfig(settings.bound),
        t_min=settings.t_min,
        t_max=settings.t_max,
        stability_threshold=settings.stable,
        confidence_threshold=settings.confident,
        eos_token_id=list(settings.eos) or None,
        pad_token_id=settings.pad,
    )
    handle.remove()
    return out.sequences[0].tolist(), len(passes)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is compiled; the marker alone would import the compiler."""
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    return monkeypatch


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_from_the_same_uniforms_the_oracle_writes_what_transformers_writes(
    theirs, quick, settings, seed
) -> None:
    tape = Tape(seed)
    quick.setattr(torch, "randint", tape.randint)
    quick.setattr(torch, "multinomial", tape.multinomial)
    sequence, passes = _generate(theirs, settings)
    quick.undo()
    written, evaluations = oracle.write(theirs, PROMPT, settings, Tape(seed))
    assert written == sequence
    assert sum(evaluations) == passes


def test_as_the_temperature_falls_to_0_only_the_first_canvas_is_random(theirs, quick) -> None:
    """No patch of any draw: the start is handed over, and nothing else decides."""
    settings = oracle.Settings(t_max=1e-7, t_min=0.0)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        start = torch.randint(3, V, (1, CANVAS), generator=generator)
        out = theirs.generate(
            torch.tensor([PROMPT]),
            max_new_tokens=CANVAS,
            t_min=0.0,
            t_max=1e-7,
            decoder_input_ids=start,
        )
        middle = (start[0].double() + 0.5) / V
        written, _ = oracle.write(theirs, PROMPT, settings, lambda what, canvas, step, u=middle: u)
        assert out.sequences[0].tolist() == written

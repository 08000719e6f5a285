"""How do the schedulers of ``diffusers`` do on laws whose score is known exactly?

Each is given the exact noise at the level where it believes to be, in its own frame, so that
nothing but its rule and its grid can err. ``OWN`` are the grids it can lay by itself; beside them
the same levels that our solvers get can be put into those that read theirs from a list.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unison.types import EventDenoiser

_BETAS = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}
OWN: dict[str, dict[str, Any]] = {
    "linspace": {"timestep_spacing": "linspace"},
    "leading": {"timestep_spacing": "leading"},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "lu": {"use_lu_lambdas": True},
}
_LISTED = ("linspace", "leading", "trailing", "karras", "exponential", "beta")
_LAMBDAS = (*_LISTED, "lu")


class Rival(NamedTuple):
    """A scheduler of the library.

    Attributes:
        make: From a grid's settings to a scheduler.
        grids: Those of ``OWN`` it knows.
        scaled: Whether its samples are x_t = alpha (x_0 + s noise), not x_0 + s noise.
        listed: Whether its levels can be replaced.
    """

    make: Callable[[Mapping[str, Any]], Any]
    grids: tuple[str, ...]
    scaled: bool = True
    listed: bool = True


def rivals() -> dict[str, Rival]:
    """Return every scheduler by name."""
    import diffusers as d

    d.utils.logging.set_verbosity_error()

    def of(kind: Any, **fixed: Any) -> Callable[[Mapping[str, Any]], Any]:
        return lambda grid: kind(**_BETAS, **fixed, **grid)

    found: dict[str, Rival] = {}
    for end in ("sigma_min", "zero"):
        for order in (1, 2, 3):
            multi = of(d.DPMSolverMultistepScheduler, solver_order=order, final_sigmas_type=end)
            found[f"DPM++{order}M {end}"] = Rival(multi, _LAMBDAS)
            for kind in ("bh1", "bh2"):
                unipc = of(d.UniPCMultistepScheduler, solver_order=order, solver_type=kind,
                           final_sigmas_type=end)  # fmt: skip
                found[f"UniPC-{order} {kind} {end}"] = Rival(unipc, _LISTED)
        heun = of(d.DPMSolverMultistepScheduler, solver_order=2, solver_type="heun",
                  final_sigmas_type=end)  # fmt: skip
        found[f"DPM++2M heun {end}"] = Rival(heun, _LAMBDAS)
        for order in (2, 3):
            single = of(d.DPMSolverSinglestepScheduler, solver_order=order, final_sigmas_type=end)
            found[f"DPM++{order}S {end}"] = Rival(single, ("karras", "exponential", "beta"))
    noise = of(d.DPMSolverMultistepScheduler, solver_order=2, algorithm_type="dpmsolver",
               final_sigmas_type="sigma_min")  # fmt: skip
    found["DPM2M"] = Rival(noise, _LAMBDAS)
    for order in (1, 2, 3):
        found[f"DEIS-{order}"] = Rival(of(d.DEISMultistepScheduler, solver_order=order), _LISTED)
    spaced = ("linspace", "leading", "trailing")
    found["Euler"] = Rival(of(d.EulerDiscreteScheduler), _LISTED, False, False)
    found["Heun"] = Rival(of(d.HeunDiscreteScheduler), _LISTED, False, False)
    found["LMS"] = Rival(of(d.LMSDiscreteScheduler), _LISTED, False, False)
    found["DDIM"] = Rival(of(d.DDIMScheduler, clip_sample=False), spaced, True, False)
    found["PNDM"] = Rival(of(d.PNDMScheduler, skip_prk_steps=True), spaced[1:], True, False)
    return found


class Ended(NamedTuple):
    """Where a scheduler ended.

    Attributes:
        y: The events, alpha divided out.
        level: The level it ended at.
        nfe: Evaluations it took.
    """

    y: Tensor
    level: float
    nfe: int


def run(rival: Rival, grid: str, steps: int, law: EventDenoiser, noise: Tensor) -> Ended:
    """Sample on one of its own grids from standard normal noise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = rival.make(OWN[grid])
        scheduler.set_timesteps(steps)
        return _sampled(rival, scheduler, law, noise)


def run_on(rival: Rival, levels: tuple[float, ...], law: EventDenoiser, noise: Tensor) -> Ended:
    """Sample on levels that are given; ``rival.listed`` must hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = rival.make({})
        scheduler.set_timesteps(len(levels) - 1)
        scheduler.sigmas = torch.tensor(levels, dtype=torch.float64)
        scheduler.timesteps = torch.arange(len(levels) - 1, 0, -1) * 10
        scheduler.num_inference_steps = len(levels) - 1
        scheduler.set_begin_index(0)
        if hasattr(scheduler, "order_list"):
            scheduler.order_list = scheduler.get_order_list(len(levels) - 1)
        return _sampled(rival, scheduler, law, noise)


def _sampled(rival: Rival, scheduler: Any, law: EventDenoiser, noise: Tensor) -> Ended:
    x, level, calls = None, math.nan, 0
    for level in _levels(scheduler):
        scale = _scale(rival, level)
        if x is None:
            x = level * noise * scale
        y = x / scale
        mean = law(y, torch.full((len(y),), level, dtype=y.dtype))
        answer = (y - mean) / level
        at = scheduler.timesteps[calls]
        calls += 1
        x = scheduler.step(answer, at, x).prev_sample.double()
    assert x is not None
    last = _end(scheduler)
    return Ended(x / _scale(rival, last), last, calls)


def _scale(rival: Rival, level: float) -> float:
    return 1 / math.sqrt(1 + level**2) if rival.scaled else 1.0


def _levels(scheduler: Any) -> Iterator[float]:
    """Yield the level of each evaluation, as the scheduler has it."""
    for number, at in enumerate(scheduler.timesteps):
        if hasattr(scheduler, "sigmas"):
            yield float(scheduler.sigmas[number])
        else:
            kept = float(scheduler.alphas_cumprod[int(at)])
            yield math.sqrt((1 - kept) / kept)


def _end(scheduler: Any) -> float:
    if hasattr(scheduler, "sigmas"):
        return float(scheduler.sigmas[-1])
    kept = float(scheduler.final_alpha_cumprod)
    return math.sqrt(max(1 - kept, 0.0) / kept)

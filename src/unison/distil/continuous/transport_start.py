"""DPM-OT: noise is carried to half-clean data by optimal transport, and only the rest is solved.

Semi-discrete transport from normal noise z to latents y_i, data diffused to a middle level: the
Brenier potential is max_i <z, y_i> + h_i, its cells are carried to their y_i, and the heights h
minimise E max_i (<z, y_i> + h_i) - <h, masses>, which is convex with gradient cell mass - wanted
mass (Lei et al., 2017, arXiv:1710.05488; Li et al., 2023, DPM-OT, arXiv:2307.11308). Samples that
start there cost a few steps, and no two modes are mixed by the map; they start from the latents
that are at hand, so these should be many.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.decode.continuous import Drawn, Levels, Solver, solve
from unison.distil.continuous.pupil import OnStep, check_counts, noise_of
from unison.event_denoising import over
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser

SITE_CELL, SITE_DIFFUSED, SITE_FROM = 0x7FFFFF8E, 0x7FFFFF8F, 0x7FFFFF90

Noise = Float[Tensor, "B N"]
Cells = Int[Tensor, " B"]


@dataclass(frozen=True)
class TransportStart:
    """How heights are found.

    Attributes:
        level: The middle level at which the latents stand.
        samples: Noise drawn for each latent at every step, at first.
        lr: Learning rate of the heights at first; it falls to a hundredth along a cosine.
        patience: Steps without a smaller gradient before twice as many samples are drawn and the
            learning rate falls to .8 of itself.
        doublings: How often at most; then the search ends.
        tolerance: Norm of the gradient at which it ends before, once no cell is empty.
        steps: Steps at most.
        chunk: Noise rows that meet all latents together: bounds memory.
        seed: Names the noise.
    """

    level: float = 1.0
    samples: int = 10
    lr: float = 0.02
    patience: int = 50
    doublings: int = 3
    tolerance: float = 8e-4
    steps: int = 1500
    chunk: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(
            "transport",
            {
                "samples": self.samples,
                "patience": self.patience,
                "steps": self.steps,
                "chunk": self.chunk,
            },
        )
        if not (self.level >= 0 and self.lr > 0 and self.tolerance > 0 and self.doublings >= 0):
            raise ValueError(
                "transport.level and doublings must be at least 0, lr and tolerance above 0, got "
                f"{self.level}, {self.doublings}, {self.lr} and {self.tolerance}."
            )


@dataclass(frozen=True)
class Potential:
    """Which latent each piece of noise is carried to.

    Attributes:
        latents: Events at the middle level.
        heights: h of each, float64, of mean 0.
        chunk: Noise rows that meet all latents together.
    """

    latents: Event
    heights: Float[Tensor, " K"]
    chunk: int = 4096

    def cells(self, noise: Noise) -> Cells:
        """Return the number of the latent that each row of noise is carried to."""
        return torch.cat([part.argmax(1) for part in self._planes(noise)])

    def __call__(self, noise: Noise) -> Event:
        """Return the latents that noise is carried to: the gradient of the potential."""
        return self.latents[self.cells(noise)]

    def torn(self, noise: Noise, angle: float) -> Bool[Tensor, " B"]:
        """Return where the two highest planes meet at more than an angle.

        Such noise lies between cells that are carried far apart (the map's singular set, as in
        AE-OT, An et al., ICLR 2020); a model that smooths the map mixes modes there.

        Args:
            noise: Rows.
            angle: In radians, between the normals (y_i, -1) of two planes.

        Raises:
            ValueError: There is one latent only.
        """
        if len(self.latents) < 2:
            raise ValueError("one latent makes one cell, which borders on nothing; give two.")
        pairs = torch.cat([part.topk(2, dim=1).indices for part in self._planes(noise)])
        flat = self.latents.flatten(1).double()
        normals = torch.nn.functional.pad(flat, (0, 1), value=-1.0)
        normals = normals / normals.norm(dim=1, keepdim=True)
        cosine = (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(1)
        return cosine < math.cos(angle)

    def _planes(self, noise: Noise) -> list[Tensor]:
        flat = self.latents.flatten(1).double()
        return [part @ flat.mT + self.heights for part in noise.double().split(self.chunk)]


class Fitted(NamedTuple):
    """What a search of heights leaves behind.

    Attributes:
        potential: The transport.
        steps: Steps taken.
        gradient: Norm of the last gradient, cell masses minus wanted ones.
        empty: Cells that no sample of the last step fell in.
    """

    potential: Potential
    steps: int
    gradient: float
    empty: int


def diffused(events: Event, level: float, key: Key) -> Event:
    """Return clean events with noise of a level, in the frame y = x_0 + s noise."""
    return events + level * noise_of(events, key, SITE_DIFFUSED)


def masses(potential: Potential, noise: Noise) -> Float[Tensor, " K"]:
    """Return the share of noise in each cell, float64."""
    counts = torch.bincount(potential.cells(noise), minlength=len(potential.latents))
    return counts.double() / len(noise)


def fitted(
    latents: Event,
    config: TransportStart,
    wanted: Float[Tensor, " K"] | None = None,
    on_step: OnStep | None = None,
) -> Fitted:
    """Find the heights whose cells have the wanted masses, by Adam on the dual.

    Steps of the search are averaged once the gradient is at the floor of its own noise, which
    leaves less of that noise in the heights (Polyak and Juditsky, 1992, doi:10.1137/0330046).

    Args:
        latents: Events at the middle level, one cell each.
        config: How they are found.
        wanted: Mass of each cell, summing to 1; ``None`` for equal ones.
        on_step: Told the steps done and the norm of the gradient.

    Raises:
        ValueError: There are no latents, or the masses are none.
    """
    goal = _goal(latents, wanted)
    heights = of_gaussians(latents).requires_grad_(True)
    adam = torch.optim.Adam([heights], lr=config.lr)
    size = latents[0].numel()
    search = _Search()
    total, count, norm, empty = torch.zeros_like(goal), 0, math.inf, len(latents)
    for done in range(config.steps):
        rows = config.samples * len(latents) << search.doublings
        noise = _source(config.seed, done, (rows, size), latents)
        found = masses(Potential(latents, heights.detach(), config.chunk), noise)
        gradient = found - goal
        norm, empty = float(gradient.norm()), int((found == 0).sum())
        if on_step is not None:
            on_step(done + 1, norm)
        search = search.after(norm, config.patience)
        stop = (norm < config.tolerance and not empty) or search.doublings > config.doublings
        if search.doublings:  # at the floor
            total, count = total + heights.detach(), count + 1
        if stop:
            break
        heights.grad = gradient
        along = 0.505 + 0.495 * math.cos(math.pi * done / config.steps)
        adam.param_groups[0]["lr"] = config.lr * along * 0.8**search.doublings
        adam.step()
        with torch.no_grad():
            heights -= heights.mean()
    settled = total / count if count else heights.detach()
    settled = settled - settled.mean()
    return Fitted(Potential(latents, settled, config.chunk), done + 1, norm, empty)


def of_gaussians(latents: Event) -> Float[Tensor, " K"]:
    """Return the heights that would be right if the latents were normal, their numbers apart.

    Then the map is z -> m + a z, the gradient of <m, z> + a z^2 / 2, and a latent's height is minus
    the conjugate of that, (y - m)^2 / 2 a.
    """
    flat = latents.flatten(1).double()
    away = flat - flat.mean(0)
    scale = away.square().mean(0).sqrt()
    parts = torch.where(scale > 0, away.square() / (2 * scale.clamp(min=1e-12)), 0.0)
    heights = -parts.sum(1)
    return heights - heights.mean()


class _Search(NamedTuple):
    """How a search of heights goes: the least gradient, steps since it, doublings so far."""

    least: float = math.inf
    since: int = 0
    doublings: int = 0

    def after(self, norm: float, patience: int) -> "_Search":
        if norm < self.least:
            return _Search(norm, 0, self.doublings)
        if self.since + 1 < patience:
            return self._replace(since=self.since + 1)
        return _Search(math.inf, 0, self.doublings + 1)


def _goal(latents: Event, wanted: Tensor | None) -> Tensor:
    count = len(latents)
    if not count:
        raise ValueError("there are no latents to carry noise to; give at least one.")
    if wanted is None:
        return torch.full((count,), 1 / count, dtype=torch.float64, device=latents.device)
    goal = wanted.double()
    if len(goal) != count or bool((goal <= 0).any()) or abs(float(goal.sum()) - 1) > 1e-6:
        raise ValueError(
            f"{count} cells need as many masses above 0 that sum to 1, got {len(goal)} of sum "
            f"{float(goal.sum()):.6g}."
        )
    return goal


def _source(seed: int, number: int, shape: tuple[int, int], like: Tensor) -> Noise:
    rows, size = shape
    return rng.normal(Key(rng.rows(seed, 0, rows), number), SITE_CELL, size).to(like.device)


def started(potential: Potential, key: Key, angle: float | None = None, tries: int = 8) -> Event:
    """Return a start at the middle level for each row of the key.

    Args:
        potential: The transport.
        key: One random stream per row.
        angle: Noise whose two highest planes meet at more than this is drawn again; ``None`` keeps
            all.
        tries: Draws of a row at most; the last one is kept whatever its angle.
    """
    size = potential.latents[0].numel()
    noise = rng.normal(key, SITE_FROM, size).to(potential.latents.device)
    for number in range(1, tries if angle is not None else 1):
        torn = potential.torn(noise, angle or 0.0)
        other = rng.normal(Key(rng.derived(key.seed, number), key.step), SITE_FROM, size)
        noise = torch.where(over(torn.to(noise), noise) > 0, other.to(noise), noise)
    return potential(noise)


def transported(
    potential: Potential, solver: Solver, levels: Levels, denoise: EventDenoiser, key: Key
) -> Drawn:
    """Draw events: noise is carried to the first of the levels, and the rest is solved.

    Args:
        potential: A transport to latents at the first level.
        solver: Who steps.
        levels: From the middle level down; the last may be 0.
        denoise: The model.
        key: One random stream per row.
    """
    return solve(solver, levels, denoise, started(potential, key), key)

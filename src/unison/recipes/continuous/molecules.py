"""Which shapes does a learnt diffusion give a molecule? Conformers without a centre of mass.

An equivariant network (``models.continuous.egnn``) learns conformers of one molecule; noise and
events live where the centre of mass is 0 (Hoogeboom et al., 2022, arXiv:2203.17003). Beside it
stand a molecule of springs, whose law is one Gaussian and exact, and other conformers themselves.
"""

import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from unison import files
from unison.decode.continuous import Multistep, solve
from unison.decode.continuous.grids import LogSNR, Span
from unison.evaluate import figures
from unison.evaluate.theme import LIGHT
from unison.event_denoising import Preconditioned
from unison.models.continuous.egnn import EGNN, EGNNConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM
from unison.recipes.continuous.conformers import (
    Molecule,
    Shapes,
    centred,
    conformers,
    harmonic,
    rmsd,
)
from unison.recipes.continuous.report import Report, Say, closed, opened, table
from unison.types import Estimate, Event, EventDenoiser, Level

SITE_START, SITE_ROWS, SITE_LEVELS, SITE_NOISE = 0x7FFFFD23, 80, 81, 82
LOW, HIGH = 0.01, 20.0  # angstrom
_DRAWN = 1 << 42
_EMA = 0.99
_SHOWN = 6


@dataclass(frozen=True)
class Conformers:
    """Shapes of one molecule.

    Attributes:
        smiles: The molecule; without stereocentres, which distances cannot tell apart.
        shapes: Conformers that are embedded; a quarter is held out.
        drawn: Conformers that are drawn.
        nfe: Evaluations of each.
        width: Of the network.
        steps: Optimiser steps.
        batch_size: Conformers in a step.
        seed: Names every random number.
    """

    smiles: str = "CCCO"
    shapes: int = 400
    drawn: int = 100
    nfe: int = 25
    width: int = 48
    steps: int = 1000
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("drawn", "width", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.shapes < 8 or self.nfe < 2:
            raise ValueError(
                f"shapes must be at least 8 and nfe at least 2, got {self.shapes} and {self.nfe}."
            )


@dataclass(frozen=True)
class Still:
    """A denoiser of positions that neither sees nor moves the centre of mass.

    Attributes:
        denoise: Who is asked.
    """

    denoise: EventDenoiser

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean, of centre 0."""
        return centred(self.denoise(centred(x), level))


@dataclass(frozen=True)
class Flat:
    """A law of vectors as a denoiser of positions.

    Attributes:
        law: Of positions, all first coordinates before all second ones.
    """

    law: EventDenoiser

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean."""
        return self.law(x.flatten(1), level).view(x.shape)


def run(config: Conformers, folder: Path, say: Say) -> Report:
    """Embed conformers, learn them, draw new ones, and compare.

    Raises:
        ValueError: A package is missing, or the molecule cannot be read.
    """
    figures.require()
    molecule = conformers(config.smiles, config.shapes, config.seed)
    began = opened(folder, "molecules", config, [config.smiles])
    held = len(molecule.shapes) // 4
    kept, learnt = molecule.shapes[:held], molecule.shapes[held:]
    network = _learnt(config, learnt, folder / "network.safetensors", say)
    spread = float(learnt.std())
    drawn = {
        "held-out conformers": kept,
        "learnt, equivariant": draw(denoiser(network, spread), molecule, config),
        "springs, exact": draw(Flat(harmonic(learnt)), molecule, config),
    }
    numbers = {name: _row(molecule, shapes, learnt, kept) for name, shapes in drawn.items()}
    for line in table(numbers):
        say(line)
    picture = _drawn_sheet(molecule, drawn)
    files.write_bytes(folder / "conformers.png", picture)
    files.write_text(folder / "conformers.xyz", _xyz(molecule, drawn["learnt, equivariant"]))
    facts = {"atoms": len(molecule.symbols), "bonds": len(molecule.bonds)}
    written = ("conformers.png", "conformers.xyz", "network.safetensors")
    return closed(folder, began, Report(numbers, written, facts=facts))


def denoiser(network: nn.Module, spread: float, gradients: bool = False) -> Still:
    """Return a network as a denoiser that leaves the centre of mass where it is."""
    known = Preconditioned(
        network,  # pyright: ignore[reportArgumentType]
        spread=spread,
        span=(LOW, HIGH),
        gradients=gradients,
    )
    return Still(known)


def draw(denoise: EventDenoiser, molecule: Molecule, config: Conformers) -> Shapes:
    """Draw shapes by a deterministic solver from noise of centre 0."""
    atoms = len(molecule.symbols)
    key = Key(rng.rows(config.seed, _DRAWN, config.drawn))
    noise = rng.normal(key, SITE_START, 3 * atoms).float().view(-1, 3, atoms)
    levels = LogSNR().levels(Span(HIGH, LOW, EDM()), config.nfe - 1)
    return solve(Multistep(), (*levels, 0.0), denoise, HIGH * centred(noise), key).x


def _learnt(config: Conformers, shapes: Shapes, path: Path, say: Say) -> nn.Module:
    """Return the network, trained unless it is there already."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = EGNN(EGNNConfig(shapes.shape[-1], config.width))
    if path.exists():
        network.load_state_dict(load_file(path))
        return network.eval()
    average = [value.detach().clone() for value in network.parameters()]
    adam = torch.optim.Adam(network.parameters(), lr=2e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.steps)
    denoise = denoiser(network, float(shapes.std()), gradients=True)
    for step in range(config.steps):
        key = Key(rng.rows(config.seed, 0, config.batch_size), step)
        loss = _loss(denoise, shapes, key)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        rate.step()
        kept = min(_EMA, (1 + step) / (10 + step))  # young averages forget their first weights
        for slow, fast in zip(average, network.parameters(), strict=True):
            slow.lerp_(fast.detach(), 1 - kept)
        if (step + 1) % 200 == 0:
            say(f"step {step + 1}: loss {loss.item():.4g}")
    for slow, fast in zip(average, network.parameters(), strict=True):
        fast.data.copy_(slow)
    files.write_tensors(path, network.state_dict())
    return network.eval()


def _loss(denoise: Still, shapes: Shapes, key: Key) -> Float[Tensor, ""]:
    """Return the weighted denoising error of some shapes, each with noise of centre 0."""
    rows = (rng.uniform(key, SITE_ROWS, 1)[:, 0] * len(shapes)).long()
    clean = shapes[rows]
    level = (rng.normal(key, SITE_LEVELS, 1)[:, 0] * 1.5 - 1.2).exp().clamp(LOW, HIGH).float()
    noise = rng.normal(key, SITE_NOISE, clean[0].numel()).float().view_as(clean)
    noisy = clean + level[:, None, None] * centred(noise)
    squares = (denoise(noisy, level) - clean).square().mean((1, 2))
    return (squares * (level**-2 + shapes.std() ** -2)).mean()


def _row(molecule: Molecule, shapes: Shapes, learnt: Shapes, kept: Shapes) -> dict[str, Estimate]:
    """Return how true bonds and whole shapes are."""
    right = molecule.lengths(learnt).mean(0)
    bonds = (molecule.lengths(shapes) - right).abs().mean(1)
    apart = rmsd(shapes, learnt)
    covered = rmsd(kept, shapes) if shapes is not kept else rmsd(kept, learnt)
    centre = shapes.mean(-1).norm(dim=1)
    return {
        "bonds off by": _mean(bonds),
        "RMSD to nearest": _mean(apart.amin(1)),
        "of held-out": _mean(covered.amin(1)),
        "centre off by": _mean(centre),
    }


def _mean(values: Float[Tensor, " N"]) -> Estimate:
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
    return Estimate(float(values.mean()), error, len(values), "angstrom")


def _xyz(molecule: Molecule, shapes: Shapes) -> str:
    """Return shapes as XYZ, which every viewer of molecules opens."""
    parts = []
    for shape in shapes.transpose(1, 2):
        parts.append(f"{len(molecule.symbols)}\n")
        for symbol, (x, y, z) in zip(molecule.symbols, shape.tolist(), strict=True):
            parts.append(f"{symbol} {x:.5f} {y:.5f} {z:.5f}")
    return "\n".join(parts) + "\n"


def _drawn_sheet(molecule: Molecule, drawn: Mapping[str, Shapes]) -> bytes:
    """Return a PNG file: a row for each law, shapes turned onto their principal axes."""
    figure: Any = importlib.import_module("matplotlib.figure").Figure(
        figsize=(1.8 * _SHOWN, 1.9 * len(drawn)), dpi=110, layout="constrained"
    )
    grid = figure.subplots(len(drawn), _SHOWN, squeeze=False)
    for row, (name, shapes) in zip(grid, drawn.items(), strict=True):
        for axes, shape in zip(row, shapes[:_SHOWN], strict=False):
            _picture(axes, molecule, shape)
        row[0].set_title(name, loc="left", fontsize=9, color=LIGHT.ink)
    for axes in grid.flat:
        axes.set_aspect("equal")
        axes.set_axis_off()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _picture(axes: Any, molecule: Molecule, shape: Float[Tensor, "3 A"]) -> None:
    turned = torch.linalg.svd(shape.double(), full_matrices=False)
    flat = (turned.S[:2, None] * turned.Vh[:2]).numpy()
    for first, second in molecule.bonds.tolist():
        axes.plot(flat[0, [first, second]], flat[1, [first, second]], color=LIGHT.muted, lw=1.2)
    heavy = [symbol != "H" for symbol in molecule.symbols]
    colours = [
        {"C": LIGHT.ink, "O": LIGHT.palette[1], "H": LIGHT.faint}.get(symbol, LIGHT.palette[0])
        for symbol in molecule.symbols
    ]
    sizes = [42 if big else 16 for big in heavy]
    axes.scatter(flat[0], flat[1], s=sizes, c=colours, zorder=3, edgecolors=LIGHT.muted, lw=0.5)

"""How are missing voices arranged to given ones? Joint diffusion of four voices, then infilling.

One model learns all voices of chorales as piano rolls; any subset is then filled in from the rest,
as arrangement in track space (Karchkhadze et al., 2024, arXiv:2409.02845), by replacement, RePaint
(Lugmayr et al., 2022, arXiv:2201.09865) and PiGDM (Song et al., 2023). A Gaussian fitted to the
same voices says how far each way is from the exact conditional law (``infilling``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison import event_model, files
from unison.data.continuous import Events, Reading, read
from unison.data.continuous.chorales import lowest_pitch
from unison.decode.continuous.guidance import Masked, Measurement
from unison.evaluate.sheet import sheet
from unison.event_model import EventModel
from unison.models.continuous import WaveConfig
from unison.objectives.continuous import Denoising
from unison.objectives.continuous.levels import LogNormal
from unison.prob import rng
from unison.prob.rng import Key
from unison.recipes.continuous.infilling import Course, filled, fitted, misses, ways
from unison.recipes.continuous.midi import write_midi
from unison.recipes.continuous.report import Report, Say, closed, opened, table
from unison.train.config import Optimizer
from unison.train.continuous import MODEL, TrainEvents, prepare, train
from unison.types import Estimate, Event

Pitches = Int[Tensor, "N V T"]

_TESTS = 1 << 40  # the first row number of streams of tests
_CONSONANT = (0, 3, 4, 5, 7, 8, 9)  # semitones, octaves left out
_GIVEN = 0.05  # standard deviation of the noise that what is given is said to have
_SHOWN = 4


@dataclass(frozen=True)
class Chorales:
    """Voices of chorales, filled in.

    Attributes:
        data: JSON file of chorales.
        times: Of a window, a multiple of 2.
        missing: Voices to fill in, in the file's order.
        tests: Held-out windows.
        oracle_times: Times of the windows that the Gaussian is fitted to.
        draws: Of each way for each of eight windows under the Gaussian.
        evaluations: Of the denoiser on each window.
        width: Of the network.
        steps: Optimiser steps.
        batch_size: Windows in a step.
        quarters: Length of a time in the file, for MIDI.
        seed: Names every random number.
    """

    data: str = ""
    times: int = 16
    missing: tuple[int, ...] = (1, 2)
    tests: int = 24
    oracle_times: int = 4
    draws: int = 64
    evaluations: int = 40
    width: int = 128
    steps: int = 1000
    batch_size: int = 32
    quarters: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tests", "oracle_times", "width", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.draws < 2 or self.evaluations < 10:
            raise ValueError(
                "draws must be at least 2 and evaluations at least 10, got "
                f"{self.draws} and {self.evaluations}."
            )
        if self.times < 2 or self.times % 2:
            raise ValueError(f"times must be a multiple of 2, got {self.times}.")
        if not self.missing or len(set(self.missing)) != len(self.missing):
            raise ValueError(f"name each missing voice once, got {self.missing}.")


def run(config: Chorales, folder: Path, say: Say) -> Report:
    """Measure on the Gaussian, train, fill in, and compare with the true voices.

    Raises:
        ValueError: The file cannot be used, or has no such voices.
    """
    if not config.data:
        raise ValueError("this recipe needs chorales: give data, a JSON file of pieces.")
    rolls = read(config.data, Reading(length=config.times, seed=config.seed))
    voices = rolls.shape[0]
    if not all(0 <= voice < voices for voice in config.missing) or len(config.missing) == voices:
        raise ValueError(f"missing voices must be some of 0 to {voices - 1}, got {config.missing}.")
    began = opened(folder, "chorales", config, [config.data])
    numbers: dict[str, dict[str, Estimate]] = {}
    for name, miss in _oracle(config).items():
        numbers[f"Gaussian, {name}"] = miss
    events = _columns(rolls)
    model = _trained(config, events, folder / "model", say)
    given = _given(config, (voices, rolls.shape[2], config.times)).flatten(0, 1)
    drawn = _arranged(config, model, events.kept.values[: config.tests], given)
    truth = _pitches(drawn["truth"], voices)
    for name, values in drawn.items():
        numbers[name] = _heard(_pitches(values, voices), truth, config.missing)
    for line in table(numbers):
        say(line)
    written = _written(config, drawn, voices, folder)
    return closed(folder, began, Report(numbers, written))


def consonance(pitches: Pitches, voices: tuple[int, ...]) -> Float[Tensor, " N"]:
    """Return the share of consonant intervals between some voices and all others, of each window.

    Consonant are unisons, thirds, fourths, fifths, sixths, and octaves of them.
    """
    others = [voice for voice in range(pitches.shape[1]) if voice not in voices]
    apart = (pitches[:, list(voices), None] - pitches[:, None, others]).abs() % 12
    sweet = torch.isin(apart, torch.tensor(_CONSONANT, device=pitches.device))
    return sweet.double().flatten(1).mean(1)


def _columns(rolls: Events) -> Events:
    """Return piano rolls as lines: a channel for each pitch of each voice, over the times.

    Scaled to mean 0 and standard deviation 0.5 over all: a voice is silent at nearly all pitches.
    """
    values = rolls.values.transpose(2, 3).flatten(1, 2)
    learnt = values[~rolls.held_out]
    scaled = (values - learnt.mean()) / (2 * learnt.std())
    return Events(rolls.name, scaled, rolls.held_out, licence=rolls.licence)


def _pitches(columns: Float[Tensor, "N C T"], voices: int) -> Pitches:
    """Return the row of the loudest pitch of each voice at each time."""
    return columns.unflatten(1, (voices, -1)).argmax(2)


def _oracle(config: Chorales) -> dict[str, dict[str, Estimate]]:
    """Return how far each way is from the conditional law of a Gaussian fitted to the voices."""
    windows = read(config.data, Reading(length=config.oracle_times, seed=config.seed))
    points = windows.values.argmax(-1).double().flatten(1)
    learnt = points[~windows.held_out]
    points = (points - learnt.mean(0)) / learnt.std(0)
    mask = _given(config, (windows.shape[0], config.oracle_times)).flatten()
    found = misses(
        fitted(points[~windows.held_out]),
        points[windows.held_out][:8],
        mask,
        config.draws,
        config.evaluations,
    )
    return {
        name: {"error of mean": miss.mean, "variance": miss.variance}
        for name, miss in found.items()
    }


def _given(config: Chorales, shape: tuple[int, ...]) -> Bool[Tensor, "..."]:
    """Return what is given of an event: True in all voices but the missing ones."""
    mask = torch.ones(shape, dtype=torch.bool)
    mask[list(config.missing)] = False
    return mask


def _trained(config: Chorales, events: Events, folder: Path, say: Say) -> EventModel:
    settings = TrainEvents(
        network=WaveConfig(width=config.width, multipliers=(1, 1), patch=1, stride=2, dropout=0.1),
        objective=Denoising(levels=LogNormal(-0.6, 1.4)),
        low=0.02,
        high=20.0,
        optimizer=Optimizer(lr=2e-3, warmup=min(50, config.steps), schedule="cosine"),
        steps=config.steps,
        batch_size=config.batch_size,
        ema=0.99,
        eval_every=config.steps,
        eval_events=64,
        save_every=100,
        seed=config.seed,
    )
    done = train(prepare(settings, events, torch.device("cpu")), folder, resume=True)
    say(f"joint model: held-out loss {done.standing.evaluation}")
    return event_model.load(folder / MODEL)


def _arranged(
    config: Chorales, model: EventModel, truth: Event, given: Bool[Tensor, "C T"]
) -> dict[str, Event]:
    """Return the true windows, what every way makes of the given voices, and voices by chance."""
    mask = given[None]
    seen = Measurement(Masked(mask), truth * mask, _GIVEN)
    course = Course(model.shape, config.evaluations, high=model.span[1], low=model.span[0])
    key = Key(rng.rows(config.seed, _TESTS, len(truth)))
    denoise = model.denoiser(gradients=True)
    drawn = {"truth": truth, "another window": truth.where(mask, truth.roll(1, 0))}
    for name, way in ways(model.spread**2).items():
        drawn[name] = truth.where(mask, filled(way, denoise, seen, course, key))
    return drawn


def _heard(pitches: Pitches, truth: Pitches, missing: tuple[int, ...]) -> dict[str, Estimate]:
    """Return shares of right notes and of consonances, and how far off pitches are."""
    voices = list(missing)
    off = (pitches[:, voices] - truth[:, voices]).abs().double().flatten(1)
    return {
        "notes as written": _mean((off == 0).double().mean(1), "share"),
        "consonant": _mean(consonance(pitches, missing), "share"),
        "off by": _mean(off.mean(1), "semitones"),
    }


def _mean(values: Float[Tensor, " N"], unit: str) -> Estimate:
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
    return Estimate(float(values.mean()), error, len(values), unit)


def _written(
    config: Chorales, drawn: Mapping[str, Event], voices: int, folder: Path
) -> tuple[str, ...]:
    """Write a sheet of piano rolls, a row a way, and the first window of each as MIDI."""
    shown = min(_SHOWN, len(drawn["truth"]))
    pictures = torch.cat([_roll(values[:shown], voices) for values in drawn.values()])
    files.write_bytes(folder / "rolls.png", sheet(pictures, shown))
    written = ["rolls.png"]
    lowest = lowest_pitch(Path(config.data), config.times)
    for name, values in drawn.items():
        title = f"{name.replace(' ', '_')}.mid"
        pitches = _pitches(values[:1], voices)[0] + lowest
        write_midi(folder / title, pitches, config.quarters)
        written.append(title)
    return tuple(written)


def _roll(columns: Float[Tensor, "N C T"], voices: int) -> Float[Tensor, "N 1 H W"]:
    """Return what sounds as pictures: time to the right, pitch upwards, all voices in one."""
    pitches = columns.unflatten(1, (voices, -1))
    sounding = torch.zeros_like(pitches).scatter(2, pitches.argmax(2, keepdim=True), 1.0)
    pictures = 2 * sounding.amax(1, keepdim=True).flip(2) - 1
    return pictures.repeat_interleave(3, 2).repeat_interleave(8, 3)

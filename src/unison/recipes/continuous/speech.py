"""How well is noisy speech restored in few steps? Residual processes against conditional diffusion.

Every method has the same network on compressed spectra (``spectra.py``), the same mixtures, the
same training and the same number of evaluations. Those that start from the noisy spectrum:
ResShift (Yue et al., 2023, arXiv:2307.12348), the process of SGMSE+ (Richter et al., 2023,
arXiv:2208.05830), a bridge (Jukic et al., 2024, arXiv:2407.16074), and the process of SGMSE+
around a predictor's answer as in StoRM (Lemercier et al., 2023, arXiv:2212.11851; differs: the
network sees that answer alone, not the noisy spectrum too). Those that start from noise and see the
noisy spectrum beside: DDPM and DDIM. One evaluation of regression is the other bound.
"""

import functools
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison import event_model, files
from unison.data.continuous import Events, Pair, Reading, degraded, read
from unison.data.continuous.mixing import Kind, Mixed, levelled
from unison.data.continuous.spectra import Spectra
from unison.decode.continuous import Ancestral, Grid, Solver, solve
from unison.decode.continuous.grids import Karras, LogSNR, Span, TimePower
from unison.decode.continuous.posterior_step import PosteriorStep
from unison.evaluate import figures
from unison.evaluate.continuous.audio import log_spectral_distance, si_sdr
from unison.event_model import EventModel
from unison.models.continuous import WaveConfig
from unison.objectives.continuous import Denoising, Restoring
from unison.objectives.continuous.levels import UniformTime
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import OUVE, SBVE, ResShift, VariancePreserving
from unison.process.continuous.residual import start
from unison.recipes.continuous.report import Report, Say, closed, opened, table
from unison.recipes.continuous.spectrograms import spectrograms
from unison.train.config import Optimizer
from unison.train.continuous import MODEL, TrainEvents, prepare, train
from unison.types import Estimate, Event

Waves = Float[Tensor, "B N"]
Restore = Callable[[Event, Key], Event]

SITE_START = 0x7FFFFD20
_TEST = 1 << 40  # the first row number of test mixtures
_KINDS: tuple[Kind, ...] = ("coloured", "babble")
_RESIDUAL = {"ResShift": ResShift(kappa=0.5, steps=4), "SGMSE+": OUVE(), "bridge": SBVE()}
_GRIDS: dict[str, Grid] = {"time": TimePower(1.0), "log s": LogSNR(), "Karras": Karras()}


@dataclass(frozen=True)
class SpeechDenoising:
    """Speech in noise, restored in few evaluations.

    Attributes:
        data: Recordings: an archive with ``pcm`` and ``offset``, or a folder of WAV files.
        rate: Their samples a second.
        clips: How many clips are learnt from, at most.
        tests: Held-out clips; each is mixed once for every kind of noise and every ratio.
        frames: Frames of a clip, a multiple of 4; 64 are half a second at 8 kHz.
        ratios: Of powers of clean wave and noise in the tests, in dB.
        evaluations: Of the network on each clip.
        eta: How much of the noise of a residual step is fresh.
        last: Time of a residual process's last evaluation, in (0, 1); late ones keep nearer to the
            clean mean. This and eta were chosen on clips that are learnt from.
        width: Of the network.
        steps: Optimiser steps of each method.
        batch_size: Clips in a step.
        seed: Names every random number.
    """

    data: str = ""
    rate: int = 8000
    clips: int = 1200
    tests: int = 24
    frames: int = 64
    ratios: tuple[float, ...] = (0.0, 5.0, 10.0)
    evaluations: int = 4
    eta: float = 1.0
    last: float = 0.75
    width: int = 96
    steps: int = 500
    batch_size: int = 32
    seed: int = 0
    spectra: Spectra = field(default_factory=Spectra)

    def __post_init__(self) -> None:
        for name in ("rate", "clips", "tests", "width", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.frames < 4 or self.frames % 4:
            raise ValueError(f"frames must be a multiple of 4, got {self.frames}.")
        if self.evaluations < 2:
            raise ValueError(f"evaluations must be at least 2, got {self.evaluations}.")
        if not 0 < self.last < 1:
            raise ValueError(f"last must be in (0, 1), got {self.last}.")
        if not self.ratios:
            raise ValueError("name at least one ratio in dB, for example 5.")


@dataclass(frozen=True)
class Predicted:
    """A degradation, and a trained predictor's answer to it.

    Attributes:
        mixed: The degradation.
        model: Folder of the predictor.
    """

    mixed: Mixed
    model: str

    def __call__(self, clean: Event, key: Key) -> Pair:
        """Degrade and predict."""
        pair = self.mixed(clean, key)
        return pair._replace(degraded=predicted(_loaded(self.model), pair.degraded))


class Scene(NamedTuple):
    """Test mixtures of one kind of noise at one ratio."""

    kind: Kind
    ratio: float
    clean: Waves
    noisy: Event


def run(config: SpeechDenoising, folder: Path, say: Say) -> Report:
    """Train every method, restore the same mixtures, and compare.

    Raises:
        ValueError: The recordings cannot be used, or the folder holds something else.
    """
    figures.require()
    events = _events(config)
    began = opened(folder, "speech", config, [config.data])
    models = _trained(config, events, folder / "models", say)
    scenes = _scenes(config, events)
    methods = _methods(config, models)
    found: dict[str, dict[str, list[Tensor]]] = {}
    for name, restore in methods.items():
        found[name] = _measured(config, scenes, restore)
    numbers = {name: _row(columns) for name, columns in found.items()}
    for line in table(numbers):
        say(line)
    written = _examples(config, scenes, methods, folder)
    return closed(folder, began, Report(numbers, written, facts=_facts(config, numbers)))


def predicted(model: EventModel, noisy: Event) -> Event:
    """Return a bridge's answer at its pinned end, where x_t is the noisy event: regression."""
    return model.restorer(noisy)(noisy, torch.ones(len(noisy)))


def restored(
    model: EventModel, noisy: Event, key: Key, evaluations: int, ending: tuple[float, float]
) -> Event:
    """Go back from a noisy event in equal steps of a residual process's time.

    Args:
        model: Of a residual process.
        noisy: Where to begin.
        key: One random stream for each row.
        evaluations: Of the network on each row.
        ending: Time of the last evaluation, whose answer is taken, and eta.
    """
    last, eta = ending
    gap = (1 - last) / max(1, evaluations - 1)
    times = [1 - gap * step for step in range(evaluations)]
    process = model.restorer(noisy).process
    solver = PosteriorStep(process, noisy, eta)
    return solve(solver, (*times, 0.0), model.restorer(noisy), start(process, noisy, key), key).x


def generated(
    model: EventModel, noisy: Event, key: Key, evaluations: int, route: tuple[Solver, Grid]
) -> Event:
    """Go from noise to a clean event, the noisy one beside the network."""
    solver, grid = route
    low, high = model.span
    span = Span(high, low, model.process, model.spread)  # pyright: ignore[reportArgumentType]
    levels = grid.levels(span, evaluations)[:-1]
    noise = rng.normal(key, SITE_START, noisy[0].numel()).to(noisy).view_as(noisy)
    begun = (high**2 + model.spread**2) ** 0.5 * noise
    return solve(solver, (*levels, 0.0), model.denoiser(beside=noisy), begun, key).x


def _events(config: SpeechDenoising) -> Events:
    """Return the spectra of levelled clips: some to learn from, and the tests held out."""
    if not config.data:
        raise ValueError(
            "this recipe needs recordings of speech: give data, an .npz archive with pcm and "
            "offset or a folder of WAV files."
        )
    sounds = read(config.data, Reading(length=config.spectra.length(config.frames)))
    if len(sounds.shape) != 2 or sounds.shape[0] != 1:
        raise ValueError(f"{config.data} holds events {sounds.shape}; recordings are needed.")
    heard = sounds.values[:, 0].abs().amax(1) > 0
    parts = [
        levelled(side[:most])
        for side, most in (
            (sounds.values[~sounds.held_out & heard, 0], config.clips),
            (sounds.values[sounds.held_out & heard, 0], config.tests),
        )
    ]
    held = torch.arange(sum(map(len, parts))) >= len(parts[0])
    values = config.spectra.seen(torch.cat(parts))
    return Events(config.data, values, held, licence=sounds.licence)


def _trained(
    config: SpeechDenoising, events: Events, folder: Path, say: Say
) -> dict[str, EventModel]:
    """Train all networks, or go on with those that are there."""
    mixed = Mixed(config.spectra, "either", min(config.ratios), max(config.ratios), 3, config.data)
    predictor = folder / "predictor" / MODEL
    runs = {
        "predictor": (SBVE(), Restoring(earliest=0.999), mixed),
        **{name: (process, Restoring(), mixed) for name, process in _RESIDUAL.items()},
        "StoRM": (OUVE(), Restoring(), Predicted(mixed, str(predictor))),
        "diffusion": (VariancePreserving(), Denoising(levels=UniformTime()), mixed),
    }
    models = {}
    for name, (process, objective, way) in runs.items():
        settings = TrainEvents(
            network=_network(config),
            objective=objective,
            process=process,
            reading=Reading(length=config.spectra.length(config.frames)),
            degradation=way,
            optimizer=Optimizer(lr=2e-3, warmup=min(50, config.steps), schedule="cosine"),
            steps=config.steps,
            batch_size=config.batch_size,
            ema=0.99,
            eval_every=config.steps,
            eval_events=config.tests,
            save_every=200,
            seed=config.seed,
        )
        prepared = prepare(settings, events, torch.device("cpu"))
        done = train(prepared, folder / name, resume=True)
        say(f"{name}: held-out loss {done.standing.evaluation}")
        models[name] = event_model.load(folder / name / MODEL)
    return models


def _network(config: SpeechDenoising) -> WaveConfig:
    return WaveConfig(width=config.width, multipliers=(1, 1), patch=1, stride=2)


@functools.lru_cache(maxsize=2)
def _loaded(folder: str) -> EventModel:
    return event_model.load(folder)


def _scenes(config: SpeechDenoising, events: Events) -> list[Scene]:
    """Return every test clip in every noise at every ratio."""
    clean = events.kept.values
    scenes = []
    for kind in _KINDS:
        for ratio in config.ratios:
            way = Mixed(config.spectra, kind, ratio, ratio, 3, config.data, "held_out")
            key = Key(rng.rows(config.seed, _TEST + 1000 * len(scenes), len(clean)))
            noisy = degraded(clean, way, key).degraded
            scenes.append(Scene(kind, ratio, config.spectra.heard(clean), noisy))
    return scenes


def _methods(config: SpeechDenoising, models: Mapping[str, EventModel]) -> dict[str, Restore]:
    """Return every way to restore, the noisy event itself first."""
    count = config.evaluations

    def residual(name: str, evaluations: int) -> Restore:
        return lambda noisy, key: restored(
            models[name], noisy, key, evaluations, (config.last, config.eta)
        )

    def gaussian(solver: Solver, grid: Grid) -> Restore:
        return lambda noisy, key: generated(models["diffusion"], noisy, key, count, (solver, grid))

    def regenerated(noisy: Event, key: Key) -> Event:
        return residual("StoRM", count - 1)(predicted(models["predictor"], noisy), key)

    return {
        "noisy": lambda noisy, key: noisy,
        "predictor, 1": lambda noisy, key: predicted(models["predictor"], noisy),
        **{f"{name}, {count}": residual(name, count) for name in _RESIDUAL},
        f"StoRM, 1 + {count - 1}": regenerated,
        **{
            f"{title}, {count}, {label}": gaussian(Ancestral(eta=eta), grid)
            for title, eta in (("DDPM", 1.0), ("DDIM", 0.0))
            for label, grid in _GRIDS.items()
        },
    }


def _measured(
    config: SpeechDenoising, scenes: list[Scene], restore: Restore
) -> dict[str, list[Tensor]]:
    """Return, for each column, numbers of every clip of every scene."""
    columns: dict[str, list[Tensor]] = {}
    for number, scene in enumerate(scenes):
        key = Key(rng.rows(config.seed, 2 * _TEST + 1000 * number, len(scene.noisy)))
        with torch.no_grad():
            wave_found = config.spectra.heard(restore(scene.noisy, key))
        noisy = config.spectra.heard(scene.noisy)
        gain = si_sdr(wave_found, scene.clean) - si_sdr(noisy, scene.clean)
        distance = log_spectral_distance(wave_found, scene.clean)
        for name, values in (
            ("SI-SDR gain", gain),
            (f"gain, {scene.kind}", gain),
            ("LSD", distance),
        ):
            columns.setdefault(name, []).append(values)
    return columns


def _row(columns: Mapping[str, list[Tensor]]) -> dict[str, Estimate]:
    """Return means over clips; the scenes of one clip are not independent of each other."""
    row = {}
    for name, parts in columns.items():
        clips = torch.stack(parts).mean(0)
        error = float(clips.std() / len(clips) ** 0.5) if len(clips) > 1 else float("nan")
        row[name] = Estimate(float(clips.mean()), error, len(clips), _unit(name))
    return row


def _unit(name: str) -> str:
    return "log10 power" if name == "LSD" else "dB"


def _facts(
    config: SpeechDenoising, numbers: Mapping[str, Mapping[str, Estimate]]
) -> dict[str, object]:
    """Return whether residual processes beat diffusion at the best of its grids."""
    gains = {name: row["SI-SDR gain"].value for name, row in numbers.items()}
    best = max((name for name in gains if name.startswith("DD")), key=gains.__getitem__)
    ours = [name for name in gains if name.split(",")[0] in (*_RESIDUAL, "StoRM")]
    return {
        "best conditional diffusion": best,
        "wins over it, dB": {name: gains[name] - gains[best] for name in ours},
    }


def _examples(
    config: SpeechDenoising,
    scenes: list[Scene],
    methods: Mapping[str, Restore],
    folder: Path,
) -> tuple[str, ...]:
    """Write WAV files and spectrograms of the first clip of some scenes."""
    chosen = [scenes[0], scenes[-1]]
    noisy = torch.cat([scene.noisy[:1] for scene in chosen])
    key = Key(rng.rows(config.seed, 3 * _TEST, len(noisy)))
    sounds = {"clean": torch.cat([scene.clean[:1] for scene in chosen])}
    shown = {n: f for n, f in methods.items() if not n.endswith(("log s", "Karras"))}
    with torch.no_grad():
        for name, restore in shown.items():
            sounds[name] = config.spectra.heard(restore(noisy, key))
    files.write_bytes(folder / "spectrograms.png", spectrograms(sounds, config.rate))
    written = ["spectrograms.png"]
    for name, waves in sounds.items():
        for number, values in enumerate(waves):
            title = f"{number}_{''.join(c if c.isalnum() else '_' for c in name)}.wav"
            write_wave(folder / title, values, config.rate)
            written.append(title)
    return tuple(written)


def write_wave(path: Path, values: Float[Tensor, " N"], rate: int) -> None:
    """Write one channel of 16 bits, the loudest sample at 0.9."""
    loudest = float(values.abs().max()) or 1.0
    samples = (values.detach() * (0.9 * 32767 / loudest)).round().short().numpy()

    def put(place: Path) -> None:
        with wave.open(str(place), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples.tobytes())

    files.write_atomically(path, put)

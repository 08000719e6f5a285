"""What is a trained model of continuous data? A network, and all that is needed to ask it.

A folder holds ``config.json`` and ``model.safetensors``; it needs no recipe to be loaded.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unison import files
from unison.event_denoising import PREDICTIONS, Preconditioned, Prediction, Residual
from unison.models.continuous import NETWORKS, build, name_of
from unison.process.continuous import GAUSSIAN, RESIDUAL
from unison.process.continuous.gaussian import GaussianProcess
from unison.process.continuous.residual import ResidualProcess
from unison.suggest import nearest
from unison.types import Event

FORMAT_VERSION = 1
_KIND = "unison-events"
_WEIGHTS = "model.safetensors"


class EventModelError(ValueError):
    """A model of continuous data that cannot be made, read or written."""


@dataclass(frozen=True)
class EventModel:
    """A network of continuous data with what it was trained on.

    Attributes:
        network: One of ``models.continuous.NETWORKS``; it carries its configuration.
        process: What it undoes.
        shape: Of one event, such as (1, 28, 28).
        spread: Standard deviation of the data, of the residual for a residual process.
        prediction: What the network's answer means; residual processes have one of their own.
        span: The lowest and the highest level it was trained on; times for residual processes.
        process_input: Whether the network sees the process's own x_t and time, as published
            models do, in place of y scaled to variance 1 and log(s) / 4.
        notes: Where it comes from: data, licence, recipe, seed, measurements.
    """

    network: nn.Module
    process: GaussianProcess | ResidualProcess
    shape: tuple[int, ...]
    spread: float = 1.0
    prediction: Prediction = "edm"
    span: tuple[float, float] = (0.0, math.inf)
    process_input: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name_of(self.config)
        if not self.shape or min(self.shape) < 1:
            raise EventModelError(
                f"the shape of an event must be positive numbers, got {self.shape}."
            )
        _check_prediction(self.prediction)
        if self.config.channels != self.shape[0]:
            raise EventModelError(
                f"the network answers {self.config.channels} channels and an event of shape "
                f"{self.shape} has {self.shape[0]}."
            )

    @property
    def config(self) -> Any:
        """The network's configuration."""
        return self.network.config

    @property
    def classes(self) -> int:
        """Known classes; 0 for none."""
        return self.config.classes

    def denoiser(
        self,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
        gradients: bool = False,
    ) -> Preconditioned:
        """Return the model as solvers of Gaussian processes ask it, conditions bound.

        The network is put into evaluation mode: a solver wants no dropout.

        Args:
            label: Class of each row, -1 for none said.
            beside: What else is known of each row.
            gradients: Let gradients pass from the mean to the events.

        Raises:
            EventModelError: The process is a residual one, or a class is unknown.
        """
        self._check_labels(label)
        if isinstance(self.process, ResidualProcess):
            raise EventModelError(
                "this model restores degraded events; ask for restorer(degraded)."
            )
        return Preconditioned(
            self.network.eval(),  # pyright: ignore[reportArgumentType]
            self.prediction,
            self.spread,
            self.process if self.process_input else None,
            label,
            beside,
            self.span,
            gradients,
            self._dtype(),
        )

    def restorer(
        self,
        degraded: Event,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
        gradients: bool = False,
    ) -> Residual:
        """Return the model as steps of residual processes ask it, degraded events bound.

        Raises:
            EventModelError: The process is a Gaussian one, a class is unknown, or the events have
                another shape.
        """
        self._check_labels(label)
        if not isinstance(self.process, ResidualProcess):
            raise EventModelError("this model starts from noise; ask for denoiser().")
        if tuple(degraded.shape[1:]) != self.shape:
            raise EventModelError(
                f"the model restores events of shape {self.shape}, got {tuple(degraded.shape[1:])}."
            )
        return Residual(
            self.network.eval(),  # pyright: ignore[reportArgumentType]
            self.process,
            degraded,
            self.spread,
            label,
            beside,
            (max(self.span[0], 0.0), min(self.span[1], 1.0)),
            gradients,
            self._dtype(),
        )

    def to(self, device: str | torch.device) -> "EventModel":
        """Return the model with its network moved there."""
        return dataclasses.replace(self, network=self.network.to(device))

    def _dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def _check_labels(self, label: Tensor | None) -> None:
        if label is None or not len(label):
            return
        low, high = label.min().item(), label.max().item()
        if low < -1 or high >= self.classes:
            raise EventModelError(
                f"the model knows classes 0 to {self.classes - 1} and -1 for none said, got labels "
                f"from {low} to {high}."
                if self.classes
                else "the model knows no classes; leave the labels out."
            )


def save(model: EventModel, path: str | Path) -> None:
    """Write a model folder; a kill leaves the old one or the new.

    Raises:
        EventModelError: The process has no name in the tables.
        OSError: The disk is full or not writable; what was there before is still whole.
    """
    config = describe(model)
    weights = {name: value.detach().cpu() for name, value in model.network.state_dict().items()}

    def fill(folder: Path) -> None:
        files.put_tensors(folder / _WEIGHTS, weights)
        files.write_json(folder / "config.json", config)

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace_folder(path, fill)


def describe(model: EventModel) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    low, high = model.span
    return {
        "format": _KIND,
        "format_version": FORMAT_VERSION,
        "network": {"name": name_of(model.config), **dataclasses.asdict(model.config)},
        "process": _described(model.process),
        "shape": list(model.shape),
        "spread": model.spread,
        "prediction": model.prediction,
        "span": [low, None if high == math.inf else high],
        "process_input": model.process_input,
        "notes": dict(model.notes),
    }


def load(path: str | Path, device: str | torch.device = "cpu") -> EventModel:
    """Read a model folder.

    Raises:
        EventModelError: A file is missing, damaged or newer than this version, a name in it is
            unknown, or the weights are not the network's.
    """
    path = Path(path).expanduser()
    stated = _stated(path)
    try:
        config = _built(stated["network"], {n: k.config for n, k in NETWORKS.items()}, "network")
        low, high = stated["span"]
        _check_prediction(stated["prediction"])
        network = build(config)
        _fill(network, path)
        return EventModel(
            network.to(device).eval(),
            _built(stated["process"], _PROCESSES, "process"),
            tuple(stated["shape"]),
            float(stated["spread"]),
            stated["prediction"],
            (float(low), math.inf if high is None else float(high)),
            bool(stated["process_input"]),
            stated["notes"],
        )
    except EventModelError as error:
        raise EventModelError(f"{path}: {error}") from None
    except KeyError as error:
        raise EventModelError(
            f"{path}/config.json lacks {error}; the file is damaged or was edited."
        ) from None
    except (TypeError, ValueError) as error:
        raise EventModelError(
            f"{path}/config.json: {error} The file is damaged or was edited."
        ) from None


def _stated(path: Path) -> dict[str, Any]:
    """Return what config.json says, after asking whether it is ours to read."""
    place = path / "config.json"
    if not place.is_file():
        raise EventModelError(
            f"{path} holds no config.json; give the folder that a model was saved to."
        )
    try:
        stated = json.loads(place.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise EventModelError(f"{place} is damaged: {error}.") from None
    if not isinstance(stated, dict) or stated.get("format") != _KIND:
        raise EventModelError(f"{place} describes no model of continuous data of unison.")
    version = stated.get("format_version")
    if not isinstance(version, int):
        raise EventModelError(f"{place} states no format_version; the file is damaged.")
    if version > FORMAT_VERSION:
        raise EventModelError(
            f"{path} has format version {version}, newer than {FORMAT_VERSION}, the newest this "
            "unison can read; upgrade unison."
        )
    return stated


def _fill(network: nn.Module, path: Path) -> None:
    place = path / _WEIGHTS
    if not place.is_file():
        raise EventModelError(f"{_WEIGHTS} is missing; the folder is not a complete model.")
    try:
        weights = load_file(place)
    except (SafetensorError, OSError) as error:
        raise EventModelError(f"{_WEIGHTS} is damaged: {error}.") from None
    expected = network.state_dict()
    wrong = sorted(
        name
        for name in weights.keys() | expected.keys()
        if name not in weights
        or name not in expected
        or weights[name].shape != expected[name].shape
    )
    if wrong:
        raise EventModelError(
            f"{_WEIGHTS} does not fit config.json: {len(wrong)} tensors are missing, unknown or of "
            f"another shape, {', '.join(wrong[:5])} among them."
        )
    dtypes = {weight.dtype for weight in weights.values() if weight.is_floating_point()}
    if len(dtypes) == 1:
        network.to(dtypes.pop())
    network.load_state_dict(weights)


def _check_prediction(name: str) -> None:
    if name not in PREDICTIONS:
        raise EventModelError(
            f"unknown prediction {name!r}{nearest(str(name), PREDICTIONS)}; known: "
            f"{', '.join(PREDICTIONS)}."
        )


_PROCESSES: Mapping[str, type] = {**GAUSSIAN, **RESIDUAL}


def _described(process: object) -> dict[str, Any]:
    """Return a process as JSON has it; processes inside it alike."""
    for name, kind in _PROCESSES.items():
        if type(process) is kind:
            values = {f.name: getattr(process, f.name) for f in dataclasses.fields(kind)}
            inner = {n: _described(v) for n, v in values.items() if dataclasses.is_dataclass(v)}
            return {"name": name, **values, **inner}
    raise EventModelError(
        f"a {type(process).__name__} cannot be written; known: {', '.join(_PROCESSES)}."
    )


def _built(values: Mapping[str, Any], table: Mapping[str, type], what: str) -> Any:
    """Make a dataclass of a table from settings that were read."""
    stated = dict(values)
    name = stated.pop("name")
    if name not in table:
        raise EventModelError(
            f"unknown {what} {name!r}{nearest(str(name), table)}; known: {', '.join(table)}."
        )
    for key, value in stated.items():
        if isinstance(value, list):
            stated[key] = tuple(value)
        elif isinstance(value, dict):
            stated[key] = _built(value, table, what)
    return table[name](**stated)

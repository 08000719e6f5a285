"""What is a model to everyone else? Network, process, tokenizer and defaults, as one value.

A model directory holds ``config.json``, ``model.safetensors``, ``tokenizer.json`` and
``generation_config.json``; it needs no recipe to be loaded.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unison import files
from unison.data import Tokenizer
from unison.denoising import RowDenoiser
from unison.models import Network, Transformer, TransformerConfig
from unison.process import PROCESSES, SCHEDULES, Process, Sequential, Uniform
from unison.types import Mask

K = TypeVar("K")

FORMAT_VERSION = 1


class ModelError(ValueError):
    """A model directory that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Defaults:
    """How the model is sampled unless told otherwise (``generation_config.json``).

    Attributes:
        strategy: Name in ``unison.decode.STRATEGIES``.
        steps: Denoiser evaluations for strategies that take a number of steps.
        length: Canvas length in tokens.
        temperature: Applied to the belief.
        top_p: Nucleus applied to the belief.
    """

    strategy: str = "ancestral"
    steps: int = 64
    length: int = 128
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True)
class LanguageModel:
    """A network that is aligned (position i speaks of position i) and knows its process.

    Attributes:
        network: Noisy tokens and noise level in, logits out.
        process: What the network was trained to undo.
        tokenizer: Text to ids and back.
        defaults: How it is sampled unless told otherwise.
        notes: Where it comes from; free-form, kept in ``config.json``.
    """

    network: Network
    process: Process
    tokenizer: Tokenizer
    defaults: Defaults = field(default_factory=Defaults)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def max_length(self) -> int:
        """Longest canvas, in tokens."""
        return self.network.config.max_length

    def denoiser(self, valid: Mask | None = None) -> RowDenoiser:
        """Return the belief p(x_0 | x_t) as a callable of (x_t, t).

        Args:
            valid: False at padding, which then influences nothing.
        """
        return RowDenoiser(self.network, self.process, valid)

    @property
    def evaluations_per_step(self) -> int:
        """Network calls behind one call of the denoiser."""
        return 2 if self.network.config.self_conditioning else 1


def save(model: LanguageModel, path: Path) -> None:
    """Write a model directory; ``config.json`` comes last and marks it as complete.

    Raises:
        ModelError: Its schedule is learned; nothing was written.
        OSError: The disk is full or not writable; what was there before is still whole.
    """
    config = describe(model)
    path.mkdir(parents=True, exist_ok=True)
    weights = {name: w.detach().cpu() for name, w in model.network.state_dict().items()}
    files.write_tensors(path / "model.safetensors", weights)
    files.write_text(path / "tokenizer.json", model.tokenizer.json)
    files.write_json(path / "generation_config.json", dataclasses.asdict(model.defaults))
    files.write_json(path / "config.json", config)


def describe(model: LanguageModel) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    process: dict[str, Any] = {"name": _name_of(model.process, PROCESSES)}
    if not isinstance(model.process, Sequential):
        schedule = model.process.schedule
        if isinstance(schedule, nn.Module):
            raise ModelError("a learned schedule cannot be saved; fix it to a named one first.")
        process["schedule"] = {
            "name": _name_of(schedule, SCHEDULES),
            **dataclasses.asdict(schedule),  # pyright: ignore[reportArgumentType]
        }
    return {
        "format": "unison",
        "format_version": FORMAT_VERSION,
        "architecture": "transformer",
        "model": dataclasses.asdict(model.network.config),
        "process": process,
        "notes": model.notes,
    }


def load(path: str | Path, device: str | torch.device = "cpu") -> LanguageModel:
    """Read a model directory.

    Args:
        path: The directory.
        device: Where to put the weights.

    Raises:
        ModelError: A file is missing, truncated, newer than this version, or does not fit the
            others.
    """
    path = Path(path)
    if not path.is_dir():
        raise ModelError(f"{path} is not a directory; give the folder that holds config.json.")
    config = _read_config(path)
    tokenizer = _read_tokenizer(path)
    shape = _built(TransformerConfig, config["model"], path)
    process = _process(config["process"], shape.vocab_size, path)
    if tokenizer.vocab_size != shape.vocab_size:
        raise ModelError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens and the model "
            f"{shape.vocab_size}; tokenizer.json belongs to another model."
        )
    network = Transformer(shape)
    _load_weights(network, path / "model.safetensors")
    defaults = _built(Defaults, _read_json(path / "generation_config.json"), path)
    return LanguageModel(
        network.to(device).eval(), process, tokenizer, defaults, config.get("notes", {})
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; the directory is not a complete model.") from None
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON ({error}); the file is damaged.") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold one JSON object, got {type(content).__name__}.")
    return content


def _read_config(path: Path) -> dict[str, Any]:
    config = _read_json(path / "config.json")
    if config.get("format") != "unison":
        raise ModelError(f"{path}/config.json does not describe a unison model.")
    version = config.get("format_version")
    if not isinstance(version, int):
        raise ModelError(f"{path}/config.json states no format_version; the file is damaged.")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{path} has format version {version}, newer than {FORMAT_VERSION}, the newest this "
            "unison can read; upgrade unison."
        )
    missing = [name for name in ("model", "process") if not isinstance(config.get(name), dict)]
    if missing:
        raise ModelError(f"{path}/config.json lacks {', '.join(missing)}; the file is damaged.")
    return config


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.load(path / "tokenizer.json")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}/tokenizer.json cannot be read: {error}") from None


def _built(kind: type[K], values: dict[str, Any], path: Path) -> K:
    """Make a dataclass from settings that were read.

    Raises:
        ModelError: A setting is unknown or its value impossible.
    """
    fields = {f.name for f in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    unknown = sorted(values.keys() - fields)
    if unknown:
        raise ModelError(f"{path}: unknown settings {', '.join(unknown)} for {kind.__name__}.")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: {error} The file is damaged or was edited.") from None


def _process(config: dict[str, Any], vocab_size: int, path: Path) -> Process:
    name = config.get("name")
    if name not in PROCESSES:
        raise ModelError(f"{path}: unknown process {name!r}; known: {', '.join(PROCESSES)}.")
    kind = PROCESSES[name]
    if kind is Sequential:
        return Sequential(vocab_size)
    settings = dict(config.get("schedule", {}))
    schedule = settings.pop("name", None)
    if schedule not in SCHEDULES:
        raise ModelError(f"{path}: unknown schedule {schedule!r}; known: {', '.join(SCHEDULES)}.")
    made = _built(SCHEDULES[schedule], settings, path)
    return (
        Uniform(vocab_size, made)
        if kind is Uniform
        else PROCESSES["absorbing"](
            vocab_size,
            made,  # pyright: ignore[reportCallIssue]
        )
    )


def _load_weights(network: Transformer, path: Path) -> None:
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; the directory is not a complete model.") from None
    except SafetensorError as error:
        raise ModelError(
            f"{path} is damaged or truncated ({error}); copy it again or use another checkpoint."
        ) from None
    expected = network.state_dict()
    wrong = sorted(
        {*expected} ^ {*weights}
        | {name for name in expected.keys() & weights if _differ(expected[name], weights[name])}
    )
    if wrong:
        raise ModelError(
            f"{path} does not fit config.json: {len(wrong)} tensors differ, first {wrong[0]!r}."
        )
    network.load_state_dict(weights)


def _differ(a: Tensor, b: Tensor) -> bool:
    return a.shape != b.shape


def _name_of(value: object, table: dict[str, Any]) -> str:
    return next(name for name, kind in table.items() if type(value) is kind)

"""How does a compression go? Stage after stage, and a table of what each cost and gained."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol, runtime_checkable

from unison.compress import pruning, quantising, scoring, speed, table
from unison.compress.beside import divergences
from unison.compress.calibration import transformer
from unison.compress.config import Compress
from unison.compress.levels import CompressError
from unison.compress.pruning import Prune, choosing
from unison.compress.quantising import Layer, Quantise, Suffering
from unison.compress.recovery import recovered
from unison.compress.scoring import Held
from unison.compress.table import Row
from unison.data import Split, evaluation_blocks
from unison.engine.quantised import grid
from unison.engine.quantised import quantised as packed
from unison.language_model import LanguageModel
from unison.models import TransformerConfig
from unison.train.step import Outcome
from unison.types import Tokens

_TOLD = 10  # times that a recovery says how it goes

Observer = Callable[[str], None]
Bits = int | None


@runtime_checkable
class Saver(Protocol):
    """Writes a model into a folder; bits say that its weights lie on a grid of so many."""

    def __call__(self, model: LanguageModel, path: Path, bits: Bits) -> None:
        """Write the model."""
        ...


class Material(NamedTuple):
    """Text to compress with.

    Attributes:
        text: Whole rows to calibrate on and to recover with.
        held: Other text, to judge by.
    """

    text: Tokens
    held: Held


class Stage(NamedTuple):
    """A model on its way.

    Attributes:
        name: What was done last.
        model: What there is now.
        bits: Of its weights, if they lie on a grid.
    """

    name: str
    model: LanguageModel
    bits: Bits = None


class Compressed(NamedTuple):
    """What a compression leaves behind.

    Attributes:
        stages: From the original to the result.
        rows: The table.
        layers: What rounding did to every layer; empty if weights were not rounded.
        suffering: What it did at every noise level; ``None`` the same.
    """

    stages: list[Stage]
    rows: list[Row]
    layers: list[Layer]
    suffering: Suffering | None

    @property
    def model(self) -> LanguageModel:
        """The result."""
        return self.stages[-1].model

    def document(self) -> dict[str, Any]:
        """Return everything but the models, as JSON has it."""
        levels = None
        if self.suffering is not None:
            levels = {name: part.tolist() for name, part in self.suffering._asdict().items()}
        return {
            "stages": table.document(self.rows),
            "layers": [layer._asdict() for layer in self.layers],
            "levels": levels,
        }


def material(model: LanguageModel, train: Split, held: Split, config: Compress) -> Material:
    """Return the rows of two splits that share no document.

    Raises:
        CompressError: One of them is too short.
    """
    length = _length(model, config)
    text, whole = evaluation_blocks(train, length)
    text = text[whole.all(1)]
    tokens, valid = evaluation_blocks(held, length)
    if not len(text) or len(tokens) < 2:
        raise CompressError(
            f"the text is too short: {len(text)} rows of {length} tokens to calibrate on "
            f"and {len(tokens)} held out, and at least 1 and 2 are needed; give more text."
        )
    rows = slice(config.score_rows)
    bits = held.num_tokens / held.num_bytes / math.log(2)
    judged = Held(tokens[rows], valid[rows], bits, config.passes, config.levels.seed)
    return Material(text.to(model.device), judged)


def checked(model: LanguageModel, config: Compress) -> None:
    """Refuse what cannot be done, before any work.

    Raises:
        CompressError: The network is another library's, or the settings do not fit it.
    """
    network = transformer(model.network)
    if _length(model, config) > model.max_length:
        raise CompressError(
            f"rows of {config.length} tokens are longer than the {model.max_length} that this "
            "model reads; take shorter ones."
        )
    if not (config.prunes or config.quantise):
        raise CompressError(
            "nothing would be compressed; give at least one of --quantise, --prune-heads, "
            "--prune-mlp and --drop-layers."
        )
    if config.drop_layers >= network.config.depth:
        raise CompressError(
            f"{config.drop_layers} layers cannot go from a model of {network.config.depth}; take "
            f"out at most {network.config.depth - 1}."
        )
    if config.prunes:
        pruning.checked(network, _prune(config))
    if config.quantise:
        quantising.checked(network)
        _check_heads(network.config, config)


def _check_heads(shape: TransformerConfig, config: Compress) -> None:
    """Refuse heads whose rest cannot be rounded, before it is found out after all the work."""
    left = choosing.heads_left(shape, config.prune_heads)[0] * shape.head_dim
    if left % grid.GROUP:
        raise CompressError(
            f"pruning {config.prune_heads} of the heads leaves {left} numbers of them together, "
            f"which is no number of groups of {grid.GROUP} and cannot be quantised; prune another "
            "share, or leave --quantise out."
        )


def compress(
    model: LanguageModel,
    text: Material,
    config: Compress,
    save: Saver,
    observe: Observer = lambda doing: None,
) -> Compressed:
    """Return the compressed model and what each stage cost and gained; nothing is written for good.

    Args:
        model: The original; is not changed.
        text: To calibrate on, and to judge by.
        config: What is done.
        save: Writes a model, for the bytes it takes.
        observe: Told what begins.

    Raises:
        ValueError: See ``checked``.
    """
    checked(model, config)
    stages, layers, levels = [Stage("original", model)], [], None
    for name, step in _steps(model, text.text, config, observe):
        observe(name)
        stages.append(Stage(name, step(stages[-1].model)))
    if config.quantise:
        observe(f"{config.quantise} bits")
        before, how = stages[-1].model, _quantise(config)
        rounded, layers = quantising.quantised(before, text.text, how)
        levels = quantising.suffering(before, rounded, _whole(text.held, model), how.levels)
        stages.append(Stage(f"{config.quantise} bits", rounded, config.quantise))
    observe("scores and times")
    return Compressed(stages, _rows(stages, text.held, config, save), layers, levels)


def _steps(
    original: LanguageModel, text: Tokens, config: Compress, observe: Observer
) -> list[tuple[str, Callable[[LanguageModel], LanguageModel]]]:
    """Return the stages before rounding: a name and what makes the next model of the last."""
    steps: list[tuple[str, Callable[[LanguageModel], LanguageModel]]] = []
    if config.drop_layers:
        steps.append(
            (
                f"{config.drop_layers} layers less",
                lambda m: pruning.dropped(m, text, config.drop_layers, config.levels)[0],
            )
        )
    if config.prune_heads or config.prune_mlp:
        steps.append(("pruned", lambda m: pruning.pruned(m, text, _prune(config)).model))
    if config.recover.steps:
        often = max(config.recover.steps // _TOLD, 1)

        def tell(step: int, done: Outcome) -> None:
            if step % often == 0:
                observe(f"step {step}: loss {done.loss:.4f}")

        steps.append(("recovered", lambda m: recovered(m, original, text, config.recover, tell)))
    return steps


def _rows(stages: Sequence[Stage], held: Held, config: Compress, save: Saver) -> list[Row]:
    scores = [scoring.scored(stage.model, held, config.levels.batch_size) for stage in stages]
    networks = {stage.name: _as_run(stage) for stage in stages}
    original, length = stages[0].model, _length(stages[0].model, config)
    rows = _whole(held, original)
    times = speed.speeds(networks, length, config.rounds, config.levels.seed)
    return [
        Row(
            stage.name,
            scoring.quality(scores[0], score, held),
            _divergence(original, stage.model, rows, config),
            sum(weight.numel() for weight in stage.model.network.parameters()),
            _bytes(stage, save),
            times[stage.name],
        )
        for stage, score in zip(stages, scores, strict=True)
    ]


def _divergence(
    original: LanguageModel, model: LanguageModel, rows: Tokens, config: Compress
) -> float:
    networks = (original.network, model.network)
    return float(divergences(config.levels, original.process, networks, rows).mean())


def _whole(held: Held, model: LanguageModel) -> Tokens:
    """Return the held-out rows without padding."""
    return held.tokens[held.valid.all(1)].to(model.device)


def _as_run(stage: Stage) -> Any:
    """Return the network as it is evaluated: packed, where weights lie on a grid."""
    return stage.model.network if stage.bits is None else packed(stage.model.network, "exact")


def _bytes(stage: Stage, save: Saver) -> int:
    with TemporaryDirectory() as folder:
        save(stage.model, Path(folder) / "model", stage.bits)
        return sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))


def _length(model: LanguageModel, config: Compress) -> int:
    return model.max_length if config.length is None else config.length


def _prune(config: Compress) -> Prune:
    return Prune(
        config.prune_heads, config.prune_mlp, config.importance, config.refit, config.levels
    )


def _quantise(config: Compress) -> Quantise:
    return Quantise(8 if config.quantise == 8 else 4, config.weighting, levels=config.levels)

"""How does a configuration become a finished run? The rooms below, put together once."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unison import box, checkpoints, files
from unison.data import TokenizerSpec
from unison.distil import Distil
from unison.distil import run as distillation
from unison.evaluate import likelihood
from unison.generation import process_name
from unison.language_model import Defaults, LanguageModel
from unison.models import TransformerConfig
from unison.process import Process, Sequential
from unison.recipes import spreading
from unison.scale import ranks
from unison.scale.elastic import Memory, carry_on
from unison.scale.placing import Placed, alone
from unison.scale.ranks import World
from unison.train import (
    Event,
    Hooks,
    Prepared,
    Train,
    TrainError,
    checkpoint,
    fit,
    folder,
    log,
    prepare,
)
from unison.train.config import Data
from unison.train.setup import device_of
from unison.train.step import uses_bfloat16
from unison.types import Estimate

Observer = Callable[[Event], None]
Saver = Callable[[LanguageModel, Path], None]


@dataclass(frozen=True)
class Finished:
    """What a run leaves behind.

    Attributes:
        folder: The run, which is also a model directory.
        steps: Optimiser steps done.
        skipped: Steps whose gradient was not finite.
        held_out: The averaged weights' loss on held-out text at the end, nats per token.
        bits_per_byte: The same, per byte of text.
    """

    folder: Path
    steps: int
    skipped: int
    held_out: Estimate | None
    bits_per_byte: Estimate | None


@dataclass(frozen=True)
class Place:
    """Where a run lives and on what it runs.

    Attributes:
        out: Folder of the run; must be new or empty unless ``resume``.
        resume: Go on with what is in ``out``, exactly; starts afresh if there is nothing.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        world: The ranks that share it; ``spreading.joined`` finds them.
        memory: Where ranks that may be lost keep snapshots.
    """

    out: Path
    resume: bool = False
    device: str = "auto"
    world: World = ranks.ALONE
    memory: Memory | None = None


def load(
    path: str | Path | None = None,
    device: str = "auto",
    dtype: torch.dtype | str | None = None,
    tokenizer: str | Path | None = None,
    adapter: str | Path | None = None,
) -> LanguageModel:
    """Load a model of any family; without a path, what ``unnamed`` says.

    Args:
        path: A folder, one file of weights, a model in the box, or ORG/NAME on the hub.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: Of the weights, such as ``bfloat16``; ``None`` for as they are stored.
        tokenizer: A folder, a ``tokenizer.json`` or ``hf:NAME``, where the model has none.
        adapter: The folder of a LoRA adapter to merge into the weights.

    Raises:
        ValueError: There is no such model, or it is damaged or of a family not supported.
    """
    found = unnamed() if path is None else path
    return checkpoints.load(found, device_of(device), dtype, tokenizer=tokenizer, adapter=adapter)


def unnamed() -> str:
    """Return the model meant where none is named: the newest of ``runs/``, else the box's."""
    newest = folder.newest_finished(Path("runs"))
    return box.DEFAULT if newest is None else str(newest)


def train(
    config: Train,
    text: Sequence[str],
    place: Place,
    *,
    base: str | Path | None = None,
    steps: int = 64,
    observe: Sequence[Observer] = (),
) -> Finished:
    """Train a model on text.

    Args:
        config: The run.
        text: Files, folders or built-in corpora; that of the base model if empty.
        place: Where the run lives.
        base: A model of the same shape and process whose weights the run begins with and whose
            tokenizer it keeps; ``None`` for random weights.
        steps: Denoiser evaluations the model is sampled with by default.
        observe: Called after every step.

    Raises:
        ValueError: The text, the settings or the folder cannot be used.
        OSError: A file cannot be written.
    """
    sources = [*text] if base is None else [str(base), *text]

    def attempt(memory: Memory | None) -> Finished:
        with spreading.joined(place, "train", config, sources) as here:
            left = spreading.for_those_left(config, here.world, memory)
            return _train(left, text, replace(here, memory=memory), base, steps, observe)

    return carry_on(attempt)


def _train(
    config: Train,
    text: Sequence[str],
    place: Place,
    base: str | Path | None,
    steps: int,
    observe: Sequence[Observer],
) -> Finished:
    def begin() -> tuple[Prepared, tuple[str, ...]]:
        if config.tensorboard:
            log.require_tensorboard()
        device = device_of(place.device)
        if base is None:
            return prepare(config, text, device), tuple(text)
        return _from_weights(config, text, base, device)

    prepared, read = ranks.consent(place.world, begin)
    prepared = spreading.over(place.world, config, prepared)
    spreading.claim(place, "train", config, [*text] if base is None else [str(base), *text])
    result = LanguageModel(
        prepared.network,
        prepared.process,
        prepared.corpus.tokenizer,
        defaults_of(config.model, prepared.process, steps),
        {"train": folder.plain(config), "text": list(read)},
    )
    return finish(config, prepared, result, place, observe)


def _from_weights(
    config: Train, text: Sequence[str], path: str | Path, device: torch.device
) -> tuple[Prepared, tuple[str, ...]]:
    """Return a run that begins with a model's weights, and where its text is."""
    base = load(path, str(device))
    _check_base(config, base, str(path))
    _, sources = text_of(base, text)
    source = checkpoints.locate(str(path)) / "tokenizer.json"
    tokenizer = TokenizerSpec("existing", source=str(source))
    settings = replace(config, data=replace(config.data, tokenizer=tokenizer))
    prepared = prepare(settings, sources, device)
    prepared.network.load_state_dict(base.network.state_dict())
    return prepared, sources


def _check_base(config: Train, base: LanguageModel, path: str) -> None:
    """Refuse a model whose weights are not those of this run's network.

    Raises:
        TrainError: They are not; the message says what to change.
    """
    theirs, ours = process_name(base.process), config.objective.process
    if theirs != ours:
        raise TrainError(
            f"{path} is a model of the {theirs} process and this run is of the {ours} one; unison "
            "adapt turns a model into one of another process."
        )
    if config.shared is not None:
        raise TrainError("a run with shared numbers has a network of its own; leave out --base.")
    sizes = ("vocab_size", "num_states")  # the tokenizer's
    shape, wanted = (dataclasses.asdict(one) for one in (base.network.config, config.model))
    other = [name for name in wanted if name not in sizes and shape[name] != wanted[name]]
    if other:
        flags = " ".join(f"--model.{name.replace('_', '-')} {shape[name]}" for name in other)
        raise TrainError(f"{path} has another shape than this run; give {flags}.")


def defaults_of(shape: TransformerConfig, process: Process, steps: int) -> Defaults:
    """Return how a model is sampled: the way it was trained to write."""
    if isinstance(process, Sequential):
        return Defaults("left_to_right", steps, shape.max_length)
    if shape.attention == "block_causal":
        return Defaults("bd3", steps, shape.max_length, block_length=shape.block_length)
    return Defaults("ancestral", steps, shape.max_length)


def distil(
    config: Distil,
    run: str | Path,
    place: Place,
    *,
    text: Sequence[str] = (),
    observe: Sequence[Observer] = (),
) -> Finished:
    """Distil a trained model into one that needs fewer steps.

    Args:
        config: The distillation.
        run: The run whose model is distilled.
        place: Where the new run lives.
        text: Text to distil on; that of the base run if empty.
        observe: Called after every step.

    Raises:
        ValueError: The model, the text, the settings or the folder cannot be used.
        OSError: A file cannot be written.
    """
    with spreading.joined(place, "distil", config, [str(run), *text]) as here:
        return _distil(config, run, here, text, observe)


def _distil(
    config: Distil,
    run: str | Path,
    place: Place,
    text: Sequence[str],
    observe: Sequence[Observer],
) -> Finished:
    def begin() -> tuple[LanguageModel, Prepared, Callable[[int], None], tuple[str, ...]]:
        base = load(run, place.device)
        distillation.check(config, base)
        data, sources = text_of(base, text)
        corpus = distillation.corpus_of(base, data, sources, Path(run))
        return base, *distillation.prepare(config, base, corpus), sources

    base, prepared, refresh, sources = ranks.consent(place.world, begin)
    settings = distillation.as_train(config, base)
    prepared = spreading.over(place.world, settings, prepared)
    spreading.claim(place, "distil", config, [str(run), *sources])
    result = replace(
        base,
        defaults=replace(base.defaults, steps=config.steps, top_p=config.top_p),
        notes={**base.notes, "distil": folder.plain(config)},
    )
    return finish(settings, prepared, result, place, observe, prepare_step=refresh)


def text_of(base: LanguageModel, text: Sequence[str]) -> tuple[Data, tuple[str, ...]]:
    """Return how and from where the base model's text was read.

    Raises:
        TrainError: The model does not say and no text is given.
    """
    made = base.notes.get("train", {}).get("data", {})
    sources = tuple(text) or tuple(base.notes.get("text", ()))
    if not sources:
        raise TrainError("this model does not say what it was trained on; give --text.")
    known = {name: made[name] for name in ("holdout", "split") if name in made}
    return Data(**known), sources


def finish(
    config: Train,
    prepared: Prepared,
    result: LanguageModel,
    place: Place,
    observe: Sequence[Observer],
    *,
    save: Saver = checkpoints.save,
    prepare_step: Callable[[int], None] = lambda step: None,
) -> Finished:
    """Run the loop with logs and evaluation, then leave the averaged weights in the folder.

    Args:
        config: The run.
        prepared: What it works on.
        result: The model that is left behind; its network is the one that is trained.
        place: A folder that was claimed, and the ranks that share the run; all call this together.
        observe: Called after every step.
        save: Writes the result into a folder, at the end and whenever it is the best yet.
        prepare_step: Called before every step with its number.

    Raises:
        TrainError: The gradient stayed non-finite, or a checkpoint cannot be read.
        OSError: A file cannot be written.
    """
    out, world, memory = place.out, place.world, place.memory
    placed = alone(prepared.network) if prepared.placed is None else prepared.placed
    remembered = (None if memory is None else memory.newest(world)) or 0
    first = max(remembered, checkpoint.newest_step(out))
    if world.speaks:
        checkpoint.sweep(out)
        log.rewind(out, first)
    ranks.heard(world, None)  # the folder is swept
    observers = [*_logs(config, out, first), *observe] if world.speaks else []
    hooks = Hooks(
        evaluate=_agreed(placed, _held_out(config, prepared)),
        keep_best=lambda: _keep_best(spreading.whole(result, placed), out, save),
        observe=lambda event: _tell(observers, event),
        prepare_step=prepare_step,
        went_back=lambda step: log.rewind(out, step) if world.speaks else None,
    )
    with spreading.watched(world, config.scale, out) as stepped:
        observers.insert(0, lambda event: stepped(event.step))
        state = fit(config, prepared, out, hooks, memory)
    state.parts.average.swap(placed.own)
    prepared.network.eval()
    if (finished := spreading.whole(result, placed)) is not None:
        save(finished, out)
    spreading.report_traffic(out, placed, state)
    ranks.heard(world, None)  # nobody leaves before the result is written
    held_out = state.evaluation
    in_bits = None
    if held_out is not None:
        in_bits = likelihood.rescale(held_out, prepared.bits_per_byte, "bits/byte")
    return Finished(out, state.step, state.skipped, held_out, in_bits)


def _agreed(placed: Placed, measure: Callable[[], Estimate]) -> Callable[[], Estimate]:
    """Return a measure that is the first rank's, where peers may have other weights."""
    if not placed.spread.islands:
        return measure
    return lambda: ranks.heard(placed.spread.world, measure())[0]


def _tell(observers: Sequence[Observer], event: Event) -> None:
    for observer in observers:
        observer(event)


def _logs(config: Train, out: Path, first: int) -> list[Observer]:
    tokens = config.batch_size * config.model.max_length
    observers: list[Observer] = [log.writer(out, config.log_every, tokens)]
    if config.tensorboard:
        observers.append(log.tensorboard(out, config.log_every, first))
    return observers


def _held_out(config: Train, prepared: Prepared) -> Callable[[], Estimate]:
    """Return a function that scores the network on the same blocks and noise every time."""
    device = next(prepared.network.parameters()).device
    rows = prepared.corpus.held_out(config.model.max_length, config.eval_blocks).to(device)

    def measure() -> Estimate:
        bfloat16 = uses_bfloat16(config, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            scored = likelihood.score(
                prepared.process,
                prepared.network,
                rows,
                seed=config.seed,
                batch_size=config.micro_batch or config.batch_size,
                bound=prepared.bound,
            )
        return likelihood.per_token(scored)

    return measure


def _keep_best(result: LanguageModel | None, out: Path, save: Saver) -> None:
    """Replace ``checkpoints/best``: a model directory with the lowest held-out loss so far."""
    if result is None:
        return
    best = out / "checkpoints" / "best"
    best.parent.mkdir(exist_ok=True)
    files.replace_folder(best, lambda temporary: save(result, temporary))

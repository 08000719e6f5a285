"""How does a run leave one model that holds many? Training, from text or from a trained model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unison import files
from unison.compress import elastic
from unison.compress.elastic import Elastic, Row
from unison.compress.elastic import run as running
from unison.data import TokenizerSpec
from unison.data import prepare as prepare_corpus
from unison.language_model import LanguageModel
from unison.recipes import spreading
from unison.recipes.run import Finished, Observer, Place, defaults_of, finish, load, text_of
from unison.scale import ranks
from unison.train import Prepared, Train, TrainError, folder, prepare
from unison.train.setup import device_of

TABLE = "elastic"  # .json and .md: what each network in the model is worth


@dataclass(frozen=True)
class ElasticRun:
    """One elastic run.

    Attributes:
        train: The run of the largest network.
        elastic: The networks it is to hold.
    """

    train: Train = field(default_factory=Train)
    elastic: Elastic = field(default_factory=Elastic)


@dataclass(frozen=True)
class Held:
    """What an elastic run leaves behind.

    Attributes:
        finished: The run; its folder holds the largest network, ``elastic.json`` and ``.md``.
        rows: What each network is worth on held-out text, by operations.
    """

    finished: Finished
    rows: list[Row]


_Begun = tuple[Prepared, Callable[[int], None], LanguageModel, Train]


def train_elastic(
    config: ElasticRun,
    text: Sequence[str],
    place: Place,
    *,
    base: str | Path | None = None,
    steps: int = 64,
    observe: Sequence[Observer] = (),
) -> Held:
    """Train a network that holds many.

    Args:
        config: The run.
        text: Files, folders or built-in corpora; that of the base model if empty.
        place: Where the run lives.
        base: A trained model to go on from; its shape is kept, and its heads and units are put in
            the order of their importance. ``None`` starts afresh.
        steps: Denoiser evaluations the model is sampled with by default, where it starts afresh.
        observe: Called after every step.

    Raises:
        ValueError: The model, the text, the settings or the folder cannot be used.
        OSError: A file cannot be written.
    """
    sources = [*text] if base is None else [str(base), *text]
    with spreading.joined(place, "elastic", config, sources) as here:

        def begin() -> _Begun:
            if here.world.size > 1:
                raise TrainError("elastic training runs on one process; start it without torchrun.")
            device = here.device
            made = _afresh(config, text, device, steps) if base is None else None
            return made or _going_on(config, text, device, str(base))

        prepared, refresh, result, settings = ranks.consent(here.world, begin)
        spreading.claim(here, "elastic", config, sources)
        done = finish(settings, prepared, result, here, observe, prepare_step=refresh)
        return Held(done, _measured(config, prepared, result, done.folder))


def _afresh(config: ElasticRun, text: Sequence[str], device: str, steps: int) -> _Begun:
    settings = running.as_train(config.train, None)
    plain = prepare(settings, text, device_of(device))
    prepared, refresh = running.prepare(config.elastic, settings, plain)
    notes = {"train": folder.plain(settings), "text": list(text)}
    result = LanguageModel(
        prepared.network,
        prepared.process,
        prepared.corpus.tokenizer,
        defaults_of(settings.model, prepared.process, steps),
        {**notes, "elastic": folder.plain(config.elastic)},
    )
    return prepared, refresh, result, settings


def _going_on(config: ElasticRun, text: Sequence[str], device: str, path: str) -> _Begun:
    base = load(path, device)
    settings = running.as_train(config.train, base)
    data, sources = text_of(base, text)
    corpus = prepare_corpus(
        sources,
        TokenizerSpec("existing", source=str(Path(path) / "tokenizer.json")),
        holdout=data.holdout,
        seed=base.notes.get("train", {}).get("seed", 0),
        split=data.split,
    )
    plain = running.continued(settings, base, corpus)
    prepared, refresh = running.prepare(config.elastic, settings, plain)
    notes = {**base.notes, "elastic": folder.plain(config.elastic)}
    result = replace(base, network=plain.network, notes=notes, format="unison", blueprint=None)
    return prepared, refresh, result, settings


def _measured(
    config: ElasticRun, prepared: Prepared, result: LanguageModel, out: Path
) -> list[Row]:
    """Return what each network is worth, and write it down."""
    settings, network = config.train, prepared.network
    space = config.elastic.space(network.config)
    device = next(network.parameters()).device
    length = network.config.max_length
    text = prepared.corpus.held_out(length, settings.eval_blocks).to(device)
    rows = elastic.table(
        result,
        space,
        text,
        seed=settings.seed,
        batch_size=settings.micro_batch or settings.batch_size,
    )
    files.write_json(out / f"{TABLE}.json", elastic.plain(rows))
    files.write_text(out / f"{TABLE}.md", elastic.markdown(rows))
    return rows

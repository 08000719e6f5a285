"""unison compress: make a model smaller, and say what each stage cost and gained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unison import checkpoints, files
from unison.cli import shared
from unison.compress import Compress, Compressed, CompressError, Material, checked, compress
from unison.compress import material as material_of
from unison.compress.table import markdown
from unison.data import encode_split, hold_out, read_all
from unison.engine.quantised.storage import packing
from unison.language_model import LanguageModel
from unison.recipes.run import load, text_of
from unison.train.folder import claim

TABLE = "compression"


@dataclass(frozen=True)
class Flags:
    """Make a model smaller: the first argument is a run, or the folder of a model.

    Layers go first (--drop-layers), then heads and MLP units (--prune-heads, --prune-mlp), then the
    rest may be trained a little beside the original (--recover.steps), then weights are rounded
    (--quantise). What goes and how weights are rounded is decided on --text at all noise levels;
    every stage is scored on held-out documents of it. --out becomes a model folder with
    compression.json and compression.md, the table, beside it.

    Attributes:
        out: Folder of the result, new or empty.
        text: Text to calibrate on and to judge by; that of the model's own run if left out, with
            the same documents held out.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    out: Path
    text: tuple[str, ...] = ()
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags, config = shared.parse_with(Flags, Compress(), "compress", arguments)
    if name is None:
        raise ValueError("name the model first: unison compress MODEL --out DIR --quantise 8.")
    if flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise CompressError(f"{flags.out} is not an empty folder; give another --out.")
    done = go(name, flags, config)
    if flags.json:
        shared.emit({"run": str(flags.out), **done.document()})
        return
    print(markdown(done.rows), end="")
    print(f"next: unison generate {flags.out}{_weights(done)}")


def go(name: str, flags: Flags, config: Compress) -> Compressed:
    """Compress, and write the result with its table."""
    model = load(name, flags.device)
    checked(model, config)
    text = _text(model, flags.text, config)
    done = compress(model, text, config, save, lambda doing: shared.log(f"compress: {doing}"))
    claim(flags.out, False, "compress", config, [name, *flags.text])
    save(done.model, flags.out, done.stages[-1].bits)
    files.write_json(flags.out / f"{TABLE}.json", done.document())
    files.write_text(flags.out / f"{TABLE}.md", markdown(done.rows))
    return done


def save(model: LanguageModel, path: Path, bits: int | None) -> None:
    """Write a model; weights on a grid are stored as its levels."""
    checkpoints.save(model, path, pack=None if bits is None else packing("exact"))


def _text(model: LanguageModel, sources: Sequence[str], config: Compress) -> Material:
    """Return the rows to calibrate on and the held-out ones: those of the model's own run."""
    data, named = text_of(model, sources)
    seed = model.notes.get("train", {}).get("seed", 0)
    division = hold_out(read_all(named, data.split), data.holdout, seed)
    train, held = (encode_split(part, model.tokenizer) for part in division)
    return material_of(model, train, held, config)


def _weights(done: Compressed) -> str:
    return "" if done.stages[-1].bits is None else " --weights exact"

"""unison train-fusion: let one model read another's memory of the prompt (Cache-to-Cache)."""

from dataclasses import dataclass
from pathlib import Path

from unison.cli import shared
from unison.cli.bar import training_bar
from unison.distil.fusion import FusionRun, Joined, Source, metrics, train_fusion
from unison.recipes.run import load


@dataclass(frozen=True)
class Flags:
    """Train a fuser between two left-to-right models: the first argument is the receiver.

    Both read the prompt; the fuser rewrites what the receiver remembers of it with what the
    sharer does, and learns from the receiver's loss on the answers. Neither model changes. Give
    --pairs with prompts and completions, or --text, of which --prompt-tokens are the prompt.

    Attributes:
        sharer: The model that tells.
        out: Folder of the fuser, new or empty.
        text: Files, folders, or a corpus that comes along.
        pairs: Files in .jsonl, or folders of them, in place of text.
        resume: Go on with the run in --out, exactly; starts afresh if there is none.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    sharer: str
    out: Path
    text: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    resume: bool = False
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags, config = shared.parse_with(Flags, FusionRun(), "train-fusion", arguments)
    if name is None:
        raise ValueError(
            "name the receiver first: unison train-fusion RECEIVER --sharer MODEL --pairs FILE "
            "--out DIR."
        )
    if bool(flags.text) == bool(flags.pairs):
        raise ValueError("give either --text or --pairs, which say what to learn from.")
    source = Source(flags.pairs or flags.text, bool(flags.pairs), name)
    receiver, sharer = (load(model, flags.device, "float32") for model in (name, flags.sharer))
    tokens = config.batch_size * config.length
    with training_bar("train-fusion", config.steps, tokens) as observe:
        done = train_fusion(
            config, receiver, sharer, source, flags.out, resume=flags.resume, observe=[observe]
        )
    report(done, flags)


def report(done: Joined, flags: Flags) -> None:
    """Say what a run left behind."""
    if flags.json:
        shared.emit({"fuser": str(flags.out), **metrics(done)})
        return
    print(f"held-out answers, the receiver alone: {shared.said(done.alone)}")
    print(f"held-out answers, with the sharer: {shared.said(done.fused)}")
    print(f"{done.steps} steps, {done.opened:.0%} of the gates open; the fuser is in {flags.out}")

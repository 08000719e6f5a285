"""unison train-thoughts: teach a left-to-right model to think before it speaks (Quiet-STaR)."""

from dataclasses import dataclass
from pathlib import Path

from unison.cli import shared
from unison.cli.bar import training_bar
from unison.distil.thoughts import Thoughtful, ThoughtRun, metrics, train_thoughts
from unison.recipes.run import load


@dataclass(frozen=True)
class Flags:
    """Train latent thoughts: the first argument is a left-to-right model.

    After every token the model draws a thought; thoughts that made the next few tokens likelier
    become likelier themselves. The model is trained as well, into --out; --no-whole leaves it as
    it is and trains the marks around a thought and the mixing head alone.

    Attributes:
        text: Files, folders, or a corpus that comes along.
        out: Folder of the run, new or empty.
        resume: Go on with the run in --out, exactly; starts afresh if there is none.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    text: tuple[str, ...]
    out: Path
    resume: bool = False
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags, config = shared.parse_with(Flags, ThoughtRun(), "train-thoughts", arguments)
    if name is None:
        raise ValueError("name the model first: unison train-thoughts MODEL --text FILE --out DIR.")
    model = load(name, flags.device, "float32")
    tokens = config.batch_size * config.length
    with training_bar("train-thoughts", config.steps, tokens) as observe:
        done = train_thoughts(
            config, model, flags.text, flags.out, resume=flags.resume, observe=[observe]
        )
    report(done, flags)


def report(done: Thoughtful, flags: Flags) -> None:
    """Say what a run left behind."""
    if flags.json:
        shared.emit({"run": str(flags.out), **metrics(done)})
        return
    for when, told in (("before", done.before), ("after", done.after)):
        print(
            f"held-out text {when}: {shared.said(told.base)} without thoughts, "
            f"{shared.said(told.mixed)} with; a thought saves {shared.said(told.reward)}"
        )
    print(f"{done.steps} steps; the thoughts are in {flags.out}")

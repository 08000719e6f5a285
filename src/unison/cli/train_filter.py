"""unison train-filter: teach a small network which tokens of a masked model are final."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unison.cli import shared
from unison.data.corpus import read_all
from unison.decode.select.learned import save_filter
from unison.recipes.run import load
from unison.train.filter import Fitted, Fitting, Replay, fit, prompts_of, replays


@dataclass(frozen=True)
class Flags:
    """Fit a commit filter for a masked model and write it to a file.

    The first argument is a run or a model folder. Each text lends its beginning as a prompt; the
    model goes on from it one token per step, then again with hindsight, and the filter learns
    what was final when. Use it with: generate --select learned --select.path FILE.

    Attributes:
        text: Files, folders, or a corpus that comes along: where prompts are taken from.
        out: The filter's file.
        split: What is one text: auto, file, blank (line) or line.
        prompt_tokens: Tokens of each prompt.
        new_tokens: Tokens the model writes for each.
        block_length: Positions of a block; the filter works for this length only.
        prompts: At most this many prompts.
        threshold: Probability above which the filter would write, for the reported rates.
        epochs: Steps of full-batch AdamW.
        lr: Its learning rate.
        seed: Of the first weights and of which prompts are held out.
        device: auto, cpu, cuda or cuda:N.
        json: Print one JSON document on stdout; logs go to stderr.
    """

    text: tuple[str, ...]
    out: Path
    split: str = "auto"
    prompt_tokens: int = 32
    new_tokens: int = 64
    block_length: int = 32
    prompts: int = 256
    threshold: float = 0.96
    epochs: int = 2000
    lr: float = 3e-3
    seed: int = 0
    device: str = "auto"
    json: bool = False


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "train-filter", arguments)
    config = Fitting(flags.epochs, flags.lr, seed=flags.seed)
    _check(flags)
    model = load(name or shared.unnamed(), flags.device)
    texts = [document.text for document in read_all(flags.text, flags.split)]  # pyright: ignore
    prompts = prompts_of(texts, model.tokenizer, flags.prompt_tokens)[: flags.prompts]
    seen, steps = _collected(
        replays(model, prompts, flags.new_tokens, flags.block_length), len(prompts)
    )
    with shared.progress() as bar:
        task = bar.add_task("fit", total=flags.epochs, note="")
        found = fit(
            seen,
            config,
            flags.threshold,
            lambda epoch, loss: bar.update(task, completed=epoch, note=f"loss {loss:.4f}"),
        )
    save_filter(flags.out, found.filter)
    report = _report(found, steps, flags)
    if flags.json:
        shared.emit(report)
        return
    for fact, value in report.items():
        print(f"{fact:24} {value}")


def _check(flags: Flags) -> None:
    for name in ("prompt_tokens", "new_tokens", "block_length", "prompts"):
        value = getattr(flags, name)
        if value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
    if not 0 <= flags.threshold <= 1:
        raise ValueError(f"--threshold must be in [0, 1], got {flags.threshold}.")


def _collected(batches: Any, count: int) -> tuple[Replay, Tensor]:
    """Return all observations and the steps hindsight took, with a bar on stderr."""
    seen: list[Replay] = []
    steps: list[Tensor] = []
    with shared.progress() as bar:
        task = bar.add_task("write twice", total=count, note="")
        for found, took in batches:
            seen.append(found)
            steps.append(took)
            bar.update(task, advance=len(took))
    return Replay(*(torch.cat(parts) for parts in zip(*seen, strict=True))), torch.cat(steps)


def _report(found: Fitted, steps: Tensor, flags: Flags) -> dict[str, Any]:
    return {
        "filter": str(flags.out),
        "parameters": sum(part.numel() for part in found.filter),
        "observations": found.observations,
        "held_out_loss": round(found.loss, 5),
        "wrong_when_written": round(found.wrong, 5),
        "right_and_written": round(found.caught, 5),
        "steps_one_per_token": flags.new_tokens,
        "steps_with_hindsight": round(steps.double().mean().item(), 2),
    }

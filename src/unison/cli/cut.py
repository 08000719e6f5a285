"""unison cut: take one network out of an elastic run."""

from dataclasses import dataclass
from pathlib import Path

from unison import checkpoints
from unison.cli import shared
from unison.compress.elastic import Choice, cut
from unison.recipes.run import load


@dataclass(frozen=True)
class Flags:
    """Take one network out of an elastic run: the first argument; --out gets an ordinary model.

    Attributes:
        out: Folder of the model, new or empty.
        depth: Layers.
        heads: Heads of every layer.
        mlp: Width of every MLP.
        device: auto, cpu, cuda or cuda:N.
    """

    out: Path
    depth: int
    heads: int
    mlp: int
    device: str = "auto"


def run(arguments: list[str]) -> None:
    """Run the verb."""
    name, arguments = shared.take_leading(arguments)
    flags = shared.parse(Flags, "cut", arguments)
    if name is None:
        raise ValueError(
            "name the elastic run first: unison cut RUN --depth 4 --heads 4 --mlp 512 --out DIR."
        )
    if flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise ValueError(f"{flags.out} is not an empty folder; give another --out.")
    model = cut(load(name, flags.device), Choice(flags.depth, flags.heads, flags.mlp))
    checkpoints.save(model, flags.out)
    size = sum(weight.numel() for weight in model.network.parameters())
    print(f"{size:,} weights; next: unison generate {flags.out}")

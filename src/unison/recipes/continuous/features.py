"""What do images look like to a small classifier? Features for distances between images and sets.

Where images have labels it learns these; where they have none, by how many quarter turns an image
was turned (Gidaris et al., 2018, arXiv:1803.07728). Distances in its features are no published
metric: they compare methods on the same data within one run.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.data.continuous import Events, EventsError
from unison.evaluate.continuous.likeness import averaged
from unison.train.continuous.setup import rows_of
from unison.types import Estimate, Event

WIDTH = 48  # features of an image
_BATCH, _RATE = 64, 3e-3
_TURNS = 4
_MOST = 512  # held-out images that are classified

Seen = Float[Tensor, "B 48"]
Labels = Int[Tensor, " B"]


class Classifier(nn.Module):
    """Two halvings, a hidden layer whose values are the features, and a class."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.SiLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(512, WIDTH),
            nn.SiLU(),
        )
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Return logits."""
        return self.head(self.body(x))


class Eye(NamedTuple):
    """A trained classifier.

    Attributes:
        network: It.
        accuracy: On held-out images, of its own task.
        task: What it learnt: ``classes`` or ``turns``.
    """

    network: Classifier
    accuracy: Estimate
    task: str

    def features(self, x: Event) -> Seen:
        """Return what the classifier sees in scaled images, held to the range there is."""
        with torch.no_grad():
            return torch.cat([self.network.body(part.clamp(-1, 1)) for part in x.split(256)])

    def classes(self, x: Event) -> Labels:
        """Return the most likely class of each image."""
        with torch.no_grad():
            return torch.cat([self.network(p.clamp(-1, 1)).argmax(1) for p in x.split(256)])


def learnt(events: Events, steps: int = 300, seed: int = 0) -> Eye:
    """Train a classifier on what is learnt from; equal arguments, equal weights.

    Raises:
        ValueError: The events are no images, or no square ones where there are no labels.
    """
    labelled = events.labels is not None
    _check(events, labelled)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(events.shape[0], events.classes if labelled else _TURNS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE)
    side = events.learnt
    for step in range(steps):
        rows = rows_of(seed, step, _BATCH, len(side.values))
        x, y = _task(side.values[rows], None if side.labels is None else side.labels[rows])
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    found = Eye(network, Estimate(0.0, 0.0, 0, "share"), "classes" if labelled else "turns")
    kept = events.kept
    x, y = _task(kept.values[:_MOST], None if kept.labels is None else kept.labels[:_MOST])
    return found._replace(accuracy=averaged((found.classes(x) == y).double(), "share"))


def _task(values: Event, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return images and their classes; without labels a quarter each is turned 0 to 3 times."""
    if labels is not None:
        return values, labels
    turns = torch.arange(len(values)) % _TURNS
    turned = [row.rot90(int(k), (1, 2)) for row, k in zip(values, turns, strict=True)]
    return torch.stack(turned), turns


def _check(events: Events, labelled: bool) -> None:
    if len(events.shape) != 3:
        raise EventsError(
            f"events of shape {events.shape} are no images; give [channels, height, width]."
        )
    if not labelled and events.shape[1] != events.shape[2]:
        raise EventsError(
            f"images {events.shape[1:]} without labels must be square, so that they can be turned."
        )

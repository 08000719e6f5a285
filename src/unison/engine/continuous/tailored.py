"""Can a condition have a network of its own size? Pruning tailored to classes or texts.

APTP (Ganjdanesh et al., 2024, arXiv:2406.12042). The network's weights stay; what is learned is a
router from conditions to a few codes of gates, so that what the gated network loses is least within
a budget of work. Each code is then exported as a smaller dense network. Differs: gates switch the
groups of ``sites``, a whole branch where all of its groups are shut; the logits have a threshold at
which the codes, used evenly, meet the budget at every step, so that the resource loss only holds
what the gates' noise adds; this noise fades to none, so that the last steps see what is exported;
distillation is of answers alone.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unison.engine.continuous import routing, sites
from unison.engine.continuous.routing import Router
from unison.engine.continuous.sites import Cost, Site
from unison.event_denoising import over
from unison.event_model import EventModel
from unison.objectives.continuous import EventBatch, LevelLaw, LogNormal, Weight
from unison.objectives.continuous.batch import SITE_DROPPED, check_share, noise_of
from unison.objectives.continuous.weights import Balanced
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, Level

_SITE_GATES = 0x47415445  # apart from the draws of objectives


@dataclass(frozen=True)
class Tailoring:
    """A run that learns who may leave out what.

    Attributes:
        experts: Codes, and networks at the end.
        budget: Share of the work that is to be left, on average.
        groups: Of hidden layers without heads and group norms.
        steps: Of training.
        learning_rate: Adam's.
        distil: Weight of the squared difference from the whole network.
        resource: Weight of |log(work left / budget)|.
        contrast: Weight of keeping unlike conditions apart.
        temperature: Of the gates.
        likeness: Temperature of cosines, in the contrast and in the choice of codes.
        epsilon: Of the optimal transport.
        dropout: Probability that a row's label is left unsaid.
        seed: Of the router's first weights.
        levels: How often each level is trained.
        weight: How much an error counts at each level.
    """

    experts: int = 8
    budget: float = 0.6
    groups: int = 8
    steps: int = 500
    learning_rate: float = 1e-2
    distil: float = 0.2
    resource: float = 2.0
    contrast: float = 1.0
    temperature: float = 0.4
    likeness: float = 0.1
    epsilon: float = 0.05
    dropout: float = 0.1
    seed: int = 0
    levels: LevelLaw = field(default_factory=LogNormal)
    weight: Weight = field(default_factory=Balanced)

    def __post_init__(self) -> None:
        if min(self.experts, self.groups, self.steps) < 1:
            raise ValueError(
                "experts, groups and steps must be at least 1, got "
                f"{self.experts}, {self.groups} and {self.steps}."
            )
        if not 0 < self.budget <= 1:
            raise ValueError(f"budget must be in (0, 1], got {self.budget}.")
        if min(self.learning_rate, self.temperature, self.likeness, self.epsilon) <= 0:
            raise ValueError("learning_rate, temperature, likeness and epsilon must be above 0.")
        check_share("dropout", self.dropout)


class Losses(NamedTuple):
    """What one step showed.

    Attributes:
        denoising: The objective, of the gated network.
        distillation: From the whole network's answers, with the same weight.
        left: Share of the work left, on average over the batch.
        contrast: Of the router.
    """

    denoising: Float[Tensor, ""]
    distillation: Float[Tensor, ""]
    left: Float[Tensor, ""]
    contrast: Float[Tensor, ""]


class Found(NamedTuple):
    """What a run learned.

    Attributes:
        router: From conditions to codes.
        sites: Where the network is gated.
        cost: What its groups cost.
        kept: For each expert, which groups.
        expert: Of each class; the last of none said.
    """

    router: Router
    sites: tuple[Site, ...]
    cost: Cost
    kept: Bool[Tensor, "N G"]
    expert: tuple[int, ...]


class Tailored(nn.Module):
    """A network of experts: each row is answered by that of its class (``types.EventNetwork``).

    Attributes:
        experts: Dense networks.
        expert: Of each class; the last of none said.
    """

    expert: Int[Tensor, " C"]

    def __init__(self, experts: list[nn.Module], expert: tuple[int, ...]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.register_buffer("expert", torch.tensor(expert))

    def forward(
        self,
        x: Event,
        noise: Level,
        label: Int[Tensor, " B"] | None = None,
        beside: Float[Tensor, "B ..."] | None = None,
    ) -> Event:
        """Ask each expert about its rows."""
        none = len(self.expert) - 1
        told = torch.full((len(x),), -1, device=x.device) if label is None else label
        chosen = self.expert[torch.where(told < 0, none, told)]
        order, answers = [], []
        for number in chosen.unique().tolist():
            rows = (chosen == number).nonzero()[:, 0]
            given = None if beside is None else beside[rows]
            answers.append(
                self.experts[number](
                    x[rows], noise[rows], None if label is None else label[rows], given
                )
            )
            order.append(rows)
        return torch.cat(answers)[torch.cat(order).argsort()]


def tailor(
    model: EventModel,
    config: Tailoring,
    batches: Callable[[int], tuple[EventBatch, Key]],
    vectors: Float[Tensor, "C E"] | None = None,
    observe: Callable[[int, Losses], None] = lambda step, losses: None,
) -> Found:
    """Learn which groups each class may leave out.

    Args:
        model: With classes; its weights stay as they are.
        config: The run.
        batches: The clean events of a step, and their streams.
        vectors: What is known of each class, and last of none said, such as texts' embeddings;
            ``None`` for classes that are all alike.
        observe: Called after every step; cannot change the run.

    Raises:
        ValueError: The model knows no classes, there are other than one vector for each and one
            for none, or there are more experts than these.
    """
    known = torch.eye(model.classes + 1) if vectors is None else vectors
    _check(model, config, known)
    learner = _learner(model, config, known)
    router = learner.router
    optimizer = torch.optim.Adam(router.parameters(), lr=config.learning_rate)
    for step in range(config.steps):
        left = 1 - step / config.steps
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * left
        losses = _losses(learner, config, batches(step), left)
        total = (
            losses.denoising
            + config.distil * losses.distillation
            + config.resource * (losses.left / config.budget).log().abs()
            + config.contrast * losses.contrast
        )
        optimizer.zero_grad(set_to_none=True)
        total.backward(inputs=list(router.parameters()))
        optimizer.step()
        observe(step, losses)
    cost = learner.cost
    kept = routing.within(router.codes, cost.groups / cost.total, config.budget)
    return Found(router, learner.sites, cost, kept, router.experts(config.epsilon))


def exported(model: EventModel, found: Found) -> EventModel:
    """Return the model with a smaller dense network for each expert, and each class with its own.

    An expert's network is ``network.experts[n]``; it can be trained further on its classes.
    """
    experts = [sites.cut(model.network, found.sites, kept) for kept in found.kept]
    network = Tailored(experts, found.expert)
    network.config = model.config
    return dataclasses.replace(model, network=network.eval())


class _Learner(NamedTuple):
    """What learns, of which model."""

    model: EventModel
    router: Router
    sites: tuple[Site, ...]
    cost: Cost


def _learner(model: EventModel, config: Tailoring, known: Tensor) -> _Learner:
    kind = next(model.network.parameters())
    channels = (model.shape[0], model.config.beside_channels)
    x, beside = (kind.new_zeros(1, count, *model.shape[1:]) for count in channels)

    def ask(network: nn.Module) -> object:
        return network(x, kind.new_zeros(1), None, beside if channels[1] else None)

    model.network.eval()
    found = sites.sites_of(model.network, config.groups)
    cost = sites.cost_of(model.network, found, ask)
    if not config.budget > (least := cost.share(torch.zeros(len(cost.groups))).item()):
        raise ValueError(
            f"a budget of {config.budget} cannot be met: {least:.3f} of the work is in parts that "
            "are never left out."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _Learner(model, Router(known, len(cost.groups), config.experts), found, cost)


def _losses(
    learner: _Learner, config: Tailoring, shown: tuple[EventBatch, Key], left: float
) -> Losses:
    """Show the gated and the whole network the same noisy events.

    Args:
        learner: What learns.
        config: The run.
        shown: Clean events and their streams.
        left: Of the gates' noise.
    """
    model, router = learner.model, learner.router
    batch, key = shown
    label = batch.label
    if label is None:
        raise ValueError("the events must have labels: experts are for classes.")
    u = rng.uniform(key, SITE_DROPPED, 1)[:, 0]
    label = torch.where(u < config.dropout, -1, label)
    vectors = router.vectors[torch.where(label < 0, len(router.vectors) - 1, label)]
    gates = _gates(learner, config, vectors, (key, left))
    low, high = (torch.full_like(batch.strata, end) for end in model.span)
    level = config.levels.draw(model.process, batch.strata, low, high)
    s = level.to(batch.events.dtype)
    y = batch.events + over(s, batch.events) * noise_of(batch, key)
    denoise = model.denoiser(label, batch.beside, gradients=True)
    with torch.no_grad():
        whole = denoise(y, s)
    with sites.gated(model.network, learner.sites, gates):
        answer = denoise(y, s)
    weight = over(config.weight(level), y)
    return Losses(
        (weight * (answer - batch.events).square()).mean(),
        (weight * (answer - whole).square()).mean(),
        learner.cost.share(gates).mean(),
        routing.contrast(vectors, router.wishes(vectors), config.likeness),
    )


def _gates(
    learner: _Learner, config: Tailoring, vectors: Tensor, drawn: tuple[Key, float]
) -> Tensor:
    """Return the gates of each row: those of its code, with noise."""
    router, (key, left) = learner.router, drawn
    u = rng.uniform(key, _SITE_GATES, router.codes.shape[1])
    noise = left * (u.log() - (-u).log1p()).to(router.codes.dtype)
    chosen = router.chosen(vectors, config.epsilon, config.likeness)
    logits = chosen @ router.codes - _threshold(learner, config)
    return routing.switched(logits, noise, config.temperature)


def _threshold(learner: _Learner, config: Tailoring) -> Tensor:
    cost = learner.cost
    return routing.threshold(learner.router.codes, cost.groups / cost.total, config.budget)


def _check(model: EventModel, config: Tailoring, vectors: Tensor) -> None:
    classes = model.classes
    if not classes:
        raise ValueError("the model knows no classes, so there is nothing to tailor it to.")
    if vectors.ndim != 2 or len(vectors) != classes + 1:
        raise ValueError(
            f"there must be {classes + 1} vectors, one for each class and one for none said, got "
            f"shape {tuple(vectors.shape)}."
        )
    if config.experts > classes + 1:
        raise ValueError(
            f"{config.experts} experts are more than the {classes + 1} conditions; take fewer."
        )

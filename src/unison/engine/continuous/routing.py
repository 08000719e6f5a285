"""Which expert answers which condition? A router that learns codes of gates and shares them evenly.

APTP (Ganjdanesh et al., 2024, arXiv:2406.12042). A condition's vector is turned into a wish for an
architecture; each of N codes is an architecture, one logit a gate; optimal transport between wishes
and codes uses all codes alike.
"""

import torch
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

_TOLERANCE, _MOST, _HALVINGS = 1e-5, 200, 40
_LEAST = -1e4  # stands for the logarithm of 0


def sinkhorn(scores: Float[Tensor, "B N"], epsilon: float) -> Float[Tensor, "B N"]:
    """Return the plan that gives rows to columns evenly, of the largest score and some entropy.

    Each row sums to 1 / B, and each column to 1 / N up to a part in 1e5: what Sinkhorn's rounds go
    to (Cuturi, 2013, arXiv:1306.0895), found by Newton's method on a price for each column, since
    the rounds take thousands where rows are alike.

    Args:
        scores: How well they go together.
        epsilon: Weight of the entropy: near 0, each row goes to few columns.

    Raises:
        ValueError: Epsilon is not above 0, a score is not finite, or the plan does not settle.
    """
    rows, columns = scores.shape
    if not epsilon > 0 or not bool(scores.isfinite().all()):
        raise ValueError(f"scores must be finite and epsilon above 0, got epsilon {epsilon}.")
    log = scores.detach().double() / epsilon
    price = log.new_zeros(columns)
    for _ in range(_MOST):
        shares = (log - price).softmax(1)
        over = shares.mean(0) - 1 / columns
        if over.abs().max().item() * columns <= _TOLERANCE:
            return shares / rows
        price = _cheaper(log, price, over, _newton(shares, over))
    raise ValueError(f"the plan does not settle; raise epsilon, which is {epsilon}.")


def _newton(shares: Float[Tensor, "B N"], over: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return Newton's step of the prices, damped by how far the columns are off."""
    rows, columns = shares.shape
    curvature = shares.mean(0).diag() - shares.T @ shares / rows
    damping = 1e-3 * over.abs().max() * torch.eye(columns, dtype=shares.dtype)
    return torch.linalg.solve(curvature + damping, over)


def _cheaper(log: Tensor, price: Tensor, over: Tensor, step: Tensor) -> Tensor:
    """Return prices of a lower cost: the step, halved as often as it takes (Armijo's rule)."""
    before, slope = _cost(log, price), (over * step).sum()
    for halving in range(_HALVINGS):
        size = 0.5**halving
        if _cost(log, price + size * step) <= before - 1e-4 * size * slope:
            break
    return price + size * step


def _cost(log: Tensor, price: Tensor) -> Tensor:
    """Return the dual cost; its gradient is how far columns are below their share."""
    return (log - price).logsumexp(1).mean() + price.mean()


class Router(nn.Module):
    """Conditions in, gates out.

    Attributes:
        vectors: What is known of each condition, not trained; the last is that of none said.
        codes: The architectures: a logit for each gate.
    """

    vectors: Float[Tensor, "C E"]

    def __init__(
        self, vectors: Float[Tensor, "C E"], gates: int, experts: int, width: int = 64
    ) -> None:
        """Make a router; its weights come from torch's global generator, as a layer's do.

        Args:
            vectors: Of the conditions.
            gates: How many groups are switched.
            experts: How many codes.
            width: Of the hidden layer.
        """
        super().__init__()
        self.register_buffer("vectors", vectors.clone())
        self.wish = nn.Sequential(
            nn.Linear(vectors.shape[1], width), nn.SiLU(), nn.Linear(width, gates)
        )
        self.codes = nn.Parameter(torch.empty(experts, gates).normal_(std=0.5))

    def wishes(self, vectors: Float[Tensor, "B E"]) -> Float[Tensor, "B G"]:
        """Return what each condition asks for, of length 1."""
        return F.normalize(self.wish(vectors), dim=-1)

    def scores(self, vectors: Float[Tensor, "B E"]) -> Float[Tensor, "B N"]:
        """Return how near each condition's wish is to each code: cosines."""
        return self.wishes(vectors) @ F.normalize(self.codes, dim=-1).T

    def chosen(
        self, vectors: Float[Tensor, "B E"], epsilon: float, temperature: float
    ) -> Float[Tensor, "B N"]:
        """Return the code of each row as ones and zeros, with the gradient of a softmax."""
        scores = self.scores(vectors)
        soft = (scores / temperature).softmax(1)
        hard = F.one_hot(sinkhorn(scores, epsilon).argmax(1), len(self.codes))
        return hard.to(soft.dtype) + soft - soft.detach()

    @torch.no_grad()
    def experts(self, epsilon: float) -> tuple[int, ...]:
        """Return the expert of each condition; none has more than its even share, rounded up.

        A row of the plan may be split between experts: of all ways to give it to one of them, this
        is the likeliest.
        """
        plan = sinkhorn(self.scores(self.vectors), epsilon)
        rows, columns = plan.shape
        places = plan.log().repeat_interleave(-(-rows // columns), 1).clamp(min=_LEAST)
        _, chosen = linear_sum_assignment(places.numpy(), maximize=True)
        return tuple((chosen // -(-rows // columns)).tolist())


def threshold(
    codes: Float[Tensor, "N G"], shares: Float[Tensor, " G"], budget: float
) -> Float[Tensor, ""]:
    """Return the logit above which gates are open so that the codes' mean work meets a budget.

    Args:
        codes: Logits.
        shares: What each gate saves where it is shut, of the whole work.
        budget: Share of the work that is to be left.
    """
    logits, order = codes.detach().flatten().sort()
    saved = shares.repeat(len(codes))[order].to(logits.dtype) / len(codes)
    left = 1 - torch.cat([saved.new_zeros(1), saved.cumsum(0)])
    shut = int((left - budget).abs().argmin())
    ends = torch.cat([logits[:1] - 1, logits, logits[-1:] + 1])
    return (ends[shut] + ends[shut + 1]) / 2


def within(
    codes: Float[Tensor, "N G"], shares: Float[Tensor, " G"], budget: float
) -> Bool[Tensor, "N G"]:
    """Return which gates stay open so that the codes' mean work is as near a budget as can be.

    Gates are shut from the lowest logit on, those passed over that would save too much.

    Args:
        codes: Logits.
        shares: What each gate saves where it is shut, of the whole work.
        budget: Share of the work that is to be left.
    """
    saves = (shares / len(codes)).repeat(len(codes)).tolist()
    kept = torch.ones(codes.numel(), dtype=torch.bool)
    left, least = 1.0, budget - min(saves) / 2
    for gate in codes.detach().flatten().argsort().tolist():
        if left - saves[gate] >= least:
            left -= saves[gate]
            kept[gate] = False
    return kept.view_as(codes)


def switched(
    logits: Float[Tensor, "B G"], noise: Float[Tensor, "B G"], temperature: float
) -> Float[Tensor, "B G"]:
    """Return gates of 0 and 1 with the gradient of a Gumbel-sigmoid (arXiv:1611.01144).

    Args:
        logits: Of the gates, over their threshold.
        noise: Logistic draws, or zeros.
        temperature: Of the sigmoid.
    """
    soft = ((logits + noise) / temperature).sigmoid()
    return (soft > 0.5).to(soft.dtype) + soft - soft.detach()


def contrast(
    vectors: Float[Tensor, "B E"], wishes: Float[Tensor, "B G"], temperature: float
) -> Float[Tensor, ""]:
    """Return how little wishes resemble each other as their conditions do.

    Binary cross-entropy between softmaxes of cosines, of conditions and of wishes.
    """
    told, asked = (
        ((unit @ unit.T) / temperature).softmax(1)
        for unit in (F.normalize(vectors, dim=-1), F.normalize(wishes, dim=-1))
    )
    return F.binary_cross_entropy(asked, told.detach())

"""Interpolants between mixtures: velocity and score in closed form, one law by ODE and by SDE."""

from itertools import pairwise

import pytest
import torch

from unison.decode.continuous.transport import transport
from unison.exact.distances import directions, sliced_wasserstein
from unison.exact.interpolants import ExactInterpolant
from unison.exact.zoo import gmm5, random_mixture
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous.interpolant import NOISES, PATHS, Interpolant, regression

F64 = torch.float64
CHOICES = [
    *[Interpolant(p, n) for p in ("linear", "trigonometric") for n in ("root", "parabola", "sine")],
    Interpolant("encoding_decoding", "sine", scale=0.8),
    Interpolant("one_sided", "remaining"),
    Interpolant("mirror", "root"),
]
FIRST, SECOND = gmm5(), random_mixture(1, components=3)
ROWS = 800
ALONG = directions(Key(rng.rows(9, 0, 32)), 2)


def time(value: float, rows: int = 1) -> torch.Tensor:
    return torch.full((rows,), value, dtype=F64)


def test_every_path_and_noise_is_tested() -> None:
    assert {choice.path for choice in CHOICES} == set(PATHS)
    assert {choice.noise for choice in CHOICES} == set(NOISES)


@pytest.mark.parametrize("blend", CHOICES, ids=str)
def test_rates_are_derivatives_and_ends_are_the_sets(blend: Interpolant) -> None:
    t = torch.tensor([0.13, 0.37, 0.61, 0.9], dtype=F64)
    for early, late, rate in zip(
        blend.at(t - 1e-6), blend.at(t + 1e-6), blend.rate(t), strict=True
    ):
        assert torch.allclose((late - early) / 2e-6, rate, atol=1e-6)
    ends = torch.stack(blend.at(torch.tensor([0.0, 1.0], dtype=F64)))
    starts = {"one_sided": [0.0, 0.0, 1.0], "mirror": [0.0, 1.0, 0.0]}
    first = torch.tensor(starts.get(blend.path, [1.0, 0.0, 0.0]), dtype=F64)
    assert torch.allclose(ends[:, 0], first, atol=1e-12)
    assert torch.allclose(ends[:, 1], torch.tensor([0.0, 1.0, 0.0], dtype=F64), atol=1e-12)


@pytest.mark.parametrize("blend", CHOICES, ids=str)
def test_the_score_is_that_of_the_law_and_the_velocity_moves_it(blend: Interpolant) -> None:
    """grad log p_t = -E[z | x_t] / gamma, and d log p / dt = -div b - b . grad log p."""
    exact = ExactInterpolant(FIRST, SECOND, blend)
    x = rng.normal(Key(rng.rows(1, 0, 9)), 3, 2)
    level = time(0.0, len(x))
    for t in (0.2, 0.4, 0.77):
        velocity, noise = exact(x, time(t, len(x)))
        score = torch.func.grad(lambda at, t=t: exact.law(t).log_prob(at, level).sum())(x)
        gamma = blend.at(time(t)).noise
        assert torch.allclose(-noise / gamma, score, atol=1e-8)
        slope = torch.func.jacrev(lambda at, t=t: exact(at, time(t, len(x)))[0].sum(0))(x)
        spread = slope.diagonal(dim1=0, dim2=2).sum(-1)
        late, early = (exact.law(t + step).log_prob(x, level) for step in (1e-5, -1e-5))
        moved = (late - early) / 2e-5
        assert torch.allclose(moved, -spread - (velocity * score).sum(1), atol=1e-5, rtol=1e-5)


@pytest.mark.law
@pytest.mark.parametrize("blend", CHOICES, ids=str)
def test_losses_are_least_at_the_conditional_means(blend: Interpolant) -> None:
    """An error d of the answer costs |d|^2 / 2 more on average, whatever d is of x_t."""
    rows = 20_000
    exact = ExactInterpolant(FIRST, SECOND, blend)
    first, second = (
        FIRST.sample(Key(rng.rows(2, 0, rows))),
        SECOND.sample(Key(rng.rows(3, 0, rows))),
    )
    key = Key(rng.rows(4, 0, rows))
    t = 0.05 + 0.9 * rng.uniform(key, 5, 1)[:, 0]
    middle = blend.between(first, second, rng.normal(key, 6, 2), t)
    error = 0.5 * torch.sin(2 * middle.x) + 0.3
    for answer, target in zip(exact(middle.x, t), (middle.velocity, middle.noise), strict=True):
        more = regression(answer + error, target) - regression(answer, target)
        surplus = more - error.square().sum(1) / 2
        assert abs(surplus.mean()) < 5.5 * surplus.std() / rows**0.5


def carried(
    blend: Interpolant, marks: list[float], start: torch.Tensor, strength: float, bias: float = 0.0
) -> list[torch.Tensor]:
    """Samples at every mark after the first, ten steps between two."""
    exact, key = ExactInterpolant(FIRST, SECOND, blend), Key(rng.rows(1, 0, len(start)))

    def field(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        velocity, noise = exact(x, t)
        return velocity + bias * torch.sin(3 * x.flip(1)), noise

    def epsilon(t: float) -> float:
        return strength * blend.at(time(t)).noise.item()

    found, x = [], start
    for here, there in pairwise(marks):
        steps = [here + (there - here) * k / 10 for k in range(11)]
        streams = Key(key.seed + round(1000 * here))
        x = transport(blend, field, steps, x, streams, epsilon if strength else None)
        found.append(x)
    return found


@pytest.mark.law
@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(
    "blend",
    [Interpolant("linear", "parabola"), Interpolant("encoding_decoding", "sine")],
    ids=str,
)
def test_the_ode_and_every_sde_have_the_interpolants_marginals(
    blend: Interpolant, strength: float
) -> None:
    exact = ExactInterpolant(FIRST, SECOND, blend)
    marks = [0.0, 0.25, 0.5, 0.75, 1.0]
    start, end = (law.sample(Key(rng.rows(5, 0, ROWS))) for law in (FIRST, SECOND))
    for way, rows in ((marks, start), (marks[::-1], end)):
        for t, x in zip(way[1:], carried(blend, way, rows, strength), strict=True):
            drawn = exact.law(t).sample(Key(rng.rows(7, 0, 8 * ROWS)))
            assert sliced_wasserstein(x, drawn, ALONG) < 0.25, (
                t
            )  # 1 % of the rows in another component make 0.1


def test_noise_without_its_score_changes_the_law() -> None:
    """The control: the same diffusion with the drift of the ODE alone is caught."""
    blend = Interpolant("linear", "parabola")
    exact = ExactInterpolant(FIRST, SECOND, blend)

    def field(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        velocity, noise = exact(x, t)
        return velocity, 0 * noise

    start = FIRST.sample(Key(rng.rows(5, 0, ROWS)))
    steps = [k / 20 for k in range(21)]
    end = transport(
        blend, field, steps, start, Key(rng.rows(1, 0, ROWS)), lambda t: 8 * t * (1 - t)
    )
    drawn = exact.law(1.0).sample(Key(rng.rows(7, 0, 8 * ROWS)))
    assert sliced_wasserstein(end, drawn, ALONG) > 0.4


@pytest.mark.law
def test_noise_forgets_an_error_of_the_velocity() -> None:
    """The same perturbed drift: with noise the end is nearer to the second set."""
    blend = Interpolant("linear", "sine")
    start = FIRST.sample(Key(rng.rows(5, 0, ROWS)))
    drawn = SECOND.sample(Key(rng.rows(7, 0, 8 * ROWS)))
    marks = [0.0, 0.25, 0.5, 0.75, 1.0]
    ends = [
        sliced_wasserstein(carried(blend, marks, start, much, 0.5)[-1], drawn, ALONG).item()
        for much in (0.0, 1.0, 4.0)
    ]
    assert ends[1] < 0.85 * ends[0]
    assert ends[2] < 0.85 * ends[0]


def test_rows_never_see_their_batch() -> None:
    blend = Interpolant("linear", "sine")
    exact = ExactInterpolant(FIRST, SECOND, blend)
    start, key = FIRST.sample(Key(rng.rows(5, 0, 6))), Key(rng.rows(1, 0, 6))
    steps, few = [0.0, 0.3, 0.7, 1.0], torch.tensor([4, 1])
    whole = transport(
        blend, exact, steps, start, key, lambda t: t * (1 - t) * 0.5 if t < 1 else 0.0
    )
    some = transport(
        blend,
        exact,
        steps,
        start[few],
        Key(key.seed[few]),
        lambda t: t * (1 - t) * 0.5 if t < 1 else 0.0,
    )
    assert torch.allclose(whole[few], some, rtol=0, atol=1e-12)


def test_what_cannot_be_is_refused() -> None:
    blend = Interpolant("linear", "root")
    exact = ExactInterpolant(FIRST, SECOND, blend)
    x, key = torch.zeros(2, 2, dtype=F64), Key(rng.rows(1, 0, 2))
    with pytest.raises(ValueError, match="must be one of"):
        Interpolant("straight")
    with pytest.raises(ValueError, match="scale must be"):
        Interpolant(scale=-1.0)
    with pytest.raises(ValueError, match="use both or neither"):
        Interpolant("one_sided", "root")
    for times, word in (
        ([0.5], "two times"),
        ([0.2, 0.6, 0.4], "rise or fall"),
        ([0.5, 1.2], "lie"),
    ):
        with pytest.raises(ValueError, match=word):
            transport(blend, exact, times, x, key)
    with pytest.raises(ValueError, match="where there is no noise"):
        transport(blend, exact, [0.0, 0.5], x, key, lambda t: 1.0)
    with pytest.raises(ValueError, match="NaN or infinity"):
        transport(blend, exact, [0.0, 0.5], x, key)

"""The Gaussian basis: exact for Gaussian data, of its order for others, and its statistics."""

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import GRIDS, Span, solve
from unison.decode.continuous.correcting import Corrector
from unison.decode.continuous.gaussian_basis import GaussianBasis
from unison.decode.continuous.gaussian_statistics import (
    Gaussian,
    channelwise,
    elementwise,
    known,
    load,
    principal,
    save,
    standard,
)
from unison.decode.continuous.panels import panels
from unison.exact.mixtures import flow
from unison.exact.zoo import gaussian16, gmm5
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving
from unison.types import Event, Level

CORRECTORS: tuple[Corrector, ...] = ("none", "reused", "fresh")


def _key(rows: int, seed: int = 5) -> Key:
    return Key(rng.rows(seed, 0, rows))


def _normal(rows: int, size: int, seed: int = 5) -> Tensor:
    return rng.normal(_key(rows, seed), 1, size)


@pytest.mark.parametrize("corrector", CORRECTORS)
@pytest.mark.parametrize("grid", ["time", "knee", "karras"])
def test_gaussian_data_are_solved_exactly_in_any_number_of_steps(
    corrector: Corrector, grid: str
) -> None:
    law = gaussian16()
    mean, covariance = law.mean(), law.covariance()
    start = 157.4 * _normal(20, 16)
    values, axes = torch.linalg.eigh(covariance)
    shrunk = ((values.clamp(min=0) + 1e-4) / (values.clamp(min=0) + 157.4**2)).sqrt()
    exact = mean + ((start - mean) @ axes * shrunk) @ axes.T
    for order in (1, 3):
        solver = GaussianBasis(known(mean, covariance), order, corrector)
        for count in (1, 2, 3, 7):
            levels = GRIDS[grid]().levels(Span(157.4, 0.01, VariancePreserving()), count)
            end = solve(solver, levels, law, start, _key(20)).x
            assert (end - exact).abs().max() < 1e-10


def test_images_are_solved_exactly_with_variances_of_elements_and_of_channels() -> None:
    spread = torch.tensor([0.3, 2.0], dtype=torch.float64).view(2, 1, 1)
    middle = torch.tensor([1.0, -2.0], dtype=torch.float64).view(2, 1, 1)

    def denoise(x: Event, level: Level) -> Event:
        noise = level.square().view(-1, 1, 1, 1)
        return (spread * x + noise * middle) / (spread + noise)

    start = 50 * _normal(3, 2 * 12).view(3, 2, 3, 4)
    exact = middle + (start - middle) * ((spread + 0.01) / (spread + 2500)).sqrt()
    full = Gaussian(middle.expand(2, 3, 4), spread.expand(2, 3, 4))
    for statistics in (Gaussian(middle, spread), full):
        solver = GaussianBasis(statistics, 2, "reused")
        end = solve(solver, (50.0, 3.0, 0.1), denoise, start, _key(3)).x
        torch.testing.assert_close(end, exact, rtol=1e-11, atol=1e-11)


@cache
def _reference() -> tuple[Tensor, Tensor]:
    start = 20 * _normal(30, 2)
    return start, flow(gmm5(), start, 20.0, 0.05, 800)


@pytest.mark.parametrize(
    ("order", "corrector", "expected"),
    [(1, "none", 1), (2, "none", 2), (1, "reused", 2), (2, "reused", 3), (2, "fresh", 3)],
)
def test_the_order_on_a_mixture_is_the_nominal_one(
    order: int, corrector: Corrector, expected: int
) -> None:
    law, (start, exact) = gmm5(), _reference()
    solver = GaussianBasis(known(law.mean(), law.covariance()), order, corrector, final="full")
    errors = []
    for count in (60, 240):
        levels = GRIDS["logsnr"]().levels(Span(20.0, 0.05, VariancePreserving()), count)
        end = solve(solver, levels, law, start, _key(30)).x
        errors.append((end - exact).norm(dim=1).median().item())
    assert math.log(errors[0] / errors[1]) / math.log(4) == pytest.approx(expected, abs=0.3)


def test_functions_of_a_covariance_are_those_of_the_matrix() -> None:
    mixed = _normal(6, 6, seed=8)
    covariance = mixed @ mixed.T
    x = _normal(9, 6)
    exact = x @ torch.linalg.inv(covariance + 0.7 * torch.eye(6).double())
    statistics = known(torch.zeros(6).double(), covariance)
    found = statistics.times(lambda c: 1 / (c + 0.7), x)
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-9)


def test_axes_that_are_left_out_share_the_variance_that_is_left() -> None:
    samples = _normal(500, 8, seed=3) * torch.tensor([5.0, 3, 1, 1, 1, 1, 1, 1]).double()
    samples = samples.view(500, 2, 4)
    flat = samples.flatten(1)
    few, full = principal(samples, 2), principal(samples, 8)
    values = torch.linalg.eigvalsh(torch.cov(flat.T, correction=0)).flip(0)
    torch.testing.assert_close(full.variances, values, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(few.variances, values[:2], rtol=1e-9, atol=1e-9)
    assert few.rest == pytest.approx(values[2:].mean().item())
    torch.testing.assert_close(few.mean, samples.mean(0))
    x = _normal(3, 8).view(3, 2, 4)
    whole = full.times(lambda c: c, x).flatten(1)
    torch.testing.assert_close(whole, x.flatten(1) @ torch.cov(flat.T, correction=0))
    off = few.times(lambda c: c, x).flatten(1)
    assert few.axes is not None
    inside = x.flatten(1) @ few.axes @ few.axes.T
    expected = few.rest * (x.flatten(1) - inside) + inside @ torch.cov(flat.T, correction=0)
    torch.testing.assert_close(off, expected, rtol=1e-8, atol=1e-8)


def test_variances_of_elements_and_channels_are_those_of_the_samples() -> None:
    samples = _normal(50, 24).view(50, 2, 3, 4)
    each, channels = elementwise(samples), channelwise(samples)
    torch.testing.assert_close(each.variances, samples.var(0, correction=0))
    assert channels.variances.shape == (2, 1, 1)
    one = samples[:, 1].flatten()
    assert channels.mean[1].item() == pytest.approx(one.mean().item())
    assert channels.variances[1].item() == pytest.approx(one.var(correction=0).item())


def test_statistics_come_back_from_their_file(tmp_path: Path) -> None:
    samples = _normal(50, 8)
    start = 30 * _normal(4, 8)
    for made in (principal(samples, 3), elementwise(samples), standard()):
        path = tmp_path / "gaussian.safetensors"
        save(made, path)
        back = load(path)
        assert torch.equal(made.mean, back.mean)
        assert made.rest == back.rest
        same = [one.denoised(start, 2.0) for one in (made, back)]
        assert torch.equal(same[0], same[1])
    (tmp_path / "no.safetensors").write_text("no")
    with pytest.raises(ValueError, match="no safetensors file"):
        load(tmp_path / "no.safetensors")


def test_statistics_of_other_events_are_refused() -> None:
    start = 30 * _normal(4, 8)
    for wrong in (principal(_normal(50, 6), 2), elementwise(_normal(50, 6))):
        with pytest.raises(ValueError, match=r"these statistics are of events \(6,\)"):
            wrong.away(start)
    with pytest.raises(ValueError, match="axes must be from 1 to 6"):
        principal(_normal(50, 6), 7)
    with pytest.raises(ValueError, match="variances must be at least 0"):
        Gaussian(torch.zeros(2), -torch.ones(2))
    with pytest.raises(ValueError, match="one variance for each column"):
        Gaussian(torch.zeros(2), torch.ones(1), torch.eye(2))


def test_panels_integrate_to_every_point_in_both_directions() -> None:
    for first, last in ((0.0, 9.0), (4.0, -5.0), (0.0, 0.3)):
        area = panels(first, last)
        values = torch.cos(area.points)
        assert area.integral(values).item() == pytest.approx(
            math.sin(last) - math.sin(first), abs=1e-13
        )
        running = area.integrals(values)
        torch.testing.assert_close(
            running, torch.sin(area.points) - math.sin(first), rtol=0, atol=1e-13
        )

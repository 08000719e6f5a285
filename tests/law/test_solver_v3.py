"""DPM-Solver-v3: its special cases, Gaussian data, and statistics measured on models."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import GRIDS, Span, solve
from unison.decode.continuous.correcting import Corrector
from unison.decode.continuous.dpm_solver_v3 import Constant, DPMSolverV3, OfGaussian
from unison.decode.continuous.gaussian_statistics import Gaussian, known
from unison.decode.continuous.multistep import Multistep
from unison.decode.continuous.unipc import UniPC
from unison.decode.continuous.v3_statistics import Table, load, save, statistics
from unison.exact.mixtures import flow, gaussian
from unison.exact.zoo import gmm5, guided, ring8
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving

HIGH, LOW = 157.4, 0.01
SPAN = Span(HIGH, LOW, VariancePreserving())
CORRECTORS: tuple[Corrector, ...] = ("none", "reused", "fresh")
VARIANCES = torch.tensor([0.3, 1e-4, 4.0], dtype=torch.float64)
MEAN = torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64)


def _key(rows: int, seed: int = 5) -> Key:
    return Key(rng.rows(seed, 0, rows))


def _start(rows: int, size: int, seed: int = 5) -> Tensor:
    return HIGH * rng.normal(_key(rows, seed), 1, size)


def _levels(count: int, grid: str = "time") -> tuple[float, ...]:
    return GRIDS[grid]().levels(SPAN, count)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_constant_coefficients_are_the_data_and_the_noise_basis(order: int) -> None:
    start = _start(30, 2)
    for coefficients, basis in ((Constant(), "data"), (Constant(0.0, -1.0), "noise")):
        ours = DPMSolverV3(coefficients, order, "none")
        found = solve(ours, _levels(8), gmm5(), start, _key(30)).x
        plain = solve(Multistep(order, basis), _levels(8), gmm5(), start, _key(30)).x  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(found, plain, rtol=1e-9, atol=1e-9)


def test_the_reused_corrector_in_the_data_basis_is_that_of_unipc() -> None:
    # from the third prediction on; two evaluations UniPC weighs by its own rule, so compare one
    # corrected step in the middle of a run
    states, solver = [], UniPC(3, final="full")
    solve(solver, _levels(9), gmm5(), _start(30, 2), _key(30), lambda i, s: states.append(s))
    ours = DPMSolverV3(order=3, final="full").step(
        _levels(9), gmm5(), states[5], Key(_key(30).seed, 5)
    )
    torch.testing.assert_close(ours.x, states[6].x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("corrector", CORRECTORS)
def test_gaussian_data_are_solved_exactly_in_any_number_of_steps(corrector: Corrector) -> None:
    law, start = gaussian(MEAN, torch.diag(VARIANCES)), _start(20, 3)
    shrunk = ((VARIANCES + LOW**2) / (VARIANCES + HIGH**2)).sqrt()
    exact = MEAN + (start - MEAN) * shrunk
    for order in (1, 3):
        solver = DPMSolverV3(OfGaussian(Gaussian(MEAN, VARIANCES)), order, corrector)
        for count in (1, 2, 5, 20):
            end = solve(solver, _levels(count), law, start, _key(20)).x
            assert (end - exact).abs().max() < 1e-10


def test_the_closed_form_carries_noise_as_its_own_flow_does() -> None:
    points = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    wide = 1e-5
    of = OfGaussian(Gaussian(MEAN, VARIANCES))

    def carried(at: Tensor) -> Tensor:
        return -of.at(at, MEAN[None]).linear * MEAN  # N of any event

    slope = (carried(points + wide) - carried(points - wide)) / (2 * wide)
    torch.testing.assert_close(
        slope, of.at(points, MEAN[None]).scale * carried(points), rtol=1e-7, atol=1e-8
    )


def test_pseudo_differences_agree_up_to_order_two_and_differ_by_the_cubic_term() -> None:
    start = _start(10, 2)

    def end(order: int, differences: str, count: int) -> Tensor:
        solver = DPMSolverV3(
            order=order,
            corrector="none",
            differences="true" if differences == "true" else "pseudo",
            final="full",
        )
        return solve(solver, _levels(count, "logsnr"), gmm5(), start, _key(10)).x

    torch.testing.assert_close(end(2, "true", 9), end(2, "pseudo", 9), rtol=1e-9, atol=1e-9)
    gaps = [
        (end(3, "true", count) - end(3, "pseudo", count)).norm(dim=1).median().item()
        for count in (80, 240)
    ]
    assert math.log(gaps[0] / gaps[1]) / math.log(3) == pytest.approx(2, abs=0.3)


def test_statistics_of_gaussian_data_are_the_closed_form() -> None:
    law, start = gaussian(MEAN, torch.diag(VARIANCES)), _start(64, 3)
    table = statistics(law, start, _levels(120, "logsnr"), _key(64))
    exact = OfGaussian(Gaussian(MEAN, VARIANCES)).at(table.lam, start)
    torch.testing.assert_close(table.linear, exact.linear, rtol=1e-9, atol=1e-9)
    # N is the same in every row, so that its slope is all in b
    assert not table.scale.any()
    slope = exact.scale * -exact.linear * MEAN
    torch.testing.assert_close(table.bias[2:-2], slope[2:-2], rtol=0.02, atol=2e-3)


def test_the_linear_coefficient_is_the_mean_diagonal_of_the_jacobian() -> None:
    law, start = gmm5(), _start(2000, 2)
    levels = (HIGH, 1.0, 0.5)
    table = statistics(law, start, levels, _key(2000), probes=4)
    at_one = torch.full((2000,), 1.0, dtype=torch.float64)
    first = law(start, torch.full((2000,), HIGH, dtype=torch.float64))
    x = start + (1.0 - HIGH) * (start - first) / HIGH
    _, variances = law.moments(x, at_one)  # Tweedie: dD/dy = Cov / s^2
    torch.testing.assert_close(table.linear[1], 1 - variances.mean(0), rtol=0, atol=0.03)


@pytest.mark.parametrize(("law", "factor"), [("guided", 0.2), ("ring8", 1.0)])
def test_measured_statistics_beat_the_plain_bases_on_new_starts(law: str, factor: float) -> None:
    denoise = guided() if law == "guided" else ring8()
    table = statistics(denoise, _start(128, 2, seed=77), _levels(150, "logsnr"), _key(128, 77))
    start = _start(300, 2)
    exact = flow(denoise, start, HIGH, LOW, 300)

    def error(solver: DPMSolverV3 | UniPC | Multistep, count: int) -> float:
        end = solve(solver, _levels(count), denoise, start, _key(300)).x
        return (end - exact).square().sum(1).mean().sqrt().item()

    for count in (8, 15):
        plain = min(error(UniPC(3), count), error(Multistep(3), count))
        assert error(DPMSolverV3(table, 3), count) < factor * plain


def test_a_table_comes_back_from_its_file_and_interpolates(tmp_path: Path) -> None:
    lam = torch.tensor([-2.0, 0.0, 1.0], dtype=torch.float64)
    parts = [torch.arange(6.0).double().view(3, 2) + shift for shift in (0, 10, 20)]
    table = Table(lam, *parts)
    save(table, tmp_path / "v3.safetensors")
    back = load(tmp_path / "v3.safetensors")
    points = torch.tensor([-3.0, -1.0, 0.25, 5.0], dtype=torch.float64)
    found = back.at(points, torch.zeros(1, 2).double())
    expected = torch.tensor([[0.0, 1], [1, 2], [2.5, 3.5], [4, 5]]).double()
    torch.testing.assert_close(found.linear, expected)
    torch.testing.assert_close(found.bias, expected + 20)


def test_wrong_statistics_are_refused(tmp_path: Path) -> None:
    two = torch.zeros(2, 3).double()
    lam = torch.tensor([0.0, 1.0]).double()
    with pytest.raises(ValueError, match="must fall"):
        Table(lam.flip(0), two, two, two)
    with pytest.raises(ValueError, match="must be alike"):
        Table(lam, two, two, two[:1])
    with pytest.raises(ValueError, match="these statistics are of events"):
        Table(lam, two, two, two).at(lam, torch.zeros(1, 4).double())
    with pytest.raises(ValueError, match="elements one by one"):
        OfGaussian(known(MEAN, torch.diag(VARIANCES)))
    with pytest.raises(ValueError, match="three levels above 0"):
        statistics(gmm5(), _start(2, 2), (1.0, 0.0), _key(2))
    (tmp_path / "no").write_text("no")
    with pytest.raises(ValueError, match="no safetensors file"):
        load(tmp_path / "no")

"""Programs of per-step choices: their solver, their files, and the search for the best one."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import GRIDS, Span, solve
from unison.decode.continuous.api import Past
from unison.decode.continuous.exponential import advanced, order_at
from unison.decode.continuous.fitted import (
    Choice,
    Evolution,
    Program,
    Programmed,
    beginnings,
    error_of,
    load_program,
    plain,
    reference,
    search_program,
)
from unison.decode.continuous.fitted.programs import weights_of
from unison.exact.mixtures import gaussian
from unison.exact.zoo import gmm5
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving
from unison.types import Event, Level

SPAN = Span(20.0, 0.05, VariancePreserving())
SMALL = Evolution(budget=60, population=10, proposed=2)


def starts(seed: int, count: int, size: int = 2, high: float = 20.0) -> Tensor:
    return high * rng.normal(Key(rng.rows(seed, 0, count)), 5, size)


@pytest.mark.parametrize("basis", ["data", "noise"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_plain_program_is_the_multistep_rule(basis: str, order: int) -> None:
    law, y, logsnr = gmm5(), starts(1, 10), GRIDS["karras"]()
    program = plain(logsnr, SPAN, 7, order, basis)  # type: ignore[arg-type]
    x = solve(Programmed(program), program.levels, law, y, Key(rng.rows(0, 0, 10))).x
    want, past, levels = y, (), program.levels
    for i in range(7):
        mean = law(want, torch.full((10,), levels[i], dtype=torch.float64))
        past = (Past(levels[i], want, mean), *past)
        used = past[: order_at(order, i, 7)]
        want = advanced(want, (levels[i], levels[i + 1]), used, basis)  # type: ignore[arg-type]
    assert torch.allclose(x, want, atol=1e-9)


def test_low_estimation_takes_each_derivative_from_the_fewest_evaluations() -> None:
    """Order 3 of the data basis by hand: slopes by divided differences, moments by parts."""
    ends, levels = (1.0, 0.4), (1.0, 2.0, 5.0)
    h, a, b = math.log(0.4), math.log(2.0), math.log(5.0)
    e = math.exp(h)
    first, second = h + 1 - e, h**2 + 2 * h + 2 - 2 * e  # integrals of -e^(h-v) v^k
    near, far = torch.tensor([-1.0, 1.0, 0.0]) / a, torch.tensor([0.0, -1.0, 1.0]) / (b - a)
    curved = (far - near) / b  # half the second derivative
    for scale in (1.0, 0.7):
        slope = {1: near, 2: near - a * curved}
        for estimation in (1, 2):
            want = torch.tensor([1 - e, 0.0, 0.0]) + scale * (
                first * slope[estimation] + second * curved
            )
            got = weights_of(ends, levels, ("data", estimation, scale))
            assert got == pytest.approx(want.tolist(), abs=1e-6)


@pytest.mark.parametrize("basis", ["data", "noise"])
def test_the_corrector_costs_nothing_and_gains_an_order(basis: str) -> None:
    values = torch.tensor([1.0, 0.3], dtype=torch.float64)
    law, y = gaussian(torch.zeros(2, dtype=torch.float64), values.diag()), starts(2, 50)
    exact = y * ((values + 0.05**2) / (values + 20.0**2)).sqrt()
    without, corrected = (
        plain(GRIDS["logsnr"](), SPAN, 40, 2, basis, corrector)  # type: ignore[arg-type]
        for corrector in (False, True)
    )
    assert error_of(corrected, law, y, exact) < 0.4 * error_of(without, law, y, exact)
    drawn = solve(Programmed(corrected), corrected.levels, law, y, Key(rng.rows(0, 0, 50)))
    assert drawn.nfe == Programmed(corrected).evaluations(40) == 40


def test_a_search_is_never_worse_than_what_it_began_with_and_is_repeatable() -> None:
    law, y = gmm5(), starts(3, 64)
    ends = reference(law, y, (20.0, 0.05), 60)
    initial = beginnings(SPAN, 4)
    found = search_program(law, y, ends, initial, SMALL)
    assert found.begun.error == min(error_of(one, law, y, ends) for one in initial)
    assert found.best.error < found.begun.error
    assert found.best.error == error_of(found.best.program, law, y, ends)
    assert found.evaluated == SMALL.budget
    assert search_program(law, y, ends, initial, SMALL) == found


def test_a_search_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    law, y = gmm5(), starts(4, 16)
    ends = reference(law, y, (20.0, 0.05), 40)
    initial, path, calls = beginnings(SPAN, 3)[:4], tmp_path / "search.json", 0

    def interrupted(x: Event, level: Level) -> Event:
        nonlocal calls
        calls += 1
        if calls == 3 * 27:
            raise KeyboardInterrupt
        return law(x, level)

    whole = search_program(law, y, ends, initial, SMALL)
    with pytest.raises(KeyboardInterrupt):
        search_program(interrupted, y, ends, initial, SMALL, path)
    kept = len(json.loads(path.read_text())["evaluated"])
    calls = 3 * 1000
    assert search_program(interrupted, y, ends, initial, SMALL, path) == whole
    assert calls - 3 * 1000 == 3 * (SMALL.budget - kept)
    with pytest.raises(ValueError, match="another path"):
        search_program(law, y, ends, initial, dataclasses.replace(SMALL, seed=1), path)


def test_a_program_survives_its_file(tmp_path: Path) -> None:
    steps = (Choice(3.0), Choice(1.0 / 3, "noise", 2, 1, True, 0.9))
    program, path = Program(steps, 0.1), tmp_path / "program.json"
    program.save(path)
    assert load_program(path) == program
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"version": 2}))
    with pytest.raises(ValueError, match="version 2"):
        load_program(path)
    path.write_text(json.dumps(content | {"steps": [{"level": 1.0, "momentum": 0.5}]}))
    with pytest.raises(ValueError, match="momentum"):
        load_program(path)
    path.write_text(json.dumps(content | {"steps": [{"level": "high"}]}))
    with pytest.raises(ValueError, match="high"):
        load_program(path)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((), "at least one choice"),
        ((Choice(2.0, "score"),), "basis must be one of"),  # type: ignore[arg-type]
        ((Choice(2.0, order=2),), "order must be from 1 to 1"),
        ((Choice(2.0), Choice(1.0, order=0)), "order must be from 1 to 2"),
        ((Choice(2.0), Choice(1.0, order=2, estimation=3)), "estimation must be"),
        ((Choice(2.0), Choice(2.5)), "fall strictly"),
        ((Choice(2.0), Choice(0.01)), "fall strictly"),
        ((Choice(2.0, scale=math.inf),), "scale must be finite"),
    ],
)
def test_impossible_programs_are_refused(choices: tuple[Choice, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Program(choices, 0.05)


def test_what_does_not_fit_together_is_refused() -> None:
    law, y = gmm5(), starts(5, 4)
    program = plain(GRIDS["logsnr"](), SPAN, 3, 2, "data")
    with pytest.raises(ValueError, match="its own levels"):
        solve(
            Programmed(program), GRIDS["karras"]().levels(SPAN, 3), law, y, Key(rng.rows(0, 0, 4))
        )
    with pytest.raises(ValueError, match="3 steps"):
        Programmed(program).evaluations(4)
    with pytest.raises(ValueError, match="ends above 0"):
        Program((Choice(1.0),), 0.0)
    with pytest.raises(ValueError, match="to begin with"):
        search_program(law, y, y, [])
    with pytest.raises(ValueError, match="one number of steps"):
        search_program(law, y, y, [program, plain(GRIDS["logsnr"](), SPAN, 4, 2, "data")])
    with pytest.raises(ValueError, match="one shape"):
        search_program(law, y, y[:2], [program])
    with pytest.raises(ValueError, match="budget"):
        Evolution(budget=0)
    with pytest.raises(ValueError, match="parents"):
        Evolution(parents=0.0)


@pytest.mark.slow
def test_a_searched_program_holds_on_fresh_starts() -> None:
    law, span = gmm5(), Span(157.4, 0.01, VariancePreserving())
    ends_of = (span.high, span.low)
    y, fresh = starts(11, 1024, high=157.4), starts(7, 2000, high=157.4)
    initial = beginnings(span, 8)
    found = search_program(law, y, reference(law, y, ends_of), initial, Evolution(budget=600))
    wanted = reference(law, fresh, ends_of)
    assert error_of(found.best.program, law, fresh, wanted) < 1.3 * found.best.error

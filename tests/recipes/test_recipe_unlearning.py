"""The audit of unlearning against a mixture whose components and labels are known exactly."""

import pytest
import torch

from unison.decode.continuous import DDIM, solve
from unison.evaluate.continuous.recovery import Attack, success
from unison.prob import rng
from unison.prob.rng import Key
from unison.recipes.continuous.unlearning import Unlearning, run

CENTRES = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0], [0.0, -4.0]])
WIDTH = 0.3
LEVELS = (10.0, 5.0, 2.5, 1.2, 0.6, 0.3, 0.15, 0.0)
ERASED = 0


class Labelled:
    """E[x_0 | y, c] of a mixture of four round components with prior weights softmax(c)."""

    def __init__(self, components):
        self.components = components

    def __call__(self, x, level, condition):
        centres = CENTRES[self.components]
        total = WIDTH**2 + level.square()[:, None]
        away = x[:, None] - centres
        scores = condition[:, self.components] - away.square().sum(-1) / (2 * total)
        shares = scores.softmax(1)
        gain = WIDTH**2 / total
        return shares @ centres + gain * (x - shares @ centres)


def came_back(model, condition):
    key = Key(rng.rows(5, 0, len(condition)))
    noise = rng.normal(key, 1, 2).float()

    def denoise(x, level):
        return model(x, level, condition)

    drawn = solve(DDIM(), LEVELS, denoise, LEVELS[0] * noise, key).x
    nearest = torch.cdist(drawn, CENTRES).argmin(1)
    return int((nearest == ERASED).sum())


def attacked(model, rows=60):
    """Search from a label that names the erased component least, as after renaming it."""
    key = Key(rng.rows(7, 0, rows))
    targets = CENTRES[ERASED] + WIDTH * rng.normal(key, 2, 2).float()
    begin = torch.tensor([-6.0, 2.0, 2.0, 2.0]).expand(rows, -1)
    assert came_back(model, begin) == 0  # before the attack the class is gone, to all appearance
    found = Attack(iterations=150, rate=0.3, draws=4, spread=3.0)(model, targets, begin, key)
    return success(came_back(model, found), rows)


def test_an_attack_brings_back_a_component_that_only_lost_its_label():
    assert attacked(Labelled([0, 1, 2, 3])).rate.value == 1.0


def test_no_attack_brings_back_a_component_that_was_deleted():
    assert attacked(Labelled([1, 2, 3])).rate.value == 0.0


def test_a_search_does_not_see_the_other_targets():
    model = Labelled([0, 1, 2, 3])
    targets, begin = CENTRES.clone(), torch.zeros(4, 4)
    attack, seeds = Attack(iterations=5), rng.rows(1, 0, 4)
    whole = attack(model, targets, begin, Key(seeds))
    alone = attack(model, targets[2:3], begin[2:3], Key(seeds[2:3]))
    torch.testing.assert_close(whole[2:3], alone)
    assert begin.abs().max() == 0


def test_rates_carry_wilsons_interval():
    found = success(8, 10)
    # (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with z = 1.959964, p = 0.8, n = 10
    assert (found.low, found.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert found.rate.value == 0.8
    assert success(0, 5).low == 0.0
    with pytest.raises(ValueError, match="no rate"):
        success(3, 2)


def small(**changes):
    return Unlearning(steps=2, unlearning_steps=2, width=8, batch_size=8, attacks=8, iterations=2,
                      nfe=3, **changes)  # fmt: skip


def test_the_audit_reports_four_models_and_goes_on_where_it_stopped(tmp_path):
    pytest.importorskip("sklearn")
    said = []
    first = run(small(), tmp_path, said.append)
    assert list(first.numbers) == ["whole", "renamed", "redirected", "anew"]
    assert first.facts["judge's accuracy"] > 0.95
    low, high = first.facts["95 % intervals"]["whole"]["its label"]
    assert low <= first.numbers["whole"]["its label"].value <= high
    assert (tmp_path / "recovered.png").stat().st_size > 1000
    again = run(small(), tmp_path, said.append)
    assert again.numbers == first.numbers


@pytest.mark.parametrize("wrong", [{"erased": 10}, {"towards": 10}])
def test_a_class_the_data_do_not_have_is_refused_before_any_work(tmp_path, wrong):
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="classes 0 to 9"):
        run(small(**wrong), tmp_path / "out", print)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"erased": 7, "towards": 7}, {"nfe": 1}, {"steps": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        Unlearning(**wrong)

"""A perfect model under the real strategies is as right as the closed forms say."""

import math

import numpy as np
import pytest
import torch
from laws import assert_count, assert_law
from oracle import parallel

from unison.bench.theory.ideal import ideal_denoiser, in_groups, simulate, strategy_spelt
from unison.decode import Strategy
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.diffusion.first_hitting import FirstHitting
from unison.decode.order import Position, Random
from unison.decode.select import Threshold
from unison.decode.temper import Temper
from unison.suites.limits.closed_forms import (
    Permutation,
    Replacement,
    even,
    groups_of,
    safe_threshold,
    sampled_threshold,
)
from unison.suites.limits.posteriors import Enumerated
from unison.suites.puzzles.waiting_line import WaitingLine
from unison.types import Focus

ROWS = 4000


def law_of(family: str, n: int = 5) -> parallel.Counted:
    return parallel.Counted(parallel.answers(family, n))


def hits(law: parallel.Counted | Enumerated, strategy: Strategy, rows: int = ROWS) -> int:
    return round(simulate(law, strategy, rows, seed=0).accuracy.value * rows)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("family", parallel.FAMILIES)
def test_random_groups_are_right_as_often_as_counted(family: str, size: int):
    oracle = parallel.Agreement(parallel.answers(family, 5))
    sizes = groups_of(oracle.length, size)
    exact = 1.0 if size == 1 else oracle.accuracy(sizes)
    found = simulate(law_of(family), in_groups(size), ROWS, seed=0)
    assert found.nfe.value == len(sizes)
    assert found.items_per_step == pytest.approx(oracle.length / len(sizes))
    assert_count(round(found.accuracy.value * ROWS), ROWS, min(exact, 1.0))


def test_replacing_at_once_is_right_four_times_in_ten():
    assert_count(hits(law_of("replace_random"), in_groups(5)), ROWS, 0.4096)


@pytest.mark.parametrize("steps", [2, 3])
def test_a_number_of_steps_divides_as_evenly_as_it_can(steps: int):
    strategy = Composed(order=Random(), steps=steps, temper=Temper(1.0))
    for family, limits in (("replace_random", Replacement(5)), ("shuffle", Permutation(5))):
        exact = limits.accuracy(even(5, steps))
        assert_count(hits(law_of(family), strategy), ROWS, exact)


def test_the_reverse_chain_is_a_mixture_of_groups():
    """Two ancestral steps: each item jumps in the first with probability 1/2."""
    limits = Replacement(5)
    exact = sum(
        math.comb(5, k) / 2**5 * limits.accuracy([size for size in (k, 5 - k) if size])
        for k in range(6)
    )
    assert_count(hits(law_of("replace_random"), Ancestral(steps=2)), ROWS, exact)


@pytest.mark.parametrize("family", parallel.FAMILIES)
def test_one_at_a_time_draws_the_law_itself(family: str):
    right = parallel.answers(family, 4)
    seen: list[tuple[int, ...]] = []

    class Watched(parallel.Counted):
        def right(self, items: np.ndarray) -> np.ndarray:
            seen.extend(map(tuple, items.tolist()))
            return super().right(items)

    found = simulate(Watched(right), FirstHitting(), ROWS, seed=0)
    assert found.accuracy.value == 1
    assert_law(seen, {y: 1 / len(right) for y in right})


@pytest.mark.parametrize(
    ("family", "share"),
    [
        ("copy", 1),
        ("replace_random", 0),
        ("shuffle", 0),
        ("insert_random", 0),
        ("remove_random", 1),
    ],
)
def test_greedy_at_once_changes_nothing_unless_something_must_go(family: str, share: int):
    assert hits(law_of(family), Composed(steps=1), rows=50) == 50 * share


@pytest.mark.parametrize("family", ["replace_random", "shuffle", "shuffle_changed"])
def test_the_threshold_rule_needs_more_than_its_bound(family: str):
    changed = family == "shuffle_changed"
    limits = Replacement(5) if family == "replace_random" else Permutation(5, changed)
    for margin, share in ((-0.001, 0), (0.001, 1)):
        strategy = Composed(select=Threshold(safe_threshold(limits) + margin))
        found = simulate(law_of(family), strategy, 20, seed=0)
        assert found.accuracy.value == share
        assert share == 0 or found.nfe.value >= 4  # one by one, but for a certain end


@pytest.mark.parametrize("threshold", [0.15, 0.3, 0.45, 0.6, 0.75, 0.85])
def test_drawing_above_a_threshold_is_right_as_often_as_derived(threshold: float):
    strategy = Composed(select=Threshold(threshold), temper=Temper(1.0))
    for family, limits in (("replace_random", Replacement(5)), ("shuffle", Permutation(5))):
        exact = sampled_threshold(limits, threshold)
        assert_count(hits(law_of(family), strategy), ROWS, min(exact, 1.0))


@pytest.mark.parametrize("size", [2, 4, 16])
def test_latin_squares_in_groups_of_neighbours(size: int):
    squares = parallel.latin()
    groups = [range(i, i + size) for i in range(0, 16, size)]
    exact = parallel.Agreement(squares).chances(groups).sum()
    strategy = Composed(order=Position(), select=Threshold(0.0, ceiling=size), temper=Temper(1.0))
    assert_count(hits(Enumerated.of(squares), strategy, rows=3000), 3000, float(exact))


def test_latin_squares_one_by_one_are_right():
    assert hits(Enumerated.of(parallel.latin()), in_groups(1), rows=200) == 200


@pytest.mark.parametrize("rule", ["replace_random", "shuffle", "insert_random", "remove_random"])
def test_laws_of_tasks_and_counted_laws_agree(rule: str):
    family = "shuffle_changed" if rule == "shuffle" else rule
    for strategy in (in_groups(2), Ancestral(steps=3)):
        ours = simulate(WaitingLine(rule, items=4).law(), strategy, 500, seed=3)
        assert ours == simulate(law_of(family, 4), strategy, 500, seed=3)


def test_the_belief_is_the_law_given_what_is_decided():
    law = law_of("replace_random", 3)
    denoise = ideal_denoiser(law, mask_id=9)
    xt = torch.tensor([[9, 9, 9], [0, 9, 9], [9, 3, 9], [3, 3, 9]])
    belief = denoise(xt, torch.ones(4)).exp()
    assert belief.dtype == torch.float32
    assert belief[0, 1].tolist() == pytest.approx([0, 2 / 3, 0, 1 / 3])
    assert belief[1, 0].tolist() == [1, 0, 0, 0]
    assert belief[1, 2].tolist() == pytest.approx([0, 0, 1 / 2, 1 / 2])
    assert belief[2, 0].tolist() == [1, 0, 0, 0]
    assert belief[3].sum(-1).tolist() == pytest.approx([1, 1, 1])  # wrong already; still a law
    places = torch.tensor([[2, 0], [0, 0], [1, 2], [0, 1]])
    focus = Focus(places, torch.tensor([[0, 3]] * 4))
    rows = torch.arange(4)[:, None]
    assert torch.equal(denoise(xt, torch.zeros(4), focus).exp(), belief[rows, places])


def test_a_shadow_leaves_the_own_item_out():
    denoise = ideal_denoiser(law_of("replace_random", 3), mask_id=4)
    xt = torch.tensor([[0, 1, 4], [0, 3, 2], [4, 4, 4]])
    focus = Focus(torch.tensor([[0, 2], [1, 0], [1, 2]]), torch.tensor([[0, 3]] * 3))
    seen, unseen = denoise.shadow(xt, torch.ones(3), focus)
    assert torch.equal(seen, denoise(xt, torch.ones(3), focus))
    assert unseen[0, 0].exp().tolist() == pytest.approx([0.5, 0, 0, 0.5])
    assert torch.equal(unseen[0, 1], seen[0, 1])  # nothing stood there
    assert unseen[1, 0].exp().tolist() == pytest.approx([0, 0, 0, 1])  # somebody has to go
    assert unseen[1, 1].exp().tolist() == pytest.approx([1, 0, 0, 0])
    assert torch.equal(unseen[2], seen[2])


def test_drafts_that_look_back_run_on_items():
    """Nothing passes WINO's threshold before two items are left that exclude each other."""
    found = simulate(law_of("shuffle"), strategy_spelt("wino"), 50, seed=0)
    assert found.accuracy.value == 1
    assert found.nfe.value == 5
    bold = simulate(law_of("shuffle"), strategy_spelt("wino:select.threshold=0.1"), 50, seed=0)
    assert bold.accuracy.value == 0  # all take the same item, and no other is likelier


def test_answers_do_not_depend_on_how_many_are_written_together(monkeypatch: pytest.MonkeyPatch):
    law = law_of("shuffle")
    whole = simulate(law, in_groups(2), 60, seed=5)
    monkeypatch.setattr("unison.bench.theory.ideal._ENTRIES", 25 * 7)
    monkeypatch.setattr("unison.bench.theory.ideal._STATES", 3)
    assert simulate(law, in_groups(2), 60, seed=5) == whole
    assert simulate(law, in_groups(2), 60, seed=6) != whole


def test_a_spelt_strategy_is_the_one_it_names():
    found = strategy_spelt("composed:order=random,steps=2,temperature=1,select=count,cache=dual")
    assert found == Composed(order=Random(), steps=2, temper=Temper(1.0))
    assert strategy_spelt("ancestral:steps=3") == Ancestral(steps=3)
    assert strategy_spelt("llada:top_p=0.5,block_length=4") == Composed(
        block_length=4, temper=Temper(top_p=0.5)
    )


@pytest.mark.parametrize(
    ("spelling", "said"),
    [
        ("left_to_right", "choose a strategy for masks"),
        ("eoser-ass", "eos_ids"),
        ("edlm", "judge"),
        ("default", "unknown strategy 'default'"),
        ("ancestral:temperature=0.5", "draws from the belief itself"),
        ("llada:stepz=3", "no setting 'stepz'"),
    ],
)
def test_what_items_cannot_do_is_refused_in_words(spelling: str, said: str):
    with pytest.raises(ValueError, match=said):
        simulate(law_of("copy"), strategy_spelt(spelling), 2, seed=0)


def test_a_mask_that_is_an_item_and_no_rows_are_refused():
    with pytest.raises(ValueError, match="3 is free"):
        ideal_denoiser(law_of("copy", 3), mask_id=2)
    with pytest.raises(ValueError, match="rows must be at least 1"):
        simulate(law_of("copy"), in_groups(1), 0, seed=0)

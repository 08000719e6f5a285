"""Every order and every selection, held to what a composed strategy relies on."""

import dataclasses
import inspect
import sys
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from sights import narrowed, ragged, rows_of, tensors
from torch.utils._python_dispatch import TorchDispatchMode

from unison.decode.order import ORDERS, Confidence, Entropy, Margin, Perturbed, Random
from unison.decode.select import SELECTS, Count, EntropyBound, Factor, Learned, Spaced, Threshold
from unison.decode.select.learned import Filter, save_filter
from unison.decode.sight import Order, Reach, Select

PARTS = ORDERS | SELECTS

# Settings that reach every branch; without an entry, the defaults.
SETTINGS = {
    "confidence": [{}, {"of": "best"}],
    "perturbed": [
        {"order": Confidence("best"), "heat": 0.5},
        {"order": Entropy(), "heat": 0.0},
        {"order": Margin(), "heat": 4.5, "log": True, "cools": True},
    ],
    "dilated": [{"base": 2}, {"base": 3}],
    "entropy_bound": [{"bound": 0.0}, {"bound": 0.5}, {"bound": float("inf")}],
    "local_leap": [{}, {"threshold": 0.6, "relaxed": 0.3, "radius": 2}],
    "shifted": [{}, {"shift": 3.0}],
    "spaced": [{}, {"select": Factor(2.0), "gap": 3}, {"select": EntropyBound(1.0)}],
    "threshold": [
        {},
        {"threshold": 0.4, "share": 0.7, "floor": 2, "ceiling": 4},
        {"threshold": 0.0, "ceiling": 3},
    ],
}

# Values a part must refuse besides NONSENSE.
REFUSED = {
    "perturbed": [{"heat": -1.0}, {"heat": float("inf")}],
    "bernoulli": [{"eps": 1.0}, {"eps": -0.1}],
    "dilated": [{"base": 1}],
    "dream": [{"eps": 1.0}],
    "entropy_bound": [{"bound": -0.1}],
    "factor": [{"factor": -1.0}, {"factor": float("inf")}],
    "learned": [{"threshold": 1.5}, {"threshold": -0.1}],
    "local_leap": [{"threshold": 1.1}, {"relaxed": 0.95}, {"relaxed": -0.1}],
    "shifted": [{"shift": 0.0}, {"shift": float("inf")}],
    "spaced": [{"gap": 0}],
    "threshold": [
        {"threshold": 1.1},
        {"threshold": -0.1},
        {"share": 0.0},
        {"share": 1.1},
        {"floor": 0},
        {"ceiling": 0},
    ],
}

NONSENSE = {int: -1, float: float("nan"), Literal: "nonsense"}  # by the type of the field

names = pytest.mark.parametrize("name", PARTS)
CASES = [(name, settings) for name in PARTS for settings in SETTINGS.get(name, [{}])]
cases = pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
order_cases = pytest.mark.parametrize(
    ("name", "settings"), [c for c in CASES if c[0] in ORDERS], ids=str
)
select_cases = pytest.mark.parametrize(
    ("name", "settings"), [c for c in CASES if c[0] in SELECTS], ids=str
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Builds a part; the learned one with a random filter, which needs a file."""
    draw = torch.Generator().manual_seed(3)
    path = tmp_path_factory.mktemp("filter") / "filter.safetensors"
    save_filter(path, Filter(*(torch.randn(s, generator=draw) for s in [(8, 8), 8] * 2)))

    def build(name, **settings):
        needs = {"path": str(path)} if name == "learned" else {}
        return PARTS[name](**needs, **settings)

    return build


def answer(part, sight):
    """What the part says: a score, or the chosen positions by confidence."""
    if isinstance(part, Order):
        return part.score(sight)
    return part.choose(sight, sight.confidence)


@names
def test_declares_itself(name, made):
    cls = PARTS[name]
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert isinstance(made(name), Order if name in ORDERS else Select)
    doc = inspect.getdoc(cls)
    assert "arXiv:" in doc
    assert all(f"{field.name}:" in doc for field in dataclasses.fields(cls))
    assert sys.modules[cls.__module__].__doc__


@pytest.mark.parametrize("name", SELECTS)
def test_says_what_it_reads_and_whether_it_follows_the_steps(name):
    assert SELECTS[name].reads in get_args(Reach)
    assert isinstance(SELECTS[name].paced, bool)


@names
def test_a_misspelt_option_is_refused(name, made):
    with pytest.raises(TypeError, match="tau"):
        made(name, tau=0.5)


def refused(part, settings):
    """Refused with a message that says which field, what was seen and what is allowed.

    Set after construction: in tests beartype would refuse a wrong Literal before we can.
    """
    for field, value in settings.items():
        object.__setattr__(part, field, value)
    with pytest.raises(ValueError, match="must") as refusal:
        part.__post_init__()
    message, field = str(refusal.value), next(iter(settings))
    assert field in message
    assert str(settings[field]) in message


@pytest.mark.parametrize(
    ("name", "settings"), [(n, s) for n, values in REFUSED.items() for s in values], ids=str
)
def test_an_invalid_value_is_refused_by_name(name, settings, made):
    refused(made(name), settings)


@names
def test_every_number_and_choice_is_checked(name, made):
    types = get_type_hints(PARTS[name])
    for field in dataclasses.fields(PARTS[name]):
        kind = get_origin(types[field.name]) or types[field.name]
        if kind in NONSENSE:
            refused(made(name), {field.name: NONSENSE[kind]})


def test_parts_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match=r"log must be False with the order Entropy.*got True"):
        Perturbed(Entropy(), log=True)
    with pytest.raises(ValueError, match=r"select must .*got Count, which writes what is due"):
        Spaced(Count())


@order_cases
def test_scores_are_numbers_and_probabilities_where_promised(name, settings, made):
    part, sight = made(name, **settings), ragged(0)
    score = part.score(sight)[sight.live]
    assert not score.isnan().any()
    assert len(score.unique()) > 20
    if part.probability:
        assert ((score >= 0) & (score <= 1)).all()


@select_cases
@pytest.mark.parametrize("seed", range(4))
def test_only_open_positions_are_chosen_and_never_none(name, settings, seed, made):
    """Where the score is highest elsewhere, too: at written positions and at filled-up places."""
    sight = ragged(seed)
    score = torch.where(sight.open, sight.confidence, 2.0)
    chosen = made(name, **settings).choose(sight, score)
    assert not (chosen & ~sight.open).any()
    assert torch.equal(chosen.any(1), sight.open.any(1))


@select_cases
def test_a_lone_open_position_is_written(name, settings, made):
    sight = ragged(1)
    alone = sight.open & (sight.open.cumsum(1) == 1)
    sight = sight._replace(open=alone, confidence=sight.confidence * 0)
    assert torch.equal(made(name, **settings).choose(sight, sight.confidence), alone)


@cases
def test_a_row_does_not_see_its_batch(name, settings, made):
    """Neither the other rows nor how far they fill it up with copies."""
    part, sight = made(name, **settings), ragged(2)
    whole = answer(part, sight)
    for row in range(0, 64, 5):
        width = int(sight.live[row].sum())
        alone = narrowed(rows_of(sight, torch.tensor([row])), width)
        assert torch.equal(answer(part, alone)[0], whole[row, :width])


@cases
def test_a_part_is_pure(name, settings, made):
    part, sight = made(name, **settings), ragged(3)
    before = [tensor.clone() for tensor in tensors(sight)]
    generator = torch.get_rng_state()
    first, second = answer(part, sight), answer(part, sight)
    assert torch.equal(first, second)
    assert all(torch.equal(x, y) for x, y in zip(before, tensors(sight), strict=True))
    assert torch.equal(generator, torch.get_rng_state())


class NoWaiting(TorchDispatchMode):
    """Refuse operations whose result the host must wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in {"_local_scalar_dense", "nonzero", "masked_select", "equal"}, name
        return func(*args, **(kwargs or {}))


@cases
def test_a_part_never_waits_for_the_device(name, settings, made):
    part, sight = made(name, **settings), ragged(4)
    with NoWaiting():
        answer(part, sight)


@pytest.mark.parametrize("part", [Random(), Perturbed(heat=0.5), SELECTS["bernoulli"]()], ids=repr)
def test_chance_depends_on_the_step(part):
    sight = ragged(5)
    later = sight._replace(key=sight.key.at(1))
    assert not torch.equal(answer(part, sight), answer(part, later))


def test_a_capped_threshold_keeps_the_highest_ranked():
    """Also where ranks and confidences disagree."""
    sight = ragged(6)
    chosen = Threshold(0.3, ceiling=2).choose(sight, -sight.positions.double())
    assert (chosen.sum(1) <= 2).all()
    leftmost = sight.open & (sight.open.cumsum(1) == 1)
    assert not (leftmost & ~chosen).any()


def test_a_filter_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"path must be a filter's file, got .*which is none"):
        Learned(str(tmp_path / "absent.safetensors"))
    path = tmp_path / "junk.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="path must be a filter's file"):
        Learned(str(path))

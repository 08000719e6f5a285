"""Pairs of image and label: an exact belief gives the exact joint law, a network learns one."""

import json
import math
from dataclasses import dataclass

import laws
import numpy as np
import pytest
import torch

from unison.prob import rng
from unison.prob.rng import Key
from unison.recipes.continuous.joint import JointImages, run
from unison.recipes.continuous.jointly import classified, drawn, parted

MEANS = torch.tensor([[-1.5, 0.0], [1.0, 1.0], [1.0, -1.0]]).double()
SPREADS = torch.tensor([0.5, 0.4, 0.6]).double()
WEIGHTS = torch.tensor([0.5, 0.2, 0.3]).double()


@dataclass(frozen=True)
class Exact:
    """A mixture whose component is the label: both beliefs by Bayes' rule."""

    def __call__(self, x, level, label):
        total = SPREADS.square() + level[:, None].double().square()
        away = x.double()[:, None] - MEANS
        log = WEIGHTS.log() - away.square().sum(2) / (2 * total) - total.log()
        shares = log.log_softmax(1)
        means = MEANS + (SPREADS.square() / total)[..., None] * away
        told = torch.nn.functional.one_hot(label.clamp(min=0), 3).double()
        weights = torch.where(label[:, None] < 0, shares.exp(), told)
        return (weights[..., None] * means).sum(1).to(x.dtype), shares


def pairs(count, seed):
    draw = torch.Generator().manual_seed(seed)
    label = torch.multinomial(WEIGHTS, count, True, generator=draw)
    noise = torch.randn(count, 2, generator=draw).double()
    return MEANS[label] + SPREADS[label][:, None] * noise, label


def falling(high, low, count):
    return tuple(np.geomspace(high, low, count + 1).tolist())


def test_pairs_have_the_joint_law_wherever_the_label_is_told():
    count = 3000
    levels = falling(40.0, 0.02, 60)
    start = 40.0 * rng.normal(Key(rng.rows(0, 0, count)), 5, 2)
    for place in (25, 45):
        found = drawn(Exact(), levels, start, Key(rng.rows(1, 0, count)), place=place)
        law = dict(enumerate(WEIGHTS.tolist()))
        laws.assert_law(found.label.tolist(), law)
        for label in range(3):
            rows = found.x[found.label == label]
            error = SPREADS[label].item() / math.sqrt(len(rows))
            # six standard errors, and what 60 steps of the solver leave
            assert (rows.mean(0) - MEANS[label]).abs().max() < 6 * error + 0.02
            assert rows.std(0) == pytest.approx(SPREADS[label].expand(2), rel=0.15)


def test_the_nats_of_a_pair_are_the_same_wherever_the_label_is_told():
    clean, label = pairs(4000, 2)
    levels = falling(200.0, 0.05, 120)
    key = Key(rng.rows(3, 0, len(clean)))
    found = [parted(Exact(), clean, label, levels, place, key) for place in (0, 60, 80, 120)]
    totals = torch.stack([parts.total for parts in found])
    # paired differences have mean 0 by I-MMSE
    for row in totals[1:]:
        away = row - totals[0]
        assert abs(away.mean().item()) < 6 * away.std().item() / math.sqrt(len(away)) + 0.01
    hidden = found[0].label.mean().item()
    entropy = -(WEIGHTS * WEIGHTS.log()).sum().item()
    assert hidden == pytest.approx(entropy, abs=0.06)
    assert found[3].label.mean() < 0.5 * hidden
    assert found[0].above.abs().max() == 0
    assert found[3].below.abs().max() == 0


def test_a_clean_point_is_given_its_most_likely_label():
    assert classified(Exact(), MEANS, 0.01).tolist() == [0, 1, 2]


def test_a_label_told_outside_the_grid_is_refused():
    start = torch.zeros(2, 2).double()
    key = Key(rng.rows(0, 0, 2))
    for place in (0, 4):
        with pytest.raises(ValueError, match="inside the grid"):
            drawn(Exact(), (4.0, 2.0, 1.0, 0.5, 0.0), start, key, place=place)


@pytest.fixture
def data(tmp_path):
    """Grey pictures of two classes: bright above, or bright below."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 160)
    pictures = random.integers(0, 60, (160, 8, 8))
    for picture, label in zip(pictures, labels, strict=True):
        picture[label * 4 : label * 4 + 4] += 180
    path = tmp_path / "squares.npz"
    np.savez(path, x=pictures.astype(np.uint8), y=labels)
    return str(path)


def small(data, **changes):
    return JointImages(data=data, **{"steps": 60, "width": 8, "count": 32, "nfe": 8, **changes})


def test_a_network_learns_to_classify_and_to_obey_and_a_second_run_repeats_it(data, tmp_path):
    said = []
    first = run(small(data), tmp_path / "run", said.append)
    assert first.numbers["classifying"]["share right"].value > 0.9
    assert first.numbers["images of a class"]["share right"].value > 0.9
    assert first.numbers["pairs"]["share right"].value > 0.75
    for name in first.files:
        assert (tmp_path / "run" / name).stat().st_size > 100
    again = run(small(data), tmp_path / "run", said.append)
    assert again.numbers == first.numbers
    assert "0 of 60 steps" in said[-1]
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    right = first.numbers["classifying"]["share right"].value
    assert written["numbers"]["classifying"]["share right"]["value"] == right
    with pytest.raises(ValueError, match="other settings"):
        run(small(data, width=16), tmp_path / "run", said.append)


def test_data_without_labels_and_bad_settings_are_refused(tmp_path):
    np.save(tmp_path / "plain.npy", np.random.default_rng(0).random((32, 1, 8, 8)))
    with pytest.raises(ValueError, match="no labels"):
        run(small(str(tmp_path / "plain.npy")), tmp_path / "run", print)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="hidden"):
        JointImages(hidden=1.0)

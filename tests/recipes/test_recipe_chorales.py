"""Infilling of voices: exact against a Gaussian, and a recipe that runs on chorales of its own."""

import json

import numpy as np
import pytest
import torch

from unison.data.continuous import Reading, read
from unison.data.continuous.chorales import lowest_pitch
from unison.exact.mixtures import gaussian
from unison.recipes.continuous.chorales import Chorales, consonance, run
from unison.recipes.continuous.infilling import fitted, misses
from unison.recipes.continuous.midi import write_midi


@pytest.fixture
def pieces(tmp_path):
    """Four voices that move together, a chord at a time, in a random key."""
    draw = np.random.default_rng(0)
    made = []
    for _ in range(20):
        steps = 50 + draw.integers(0, 4, 16)
        made.append([[int(p), int(p) + 4, int(p) + 7, int(p) + 12] for p in steps])
    path = tmp_path / "made.json"
    path.write_text(json.dumps({"train": made}))
    return path


def test_replacement_is_biased_where_pseudo_inverse_and_ensemble_are_not():
    # Two pairs of correlated tracks and one that depends on both; the second half is missing.
    base = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    covariance = torch.kron(base, torch.tensor([[1.0, 0.4], [0.4, 1.0]], dtype=torch.float64))
    law = gaussian(torch.zeros(4, dtype=torch.float64), covariance)
    given = torch.tensor([[1.5, -1.0, 0, 0], [-0.5, 2.0, 0, 0], [2.0, 1.0, 0, 0]])
    mask = torch.tensor([True, True, False, False])
    found = misses(law, given.double(), mask, draws=128, evaluations=40)
    # what chance leaves of the mean of 128 draws is taken off; four standard errors of the rest
    assert found["replacement"].mean.value > 0.5
    assert found["PiGDM, Tweedie"].mean.value < 0.15
    assert found["ensemble of 64"].mean.value < 0.3
    assert abs(found["ensemble of 64"].variance.value - 1) < 0.35
    assert found["PiGDM, Tweedie"].variance.value < 1.2


def test_the_fitted_gaussian_has_the_points_own_moments():
    draw = np.random.default_rng(1)
    points = torch.from_numpy(draw.normal(size=(500, 3)) @ draw.normal(size=(3, 3)))
    law = fitted(points)
    expected = np.cov(points.numpy().T) + 1e-3 * np.eye(3)
    assert torch.allclose(law.covariance(), torch.from_numpy(expected))
    assert torch.allclose(law.mean(), points.mean(0))


def test_consonances_are_counted_between_the_filled_and_the_given():
    # C, E, G, C: every interval is consonant; then the second voice sounds C sharp instead
    pitches = torch.tensor([[[48], [52], [55], [60]], [[48], [49], [55], [60]]])
    assert consonance(pitches, (1,)).tolist() == pytest.approx([1.0, 0.0])
    assert consonance(pitches, (1, 2)).tolist() == pytest.approx([1.0, 0.5])


def test_midi_holds_repeated_pitches(tmp_path):
    write_midi(tmp_path / "a.mid", torch.tensor([[60, 60, 62]]), quarters=0.5)
    # by the standard: 240 ticks a time, 480 = 0x83 0x60 in sevens, 240 = 0x81 0x70
    track = bytes([0, 0x90, 60, 80, 0x83, 0x60, 0x80, 60, 0])
    track += bytes([0, 0x90, 62, 80, 0x81, 0x70, 0x80, 62, 0, 0, 0xFF, 0x2F, 0])
    head = bytes([0, 0, 0, 6, 0, 1, 0, 1, 1, 0xE0])
    expected = b"MThd" + head + b"MTrk" + bytes([0, 0, 0, len(track)]) + track
    assert (tmp_path / "a.mid").read_bytes() == expected
    with pytest.raises(ValueError, match="MIDI pitches"):
        write_midi(tmp_path / "b.mid", torch.tensor([[128]]))


def test_the_first_row_of_the_rolls_has_the_pitch_that_is_said(pieces):
    values = read(pieces, Reading(length=4)).values
    lowest = lowest_pitch(pieces, 4)
    first = json.loads(pieces.read_text())["train"][0][0]
    assert (values[0, :, 0].argmax(-1) + lowest).tolist() == first


def test_the_recipe_compares_every_way_and_goes_on_where_it_stopped(pieces, tmp_path):
    config = Chorales(data=str(pieces), times=4, tests=3, draws=4, evaluations=10, width=8,
                      steps=2, batch_size=4)  # fmt: skip
    first = run(config, tmp_path / "out", print)
    assert first.numbers["truth"]["notes as written"].value == 1
    assert first.numbers["truth"]["off by"].value == 0
    assert first.numbers["truth"]["consonant"].value == 1
    assert first.numbers["replacement"]["notes as written"].value < 1
    assert {"PiGDM", "RePaint", "Gaussian, PiGDM"} < first.numbers.keys()
    assert all((tmp_path / "out" / name).stat().st_size > 0 for name in first.files)
    assert run(config, tmp_path / "out", print).numbers == first.numbers


def test_bad_voices_and_no_data_are_refused_before_any_work(pieces, tmp_path):
    for changes, words in (
        ({"data": ""}, "give data"),
        ({"missing": (4,)}, "some of 0 to 3"),
        ({"missing": (0, 1, 2, 3)}, "some of 0 to 3"),
    ):
        config = Chorales(**{"data": str(pieces), "times": 4, **changes})
        with pytest.raises(ValueError, match=words):
            run(config, tmp_path / "out", print)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="each missing voice once"):
        Chorales(missing=(1, 1))

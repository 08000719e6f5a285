"""Reshaped beliefs: temperature, top-k and the nucleus as exact maps of a toy law."""

import pytest
import torch
from laws import assert_law
from oracle import decoding as oracle

from unison.decode import shaped
from unison.decode.diffusion.ancestral import Ancestral
from unison.process import Absorbing

TOY = [0.4, 0.3, 0.2, 0.1]
NOISY, NOW = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, dtype=torch.float64)


def belief(p):
    logp = torch.tensor(p).log()[None, None]
    return lambda xt, t, focus=None, earlier=None: logp


def reshaped(p=TOY, **settings):
    return shaped(belief(p), **settings)(NOISY, NOW)[0, 0].exp().tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, TOY),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 3}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_k": 9}, TOY),
        ({"top_p": 0.05}, [1, 0, 0, 0]),
        ({"top_p": 0.69}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.71}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_k": 3, "top_p": 0.8}, [4 / 9, 3 / 9, 2 / 9, 0]),  # 7/9 after top-k: one more
        ({"temperature": 0.5, "top_p": 0.8}, [16 / 25, 9 / 25, 0, 0]),  # tempered first
    ],
    ids=str,
)
def test_a_shaped_belief_is_the_stated_law(settings, expected):
    assert reshaped(**settings) == pytest.approx(expected, abs=1e-6)


def test_order_of_tokens_does_not_matter_to_truncation():
    assert reshaped([0.1, 0.4, 0.2, 0.3], top_p=0.69) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert reshaped([0.1, 0.4, 0.2, 0.3], top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7])


def test_ties_with_the_kth_token_are_kept():
    assert reshaped([0.4, 0.2, 0.2, 0.2], top_k=2) == pytest.approx([0.4, 0.2, 0.2, 0.2])


def test_temperature_zero_takes_the_first_of_two_best():
    assert reshaped([0.2, 0.4, 0.4, 0.0], temperature=0.0) == [0, 1, 0, 0]


def test_certain_tokens_stay_certain():
    """Carry-over makes one-hot beliefs; no setting may turn them into NaN."""
    for settings in ({"temperature": 0.0}, {"temperature": 0.3}, {"top_k": 2}, {"top_p": 0.5}):
        assert reshaped([0.0, 1.0, 0.0, 0.0], **settings) == [0, 1, 0, 0]


def test_the_default_is_the_denoiser_itself():
    denoise = belief(TOY)
    assert shaped(denoise) is denoise


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
    ],
)
def test_a_setting_outside_its_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* got"):
        shaped(belief(TOY), **{name: value})


def test_every_strategy_draws_from_the_shaped_belief(seed, as_denoiser, write):
    """One ancestral step of a nucleus-truncated belief: a product of truncated laws."""
    tables = oracle.random_tables(4, 3, 2, seed)
    denoise = shaped(as_denoiser(tables), temperature=0.7, top_k=2)
    drawn = write(Ancestral(1), Absorbing(3), denoise, {}, 2).tokens
    rows = []
    for p in tables.belief((3, 3), 1.0) ** (1 / 0.7):
        kept = p * (p >= sorted(p)[-2])
        rows.append(kept / kept.sum())
    assert_law(map(tuple, drawn.tolist()), oracle.as_dict(oracle.outer(rows)))

"""Distances between sounds, compressed spectra and mixtures, against numbers known beforehand."""

import math

import numpy as np
import pytest
import torch

from unison.data.continuous.mixing import RMS, Mixed, coloured, levelled
from unison.data.continuous.spectra import Spectra
from unison.evaluate.continuous.audio import log_spectral_distance, si_sdr
from unison.prob import rng
from unison.prob.rng import Key

SPECTRA = Spectra()
LENGTH = SPECTRA.length(32)


def waves(rows, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, LENGTH)))


def key(rows):
    return Key(rng.rows(3, 0, rows))


@pytest.mark.parametrize("decibels", [-7.5, 0.0, 13.0])
def test_the_ratio_is_that_of_an_error_at_right_angles(decibels):
    place = torch.arange(LENGTH, dtype=torch.float64) * 2 * math.pi / LENGTH
    truth, error = (5 * place).sin(), (9 * place).sin()  # whole periods: orthogonal, of mean 0
    found = -0.3 * truth + 0.3 * 10 ** (-decibels / 20) * error + 4.0
    assert si_sdr(found[None], truth[None]).item() == pytest.approx(decibels, abs=1e-9)


def test_no_error_is_infinitely_far_from_distortion_and_silence_is_refused():
    truth = torch.eye(4, dtype=torch.float64)
    assert si_sdr(2.0 * truth[:1], truth[:1]).item() > 300
    with pytest.raises(ValueError, match="number 1 is silent"):
        si_sdr(truth[:2], torch.stack([truth[0], torch.ones(4, dtype=torch.float64)]))


def test_a_gain_is_twice_its_logarithm_away_and_nothing_is_no_distance():
    truth = waves(3)
    assert log_spectral_distance(truth, truth).tolist() == [0.0] * 3
    louder = log_spectral_distance(0.01 * truth, truth)
    assert torch.allclose(louder, torch.full((3,), 4.0).double(), atol=1e-3)


def test_spectra_are_undone():
    truth = waves(2)
    events = SPECTRA.seen(truth)
    assert events.shape == (2, 128, 32)
    assert torch.allclose(SPECTRA.heard(events), truth, atol=1e-9)


def test_compression_takes_the_root_of_amplitudes_and_keeps_phases():
    bins = torch.tensor([[[4.0 + 0j, -9.0 + 0j, 0.25j]]], dtype=torch.complex128)
    events = Spectra(scale=2.0).compressed(bins)
    expected = torch.tensor([[[4.0, -6.0, 0.0], [0.0, 0.0, 1.0]]], dtype=torch.float64)
    assert torch.allclose(events, expected, atol=1e-12)


@pytest.mark.parametrize("ratio", [-5.0, 0.0, 10.0])
def test_mixtures_have_the_ratio_that_is_stated(ratio):
    clean = levelled(waves(4))
    pair = Mixed(SPECTRA, low=ratio, high=ratio)(SPECTRA.seen(clean), key(4))
    noise = SPECTRA.heard(pair.degraded) - clean
    power = clean.square().mean(1)
    assert torch.allclose(power.sqrt(), torch.full_like(power, RMS))
    found = 10 * (power / noise.square().mean(1)).log10()
    assert torch.allclose(found, torch.full_like(found, ratio), atol=1e-6)


def test_a_mixture_does_not_see_its_batch():
    events = SPECTRA.seen(levelled(waves(5)))
    way = Mixed(SPECTRA)
    whole = way(events, key(5)).degraded
    alone = way(events[2:3], Key(key(5).seed[2:3])).degraded
    assert torch.allclose(whole[2:3], alone, atol=1e-9)


def test_colours_go_from_flat_power_to_that_of_brown_noise():
    rows = 400
    power = torch.fft.rfft(coloured(key(rows), 1024)).abs().square()
    exponents = 2 * rng.uniform(key(rows), 52, 1)[:, 0]
    octaves = torch.stack([power[:, 2**k : 2 ** (k + 1)].mean(1) for k in range(3, 9)]).log2()
    steps = torch.arange(6.0).double() - 2.5
    slopes = (octaves * steps[:, None]).sum(0) / steps.square().sum()
    # a line through six octaves of periodograms: its error is below 0.4 for every row
    assert (slopes + exponents).abs().max() < 1.0
    assert (slopes + exponents).mean().abs() < 0.1


def test_babble_without_clips_is_refused():
    with pytest.raises(ValueError, match="name a bank"):
        Mixed(SPECTRA, kind="babble")

"""Distances of sets of events: exact for Gaussians, honest about their error."""

import math

import pytest
import torch

from unison.evaluate.continuous.frechet import between, frechet, moments
from unison.evaluate.continuous.likeness import psnr, ssim


def normals(rows, size, seed):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)).double()


def test_gaussians_that_commute_are_as_far_apart_as_their_means_and_deviations():
    left = (torch.tensor([1.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 9.0])).double())
    right = (torch.tensor([0.0, 4.0]).double(), torch.diag(torch.tensor([1.0, 25.0])).double())
    expected = 1 + 4 + (2 - 1) ** 2 + (3 - 5) ** 2
    assert between(left, right) == pytest.approx(expected, rel=1e-12)
    assert between(left, left) == pytest.approx(0, abs=1e-9)


def test_gaussians_that_do_not_commute_are_compared_by_the_root_of_the_product():
    scipy = pytest.importorskip("scipy.linalg")
    roots = normals(6, 3, 0).view(2, 3, 3)
    one, two = (root @ root.T for root in roots)
    zero = torch.zeros(3).double()
    product = torch.from_numpy(scipy.sqrtm((one @ two).numpy()).real)
    expected = (one.trace() + two.trace() - 2 * product.trace()).item()
    assert between((zero, one), (zero, two)) == pytest.approx(expected, rel=1e-8)


def test_moments_are_mean_and_unbiased_covariance():
    rows = normals(50, 3, 1)
    mean, covariance = moments(rows)
    assert torch.allclose(mean, rows.mean(0))
    assert torch.allclose(covariance, rows.T.cov())


def test_the_error_covers_what_other_sets_of_that_size_give():
    found = frechet(normals(300, 2, 2), normals(300, 2, 3) + 1.0)
    others = [
        between(moments(normals(300, 2, 10 + i)), moments(normals(300, 2, 50 + i) + 1.0))
        for i in range(40)
    ]
    spread = torch.tensor(others).std().item()
    assert 0.5 * spread < found.stderr < 2 * spread
    assert abs(found.value - 2.0) < 5 * found.stderr
    assert frechet(normals(300, 2, 2), normals(300, 2, 3) + 1.0) == found


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        (normals(1, 2, 0), normals(5, 2, 0), "at least two rows"),
        (normals(5, 2, 0), normals(5, 3, 0), "of different|cannot be compared"),
        (normals(5, 2, 0) * math.nan, normals(5, 2, 0), "NaN"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(left, right, said):
    with pytest.raises(ValueError, match=said):
        frechet(left, right)
    with pytest.raises(ValueError, match="rounds"):
        frechet(normals(5, 2, 0), normals(5, 2, 1), rounds=1)


def test_psnr_and_ssim_are_those_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    truth = normals(3, 100, 4).view(3, 1, 10, 10).tanh()
    found = (truth + 0.2 * normals(3, 100, 5).view(3, 1, 10, 10)).clamp(-1, 1)
    ratios, likeness = psnr(found, truth), ssim(found, truth)
    for x, y, ratio, like in zip(found, truth, ratios, likeness, strict=True):
        a, b = x[0].numpy(), y[0].numpy()
        noise = metrics.peak_signal_noise_ratio(b, a, data_range=2)
        assert ratio.item() == pytest.approx(noise, rel=1e-9)
        # scikit-image leaves a border of 3 out of its mean, which is where windows stick out
        same = metrics.structural_similarity(b, a, data_range=2, win_size=7)
        assert like.item() == pytest.approx(same, rel=1e-6)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        psnr(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 5))

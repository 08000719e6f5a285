"""Guided beliefs of continuous data against closed forms, autograd and dense linear algebra."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from scipy import ndimage

from unison.decode.continuous import solve
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.guidance import (
    DPS,
    GUIDANCE,
    Blurred,
    Classified,
    ClassifierFree,
    ClassifierFreePlus,
    ClassifierFreeZero,
    Clipped,
    Dense,
    Downsampled,
    Function,
    LinearFunction,
    Masked,
    Measurement,
    PiGDM,
    Projected,
    RePaint,
    Replaced,
    Thresholded,
)
from unison.decode.continuous.guidance.conjugate import solved
from unison.exact.mixtures import Mixture, gaussian
from unison.exact.zoo import gmm5, part, random_mixture
from unison.prob import rng
from unison.prob.rng import Key

LAW = gmm5()
SOME = part(LAW, (2,))
LEVEL = torch.tensor([0.05, 0.2, 0.7, 2.0, 9.0], dtype=torch.float64)


def normals(seed, rows, size):
    return rng.normal(Key(rng.rows(seed, 0, rows)), 1, size)


def noisy(seed=1, size=2):
    return (1 + LEVEL[:, None]) * normals(seed, len(LEVEL), size)


@dataclass(frozen=True)
class Fixed:
    """Answers that were written down."""

    answer: torch.Tensor
    span: tuple[float, float] = (0.0, math.inf)

    def __call__(self, x, level):
        return self.answer[: len(x)]

    def keep(self, rows):
        return replace(self, answer=self.answer[rows])


def score_as_mean(log_density, y, level):
    y = y.clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_density(y).sum(), y)
    return y.detach() + level.square()[:, None] * slope


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5, 7.0])
def test_classifier_free_guidance_has_the_score_of_the_tilted_density(weight):
    y = noisy()
    found = ClassifierFree(SOME, LAW, weight)(y, LEVEL)
    expected = score_as_mean(
        lambda p: (1 - weight) * LAW.log_prob(p, LEVEL) + weight * SOME.log_prob(p, LEVEL),
        y,
        LEVEL,
    )
    assert torch.allclose(found, expected, atol=1e-9)


def test_guidance_between_gaussians_of_one_shape_is_the_gaussian_beyond():
    shape = LAW.covariances[0]
    near, far = normals(2, 2, 2)
    found = ClassifierFree(gaussian(far, shape), gaussian(near, shape), 3.0)(noisy(), LEVEL)
    assert torch.allclose(found, gaussian(near + 3 * (far - near), shape)(noisy(), LEVEL))


@pytest.mark.parametrize("name", GUIDANCE)
def test_a_weight_of_one_is_the_plain_better_model(name):
    found = GUIDANCE[name](SOME, LAW, 1.0)(noisy(), LEVEL)
    assert torch.allclose(found, SOME(noisy(), LEVEL), atol=1e-12)


@pytest.mark.parametrize("name", GUIDANCE)
def test_a_model_is_not_guided_away_from_itself(name):
    found = GUIDANCE[name](LAW, LAW, 5.0)(noisy(), LEVEL)
    assert torch.allclose(found, LAW(noisy(), LEVEL), atol=1e-9)


def test_an_interval_guides_the_rows_whose_levels_lie_in_it():
    plain, guided = SOME(noisy(), LEVEL), ClassifierFree(SOME, LAW, 4.0)(noisy(), LEVEL)
    found = ClassifierFree(SOME, LAW, 4.0, between=(0.1, 2.0))(noisy(), LEVEL)
    assert torch.equal(found[[0, 4]], plain[[0, 4]])
    assert torch.equal(found[[1, 2, 3]], guided[[1, 2, 3]])


def test_rescaling_puts_the_spread_of_each_row_back():
    aim, plain = normals(3, 4, 30), normals(4, 4, 30)
    level, x = torch.ones(4).double(), torch.zeros(4, 30).double()
    guided = ClassifierFree(Fixed(aim), Fixed(plain), 5.0)(x, level)
    full = ClassifierFree(Fixed(aim), Fixed(plain), 5.0, rescale=1.0)(x, level)
    most = ClassifierFree(Fixed(aim), Fixed(plain), 5.0, rescale=0.7)(x, level)
    assert torch.allclose(full.std(1), aim.std(1))
    assert torch.allclose(most, 0.3 * guided + 0.7 * full)


def test_projected_guidance_moves_across_the_answer_and_no_further_than_its_radius():
    aim, plain = normals(3, 4, 30), normals(4, 4, 30)
    level, x = torch.ones(4).double(), torch.zeros(4, 30).double()
    free = ClassifierFree(Fixed(aim), Fixed(plain), 5.0)(x, level)
    assert torch.allclose(Projected(Fixed(aim), Fixed(plain), 5.0, 1.0)(x, level), free)
    moved = Projected(Fixed(aim), Fixed(plain), 5.0)(x, level) - aim
    assert torch.allclose((moved * aim).sum(1), torch.zeros(4).double(), atol=1e-9)
    assert float(moved.norm(dim=1).min()) > 1
    short = Projected(Fixed(aim), Fixed(plain), 5.0, 1.0, radius=0.1)(x, level) - aim
    assert torch.allclose(short.norm(dim=1), torch.full((4,), 0.4).double())


def test_a_ddim_step_with_cfg_plus_puts_the_plain_noise_back():
    levels, key = (9.0, 2.0, 0.5), Key(rng.rows(5, 0, 5))
    y = 9 * normals(6, 5, 2)
    found = solve(DDIM(), levels, ClassifierFreePlus(SOME, LAW, 0.6, levels), y, key).x
    for high, low in ((9.0, 2.0), (2.0, 0.5)):
        level = torch.full((5,), high).double()
        plain = LAW(y, level)
        y = plain + 0.6 * (SOME(y, level) - plain) + low / high * (y - plain)
    assert torch.allclose(found, y, atol=1e-9)


def test_the_plain_noise_is_fitted_before_it_is_subtracted():
    x, aim, other = normals(7, 4, 30), normals(8, 4, 30), normals(9, 4, 30)
    level = torch.ones(4).double()
    shorter = Fixed(x - 0.3 * (x - aim))  # the noise of the aim, only weaker
    assert torch.allclose(ClassifierFreeZero(Fixed(aim), shorter, 6.0)(x, level), aim)
    found = ClassifierFreeZero(Fixed(aim), Fixed(other), 6.0)(x, level)
    plain, wanted = x - other, x - aim
    fit = torch.linalg.lstsq(plain[..., None], wanted[..., None]).solution[:, :, 0]
    fitted = fit * plain
    assert torch.allclose(x - found, fitted + 6 * (wanted - fitted))
    still = ClassifierFreeZero(Fixed(aim), Fixed(other), 6.0, moving=(0.0, 0.5))(x, level)
    assert torch.equal(still, x)


def test_thresholding_looks_at_each_row_alone_and_scales_only_what_is_outside():
    answer = torch.stack([torch.linspace(-4, 4, 101), torch.linspace(-0.5, 0.5, 101)]).double()
    x, level = torch.zeros(2, 101).double(), torch.ones(2).double()
    found = Thresholded(Fixed(answer), 0.9, 1.0)(x, level)
    limit = answer[0].abs().quantile(0.9)
    assert torch.allclose(found[0], answer[0].clamp(-limit, limit) / limit)
    assert torch.equal(found[1], answer[1])


def test_clipping_brings_every_element_into_the_range():
    answer = torch.tensor([[-3.0, 0.2, 5.0]])
    found = Clipped(Fixed(answer), -1.0, 2.0)(torch.zeros(1, 3), torch.ones(1))
    assert found.tolist() == [[-1.0, pytest.approx(0.2), 2.0]]


def test_the_exact_classifier_gives_the_exact_conditional_answer():
    found = Classified(LAW, lambda y, level: LAW.responsibilities(y, level)[:, 2].log())
    assert torch.allclose(found(noisy(), LEVEL), SOME(noisy(), LEVEL), atol=1e-9)


def test_wrappers_of_wrappers_know_the_levels_of_all_and_go_on_with_some_rows():
    answers = normals(10, 6, 4)
    one, two = Fixed(answers, (0.1, 80.0)), Fixed(-answers, (0.2, 90.0))
    whole = Thresholded(Clipped(Projected(ClassifierFree(one, two, 2.0), two, 3.0)), bound=0.5)
    assert whole.span == (0.2, 80.0)
    rows = torch.tensor([4, 1, 1])
    x, level = normals(11, 6, 4), torch.ones(6).double()
    assert torch.equal(whole.keep(rows)(x[rows], level[rows]), whole(x, level)[rows])


OPERATORS = {
    "mask": (Masked(torch.tensor([[True, False, True, True, False, False]]).view(1, 2, 3)), (2, 3)),
    "dense": (Dense(normals(12, 4, 6)), (2, 3)),
    "blur": (Blurred(normals(13, 3, 2)), (2, 4, 5)),
    "even": (Downsampled(2), (3, 4, 6)),
    "line": (Downsampled(3, axes=1), (2, 6)),
    "function": (LinearFunction(lambda x: x.flatten(1).cumsum(1)[:, 1:]), (2, 3)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoints_and_singular_values_are_those_of_the_matrix(name):
    operator, shape = OPERATORS[name]
    size = math.prod(shape)
    matrix = operator(torch.eye(size).double().view(size, *shape)).flatten(1).T
    x, seen = normals(14, 3, size).view(3, *shape), normals(15, 3, len(matrix))
    assert torch.allclose(operator(x).flatten(1), x.flatten(1) @ matrix.T)
    back = operator.adjoint(seen.view_as(operator(x)), shape)
    assert torch.allclose(back.flatten(1), seen @ matrix)
    squares = operator.squares(shape)[0].sort().values
    assert torch.allclose(squares, torch.linalg.eigvalsh(matrix @ matrix.T), atol=1e-9)


def test_a_blur_is_a_convolution_that_wraps_round():
    kernel, x = normals(13, 3, 3), normals(16, 1, 20).view(1, 4, 5)
    found = Blurred(kernel)(x)[0]
    expected = ndimage.convolve(x[0].numpy(), kernel.numpy(), mode="wrap")
    assert torch.allclose(found, torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (Dense(torch.ones(2, 5).double()), "5 columns"),
        (Masked(torch.ones(1, 5, dtype=torch.bool)), "the mask is of events"),
        (Downsampled(4), "do not divide"),
        (Blurred(torch.ones(9, 9)), "the kernel"),
        (LinearFunction(lambda x: x @ torch.ones(5, 5)), "does not take 1 events"),
    ],
)
def test_an_operator_of_the_wrong_size_is_refused_by_name(operator, message):
    measurement = Measurement(operator, torch.zeros(1, 3).double(), 0.1)
    with pytest.raises(ValueError, match=message):
        measurement.check(1, (6, 6))


def test_measurements_of_other_shapes_rows_and_kinds_are_refused():
    dense = Dense(torch.ones(2, 5).double())
    with pytest.raises(ValueError, match="but \\(3,\\) was measured"):
        Measurement(dense, torch.zeros(1, 3), 0.1).check(1, (5,))
    with pytest.raises(ValueError, match="2 rows are sampled, but 3"):
        Measurement(dense, torch.zeros(3, 2), 0.1).check(2, (5,))
    with pytest.raises(ValueError, match="needs a linear operator"):
        PiGDM(LAW, Measurement(Function(torch.sin), torch.zeros(1, 2), 0.1))
    with pytest.raises(ValueError, match="noise must be"):
        Measurement(dense, torch.zeros(1, 2), -1.0)


def test_conjugate_gradients_solve_each_row_and_rest_where_it_is_solved():
    root = normals(17, 15, 5).view(3, 5, 5)
    matrix = root @ root.mT + 0.1 * torch.eye(5)
    right = normals(18, 3, 5)
    right[1] = 0
    found = solved(lambda v: (matrix @ v[..., None])[..., 0], right, 40)
    assert torch.allclose(found, torch.linalg.solve(matrix, right), atol=1e-8)


SEEING = normals(19, 2, 3)
SEEN = torch.tensor([0.4, -0.8], dtype=torch.float64)


def gaussian3() -> Mixture:
    root = normals(20, 3, 3)
    return gaussian(normals(21, 1, 3)[0], root @ root.T)


def test_pigdm_with_the_denoisers_jacobian_is_exact_for_every_gaussian():
    law, y = gaussian3(), noisy(22, 3)
    found = PiGDM(law, Measurement(Dense(SEEING), SEEN[None], 0.3), "tweedie")(y, LEVEL)
    assert torch.allclose(found, law.posterior(SEEING, SEEN, 0.3)(y, LEVEL), atol=1e-8)


def test_pigdm_with_one_number_is_exact_for_round_gaussians():
    law, y = gaussian(normals(21, 1, 3)[0], 1.7 * torch.eye(3).double()), noisy(22, 3)
    found = PiGDM(law, Measurement(Dense(SEEING), SEEN[None], 0.3), variance=1.7)(y, LEVEL)
    assert torch.allclose(found, law.posterior(SEEING, SEEN, 0.3)(y, LEVEL), atol=1e-8)


@pytest.mark.parametrize("scale", ["noise", "spread", "norm"])
def test_dps_follows_the_gradient_through_the_denoiser(scale):
    law, y, size = random_mixture(3, 3), noisy(22, 3), 1e-5
    measurement = Measurement(Function(lambda x: (x @ SEEING.T).sin()), SEEN[None], 0.3)

    def misfit(point):
        return ((law(point, LEVEL) @ SEEING.T).sin() - SEEN).square().sum(1)

    ways = torch.eye(3).double() * size
    slope = torch.stack([(misfit(y + way) - misfit(y - way)) / (4 * size) for way in ways], 1)
    square = LEVEL.square()
    variance = {
        "noise": torch.full_like(LEVEL, 0.09),
        "spread": 0.09 + square / (1 + square),
        "norm": misfit(y).sqrt(),
    }[scale]
    expected = law(y, LEVEL) - 0.7 * (square / variance)[:, None] * slope
    found = DPS(law, measurement, 0.7, scale)(y, LEVEL)
    assert torch.allclose(found, expected, atol=1e-6)


def test_replacement_without_noise_agrees_with_what_was_seen_and_moves_nothing_else():
    law, y = random_mixture(3, 3), noisy(22, 3)
    found = Replaced(law, Measurement(Dense(SEEING), SEEN[None], 0.0))(y, LEVEL)
    assert torch.allclose(found @ SEEING.T, SEEN.expand(5, 2), atol=1e-8)
    hidden = torch.linalg.svd(SEEING).Vh[2]
    assert torch.allclose(found @ hidden, law(y, LEVEL) @ hidden, atol=1e-8)


def test_repainting_brings_the_hidden_part_nearer_to_its_exact_law():
    law = gaussian(torch.zeros(2).double(), torch.tensor([[1.0, 0.9], [0.9, 1.0]]).double())
    mask = torch.tensor([[True, False]])
    seen = torch.tensor([[1.5, 777.0]]).double()  # what is hidden may hold anything
    inside = Replaced(law, Measurement(Masked(mask), seen, 0.0), 1)
    levels = (*(20 * 0.72**i for i in range(22)), 0.0)
    key = Key(rng.rows(23, 0, 400))
    start = 20 * rng.normal(key, 3, 2)
    once, often = (solve(s, levels, inside, start, key) for s in (DDIM(), RePaint(DDIM(), 8)))
    assert (once.nfe, often.nfe) == (22, 21 * 8 + 1)
    exact = law.posterior(torch.eye(2).double()[:1], seen[0, :1], 1e-6).mean()[1]
    off = [abs(float(drawn.x[:, 1].mean() - exact)) for drawn in (once, often)]
    assert off[1] < off[0] / 2
    assert torch.allclose(often.x[:, 0], torch.full((400,), 1.5).double())


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="finite number"):
        ClassifierFree(SOME, LAW, math.nan)
    with pytest.raises(ValueError, match="low < high"):
        ClassifierFree(SOME, LAW, 2.0, between=(3.0, 1.0))
    with pytest.raises(ValueError, match="rescale"):
        ClassifierFree(SOME, LAW, 2.0, rescale=1.5)
    with pytest.raises(ValueError, match="quantile"):
        Thresholded(LAW, 0.0)
    with pytest.raises(ValueError, match="no gradient"):
        DPS(LAW, Measurement(Dense(SEEING), SEEN[None], 0.0), scale="noise")
    with pytest.raises(ValueError, match="at least once"):
        RePaint(DDIM(), 0)

"""Consistency distillation compares student and teacher on one trajectory, in the stated way."""

import math

import numpy as np
import pytest
import torch
from laws import assert_count, assert_law
from scipy.integrate import trapezoid
from scipy.special import ndtr

from unison.distil import ConsistencyDistillation
from unison.distil.dcd import trajectory
from unison.distil.teaching import Lesson
from unison.objectives import Batch
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Uniform
from unison.process.duality import Duality

ROWS = 20_000


def survives(mu, size):
    """P(argmax of x mu + e is x) by its integral, the other noises being size - 1 normals."""
    z = np.linspace(-12, 12, 20_001) + mu
    density = np.exp(-((z - mu) ** 2) / 2) / math.sqrt(2 * math.pi)
    return float(trapezoid(density * ndtr(z) ** (size - 1), z))


def key(seed, rows=ROWS, step=0):
    return Key(rng.rows(seed, 0, rows), step)


def path_of(size, seed, token, rows=ROWS, length=1):
    return trajectory(torch.full((rows, length), token), size, key(seed, rows))


def at(path, duality, t):
    return path.at(duality.signal(torch.full((len(path.clean),), t, dtype=torch.float64)))


def snr_root(duality, t):
    a, s = duality.signal(torch.tensor([t], dtype=torch.float64))
    return float(a / s)


@pytest.mark.law
@pytest.mark.parametrize(("size", "token"), [(2, 1), (3, 0), (7, 6), (50_257, 11)])
@pytest.mark.parametrize("t", [0.05, 0.5, 0.9])
def test_a_token_survives_to_a_time_as_often_as_in_the_uniform_process(size, token, t, seed):
    duality = Duality(size, 0.995, 0.001)
    kept = int((at(path_of(size, seed, token), duality, t) == token).sum())
    alpha = float(duality.alpha(torch.tensor([t]))[0])
    law = alpha + (1 - alpha) / size
    assert law == pytest.approx(survives(snr_root(duality, t), size), abs=2e-6)
    assert_count(kept, ROWS, law)


@pytest.mark.law
@pytest.mark.parametrize(("size", "token"), [(2, 0), (3, 1), (5, 4)])
def test_two_times_of_one_trajectory_have_the_law_of_one_noise_vector(size, token, seed):
    # z_s = x wherever z_t = x, and where both are wrong they are the same uniform wrong token.
    duality = Duality(size, 0.995, 0.001)
    path = path_of(size, seed, token)
    early, late = at(path, duality, 0.4)[:, 0].tolist(), at(path, duality, 0.8)[:, 0].tolist()
    survived, stays = (survives(snr_root(duality, t), size) for t in (0.4, 0.8))
    law = {(token, token): stays}
    for other in set(range(size)) - {token}:
        law[token, other] = (survived - stays) / (size - 1)
        law[other, other] = (1 - survived) / (size - 1)
    assert_law(list(zip(early, late, strict=True)), law)


@pytest.mark.law
def test_the_two_times_agree_with_vectors_of_normals_drawn_in_full(seed):
    # The oracle draws all K noises and takes the argmax twice; ours draws three uniforms.
    size, token, duality = 4, 2, Duality(4, 0.995, 0.001)
    noise = np.random.default_rng(seed).standard_normal((400_000, size))
    counts = {}
    seen = []
    for t in (0.3, 0.7):
        a, s = (float(v) for v in duality.signal(torch.tensor([t]).double()))
        seen.append((noise * s + a * (np.arange(size) == token)).argmax(1))
    for pair in zip(*(column.tolist() for column in seen), strict=True):
        counts[pair] = counts.get(pair, 0) + 1
    path = path_of(size, seed, token)
    ours = zip(*(at(path, duality, t)[:, 0].tolist() for t in (0.3, 0.7)), strict=True)
    # The oracle's own variance, a twentieth of ours, makes the false-alarm rate 3e-6 here.
    assert_law(list(ours), {pair: n / len(noise) for pair, n in counts.items()})


def test_each_position_changes_at_most_once_along_a_trajectory(seed):
    duality = Duality(9, 0.995, 0.001)
    path = path_of(9, seed, 3, rows=500, length=7)
    before = path.clean
    for t in torch.linspace(0, 1, 41).tolist():
        now = at(path, duality, t)
        assert bool(((now == before) | (before == 3)).all()), "a token changed twice or came back"
        assert bool(((now == 3) | (now == path.other)).all())
        before = now
    assert bool((path.other != 3).all())
    assert float((before != 3).double().mean()) > 0.8


def table(seed, size, length):
    """A network that is a random table: logits from all tokens of the row and the noise level."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(length * size, length * size, generator=generator).double()
    weights.requires_grad_()

    def network(x, sigma, valid=None):
        hot = torch.nn.functional.one_hot(x, size).double().flatten(1)
        return ((hot @ weights) * (1 + sigma[:, None].double())).unflatten(1, (length, size))

    return network, weights


def lesson_of(size=4, length=3, rows=6, seed=0, gap=0.25):
    student, mine = table(1, size, length)
    teacher, theirs = table(2, size, length)
    tokens = torch.arange(rows * length).reshape(rows, length) * 3 % size
    batch = Batch(tokens, torch.linspace(0.02, 0.98, rows).double())
    return Lesson(student, teacher, gap), batch, key(seed, rows), (mine, theirs)


def by_hand(how, size, lesson, batch, noise):
    """The loss in plain floats from the tokens at both times."""
    compare, direction = how
    duality = Duality(size, 0.995, 0.001)
    path = trajectory(batch.tokens, size, noise)
    losses = []
    for row, u in enumerate(batch.strata.tolist()):
        t = min(u + lesson.gap, 1.0)
        told = []
        for network, time in ((lesson.student, t), (lesson.teacher, t - lesson.gap)):
            a, s = (float(x) for x in duality.signal(torch.tensor([time]).double()))
            x = [
                int(c) if a / s > float(m) else int(o)
                for c, o, m in zip(path.clean[row], path.other[row], path.margin[row], strict=True)
            ]
            alpha = float(duality.alpha(torch.tensor([time]).double())[0])
            logits = network(torch.tensor([x]), torch.tensor([-math.log(alpha)]))[0].tolist()
            told.append(
                [law(row, token, alpha, compare) for row, token in zip(logits, x, strict=True)]
            )
        losses.append([kl(*pair, direction) for pair in zip(*told, strict=True)])
    return losses


def law(logits, token, alpha, compare):
    """The belief, or the posterior of the clean token: the belief times q(token | clean)."""
    weights = [math.exp(v) for v in logits]
    if compare == "posterior":
        size = len(weights)
        hit, miss = alpha + (1 - alpha) / size, (1 - alpha) / size
        weights = [w * (hit if i == token else miss) for i, w in enumerate(weights)]
    return [w / sum(weights) for w in weights]


def kl(student, teacher, direction):
    p, q = (student, teacher) if direction == "student" else (teacher, student)
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("compare", ["posterior", "belief"])
@pytest.mark.parametrize("direction", ["student", "teacher"])
def test_the_loss_is_the_stated_divergence_between_student_at_t_and_teacher_at_s(
    compare, direction
):
    lesson, batch, noise, _ = lesson_of()
    ours = ConsistencyDistillation(compare, direction).losses(Uniform(4), lesson, batch, noise)
    expected = torch.tensor(by_hand((compare, direction), 4, lesson, batch, noise))
    torch.testing.assert_close(ours.detach().float(), expected, rtol=2e-4, atol=1e-5)
    other = "teacher" if direction == "student" else "student"
    swapped = ConsistencyDistillation(compare, other).losses(Uniform(4), lesson, batch, noise)
    assert float((ours - swapped).detach().abs().max()) > 0.1, "the directions must differ here"


@pytest.mark.parametrize("direction", ["student", "teacher"])
def test_the_teacher_gets_no_gradient_and_the_student_does(direction):
    lesson, batch, noise, (mine, theirs) = lesson_of()
    ConsistencyDistillation(direction=direction).losses(
        Uniform(4), lesson, batch, noise
    ).sum().backward()
    assert theirs.grad is None
    assert float(mine.grad.abs().sum()) > 0


def test_a_student_equal_to_its_teacher_has_no_loss_when_the_gap_vanishes():
    lesson, batch, noise, _ = lesson_of()
    same = [
        float(
            ConsistencyDistillation()
            .losses(Uniform(4), Lesson(lesson.teacher, lesson.teacher, gap), batch, noise)
            .detach()
            .sum()
        )
        for gap in (0.5, 1e-9, 0.0)
    ]
    assert same[0] > 0.1
    assert abs(same[1]) < 1e-5
    assert abs(same[2]) < 1e-6


def test_losses_are_divergences_never_below_zero():
    lesson, batch, noise, _ = lesson_of(rows=200, length=2)
    for direction in ("student", "teacher"):
        method = ConsistencyDistillation(direction=direction)
        losses = method.losses(Uniform(4), lesson, batch, noise)
        assert float(losses.detach().min()) > -1e-6

"""Self-distillation through time teaches what the teacher said along its own walk."""

import math
from itertools import product

import pytest
import torch
from laws import assert_law

from unison.distil import SelfDistillation
from unison.distil.teaching import Lesson
from unison.objectives import Batch
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing

ROWS = 20_000
T, GAP = 0.7, 0.4


def tables(size, seed):
    """Logits for every noisy text of two tokens: [text][position][token]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((size + 1) ** 2, 2, size, generator=generator).double() * 1.5


def network_of(table, size):
    def network(x, sigma, valid=None):
        """The noise level moves the answer too, so that a wrong time shows."""
        return table[x[:, 0] * (size + 1) + x[:, 1]] * (0.5 + sigma.double()[:, None, None])

    return network


def softmax(logits):
    total = sum(math.exp(v) for v in logits)
    return [math.exp(v) / total for v in logits]


def believes(table, size, x, t):
    """p(x_0 | x) per position at a masked position, from the table, in plain floats."""
    alpha = 1 - (1 - 1e-3) * t
    scale = 0.5 - math.log(alpha)
    row = table[x[0] * (size + 1) + x[1]].tolist()
    return [softmax([v * scale for v in logits]) for logits in row]


def step_law(size, x, belief, alphas):
    """All outcomes of one ancestral step with their probabilities."""
    alpha_s, alpha_t = alphas
    unmask = (alpha_s - alpha_t) / (1 - alpha_t)
    options = []
    for token, p in zip(x, belief, strict=True):
        if token != size:
            options.append([(token, 1.0)])
        else:
            options.append([(size, 1 - unmask), *((v, unmask * p[v]) for v in range(size))])
    for choice in product(*options):
        yield tuple(v for v, _ in choice), math.prod(p for _, p in choice)


def losses_law(size, student, teacher, clean, setting):
    """The joint law of both positions' losses, by enumerating corruption and the whole walk."""
    steps, gap, direction = setting
    alpha = lambda t: 1 - (1 - 1e-3) * t  # noqa: E731
    law = {}
    for kept in product((True, False), repeat=2):
        start = tuple(c if k else size for c, k in zip(clean, kept, strict=True))
        chance = math.prod(alpha(T) if k else 1 - alpha(T) for k in kept)
        told = believes(student, size, start, T)
        walks = [(start, [None, None], chance)]
        for number in range(steps):
            before = T - number * gap / steps
            after = max(0.0, before - gap / steps)
            grown = []
            for x, targets, p in walks:
                belief = believes(teacher, size, x, before)
                targets = [
                    b if v == size else o for b, v, o in zip(belief, x, targets, strict=True)
                ]
                grown += [
                    (y, targets, p * q)
                    for y, q in step_law(size, x, belief, (alpha(after), alpha(before)))
                ]
            walks = grown
        for _, targets, p in walks:
            outcome = tuple(
                round(divergence(told[i], targets[i], direction), 3) if not kept[i] else 0.0
                for i in range(2)
            )
            law[outcome] = law.get(outcome, 0.0) + p
    return law


def divergence(student, target, direction):
    p, q = (student, target) if direction == "student" else (target, student)
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def measured(method, size, clean, gap, seed, tables_):
    student, teacher = (network_of(table, size) for table in tables_)
    batch = Batch(
        torch.tensor(clean).expand(ROWS, 2), torch.full((ROWS,), T - gap, dtype=torch.float64)
    )
    noise = Key(rng.rows(seed, 0, ROWS), 3)
    return method.losses(Absorbing(size), Lesson(student, teacher, gap), batch, noise)


@pytest.mark.law
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("direction", ["teacher", "student"])
def test_losses_have_the_law_of_the_teachers_walk_by_enumeration(size, steps, direction, seed):
    pair, clean = (tables(size, 1), tables(size, 2)), (1, 0)
    losses = measured(SelfDistillation(steps, direction), size, clean, GAP, seed, pair)
    law = losses_law(size, *pair, clean, (steps, GAP, direction))
    values = [tuple(round(v, 3) for v in row) for row in losses.tolist()]
    # Rounding may fall on either side: name each pair by the nearest one of the law.
    near = {value: min(law, key=lambda k, v=value: math.dist(k, v)) for value in set(values)}
    assert max(math.dist(k, v) for k, v in near.items()) < 3e-3
    assert_law([near[value] for value in values], law)


def test_one_step_all_the_way_teaches_the_teachers_belief_where_it_stood():
    size, pair = 3, (tables(3, 1), tables(3, 2))
    losses = measured(SelfDistillation(1), size, (2, 1), T, 0, pair)
    expected = losses_law(size, *pair, (2, 1), (1, T, "teacher"))
    both = [k for k in expected if 0.0 not in k]
    assert len(both) == 1, "with both positions masked nothing is random"
    masked = (losses > 0).all(1)
    assert 0.3 < float(masked.double().mean()) < 0.7
    torch.testing.assert_close(
        losses[masked].float(), torch.tensor(both[0]).expand(int(masked.sum()), 2),
        atol=2e-3, rtol=0,
    )  # fmt: skip


def test_positions_that_were_not_masked_have_no_loss_and_the_teacher_no_gradient():
    size = 3
    student, teacher = (tables(size, seed).requires_grad_() for seed in (1, 2))
    losses = measured(SelfDistillation(), size, (0, 2), GAP, 0, (student, teacher))
    losses.sum().backward()
    assert teacher.grad is None
    assert float(student.grad.abs().sum()) > 0
    rate = 1 - (1 - (1 - 1e-3) * T)
    assert float((losses != 0).double().mean()) == pytest.approx(rate, abs=0.02)
    clean = student.grad.reshape(size + 1, size + 1, 2, size)[0, 2]  # nothing masked
    assert float(clean.abs().sum()) == 0


def test_a_student_equal_to_its_teacher_has_no_loss_after_one_step():
    pair = (tables(3, 1), tables(3, 1))
    losses = measured(SelfDistillation(1), 3, (0, 2), GAP, 0, pair)
    assert float(losses.abs().max()) < 1e-6


def test_at_least_one_teacher_step_is_needed():
    with pytest.raises(ValueError, match="teacher_steps must be at least 1, got 0"):
        SelfDistillation(teacher_steps=0)

"""A step of elastic training is the mean of its networks' losses, with the largest as teacher."""

import pytest
import tiny
import torch

from unison.compress.elastic import Elastic, view
from unison.compress.elastic.learning import Learning, divergence
from unison.compress.elastic.ledger import Ledger
from unison.models import Transformer
from unison.objectives import OBJECTIVES, Batch, Duo
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import Nats

SETTINGS = Elastic(depths=(0.5, 1.0), heads=(0.5, 1.0), mlps=(0.5, 1.0), drawn=2, lesson=0.7)
OBJECTIVE = {
    "soft": Duo(curriculum_steps=99, tau=0.1),
    **{n: OBJECTIVES[n]() for n in tiny.FAMILIES},
}


def _case(name: str):
    model = tiny.model("duo" if name == "soft" else name, depth=2)
    network = model.network
    assert isinstance(network, Transformer)
    space = SETTINGS.space(network.config)
    learning = Learning(OBJECTIVE[name], SETTINGS, space, Ledger(len(space.choices)), 5)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(model.process.vocab_size, (4, 16), generator=generator)
    valid = torch.arange(16) < torch.tensor([16, 12, 16, 9])[:, None]
    batch = Batch(tokens, torch.tensor([0.2, 0.5, 0.7, 0.9]).double(), valid)
    return model.process, network, learning, batch, Key(rng.rows(0, 0, 4), 3)


def _lesson(process, network, small, call) -> torch.Tensor:
    """KL summed over what counts: hidden positions of a masked text, real ones of others."""
    inputs, sigma, valid = call
    p = network(inputs, sigma, valid).detach().double().log_softmax(-1)
    q = small(inputs, sigma, valid).double().log_softmax(-1)
    apart = (p.exp() * (p - q)).sum(-1)
    hidden = inputs == process.mask_id if isinstance(process, Absorbing) else valid
    return (apart * (hidden & valid)).sum()


@pytest.mark.parametrize("name", OBJECTIVE)
def test_a_step_is_the_mean_over_its_networks_and_the_largest_teaches(name):
    process, network, learning, batch, key = _case(name)
    calls = []

    class Listening:
        config = network.config

        def __call__(self, *call):
            calls.append(call)
            return network(*call)

    own = learning.objective(process, Listening(), batch, key)
    totals = [own.total]
    for number in learning.chosen(key.step):
        small = view(network, learning.space.choices[number])
        told = learning.objective(process, small, batch, key)
        lessons = [_lesson(process, network, small, call) for call in calls]
        totals.append(told.total + 0.7 * torch.stack(lessons).sum().float())
    assert len(totals) == 4
    wanted = torch.stack(totals).mean()
    ours = learning(process, network, batch, key)
    torch.testing.assert_close(ours.total, wanted, rtol=1e-4, atol=1e-4)
    assert ours.count == own.count
    weights = list(network.parameters())
    for mine, theirs in zip(
        torch.autograd.grad(ours.total, weights, allow_unused=True),
        torch.autograd.grad(wanted, weights, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_what_a_network_is_above_the_largest_is_written_down():
    process, network, learning, batch, key = _case("mdlm")
    numbers = learning.chosen(key.step)
    learning(process, network, batch, key)
    assert not learning.ledger.losses()[1].any()  # not before the step is over
    learning.ledger.settle()
    losses, seen = learning.ledger.losses()
    largest = learning.objective(process, network, batch, key)
    for number in range(len(losses)):
        if number not in numbers:
            assert seen[number] == 0
            continue
        small = view(network, learning.space.choices[number])
        told = learning.objective(process, small, batch, key)
        above = ((told.total - largest.total) / told.count).item()
        assert losses[number] == pytest.approx(above, rel=1e-4, abs=1e-5)


def test_parts_of_a_batch_draw_the_same_networks_and_add_up():
    process, network, learning, batch, key = _case("mdlm")
    whole = learning(process, network, batch, key)
    learning.ledger.settle()
    after = learning.ledger.losses()
    learning.ledger.kept.zero_()
    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        some = Batch(*(None if part is None else part[rows] for part in batch))  # pyright: ignore
        parts.append(learning(process, network, some, Key(key.seed[rows], key.step)))
    both = Nats(parts[0].total + parts[1].total, parts[0].count + parts[1].count)
    torch.testing.assert_close(both.total, whole.total)
    assert both.count == whole.count
    learning.ledger.settle()
    for ours, theirs in zip(learning.ledger.losses(), after, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_the_smallest_always_learns_and_the_rest_is_drawn_between():
    learning = _case("mdlm")[2]
    for step in range(20):
        first, *others = learning.chosen(step)
        assert first == 0
        assert len(others) == 2
        assert set(others) <= set(learning.space.between)


def test_old_losses_are_forgotten_by_halves_and_broken_ones_not_taken_in():
    ledger = Ledger(2, half=1.0)
    for value in (8.0, 2.0, 5.0, float("nan")):
        ledger.note(0, torch.tensor(3 * value), torch.tensor(3))
        ledger.settle()
    losses, seen = ledger.losses()
    assert losses.tolist() == pytest.approx([(8 / 4 + 2 / 2 + 5) / 1.75, 0])
    assert seen.tolist() == pytest.approx([1.75, 0])


def test_divergence_is_zero_between_equals_and_positive_otherwise():
    torch.manual_seed(0)
    one, other = torch.randn(2, 3, 4, 7)
    other[..., 2] = one[..., 2] = -torch.inf
    assert torch.equal(divergence(one, one), torch.zeros(3, 4))
    assert (divergence(one, other) > 0).all()

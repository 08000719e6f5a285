"""One step moves the weights by the mean gradient of the whole batch, clipped, or not at all."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import tiny
import torch

from unison.objectives import Duo, Objective
from unison.train import Optimizer, optim, step
from unison.train.ema import Average
from unison.train.step import Learner
from unison.types import Nats


@dataclass(frozen=True)
class Scaled:
    """The uniform-state bound times a number that may depend on the step."""

    process: ClassVar[str] = "uniform"
    factor: float = 1.0
    broken: tuple[int, ...] = ()

    def __call__(self, process, network, batch, key):
        total, count = Duo()(process, network, batch, key)
        factor = math.nan if key.step in self.broken else self.factor
        return Nats(total * factor, count)

    def losses(self, process, network, batch, key):
        return Duo().losses(process, network, batch, key) * self.factor


def learner(objective: Objective, optimizer=None, family="duo", **changes) -> Learner:
    made = tiny.model(family, **changes)
    network = made.network.train()
    optimizers = optim.make(network, Optimizer()) if optimizer is None else [optimizer(network)]
    return Learner(network, made.process, objective, optimizers)


def tokens(rows=16):
    return (torch.arange(rows * 16).reshape(rows, 16) * 7) % 40


def weights(network):
    return torch.cat([w.detach().flatten().clone() for w in network.parameters()])


@pytest.mark.parametrize("family", ["duo", "mdlm", "ar"])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_micro_batches_add_up_to_the_whole_batch(family, size):
    results = []
    for micro in (None, size):
        settings = tiny.config(
            family,
            batch_size=16,
            micro_batch=micro,
            optimizer=Optimizer(lr=1e-2, eps=1e-2, warmup=0),
        )
        network = tiny.model(family).network.train()
        made = Learner(
            network,
            tiny.model(family).process,
            settings.objective,
            optim.make(network, settings.optimizer),
        )
        results.append((step.take(made, settings, tokens(), 0), weights(network)))
    (whole, after_whole), (parts, after_parts) = results
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert parts.grad_norm == pytest.approx(whole.grad_norm, rel=1e-5)
    torch.testing.assert_close(after_parts, after_whole, rtol=0, atol=1e-6)


def sgd(network):
    return torch.optim.SGD(network.parameters(), lr=0.5)


@pytest.mark.parametrize(("clip", "share"), [(1e9, 1.0), (0.01, None)])
def test_clipping_shortens_the_mean_gradient_to_the_limit_and_keeps_its_direction(clip, share):
    plain = tiny.config(optimizer=Optimizer(warmup=0, clip=1e9))
    moved = {}
    for limit in (1e9, clip):
        made = learner(Scaled(), sgd)
        before = weights(made.network)
        settings = dataclasses.replace(plain, optimizer=Optimizer(warmup=0, clip=limit))
        outcome = step.take(made, settings, tokens(), 0)
        moved[limit] = weights(made.network) - before
    gradient = moved[1e9] / -0.5
    assert outcome.grad_norm == pytest.approx(float(gradient.norm()), rel=1e-4)
    expected = gradient * (share or clip / gradient.norm())
    torch.testing.assert_close(moved[clip] / -0.5, expected, rtol=1e-4, atol=1e-6)


def test_a_clipped_step_does_not_depend_on_the_scale_of_the_loss():
    after = []
    for factor in (1.0, 1000.0):
        made = learner(Scaled(factor), sgd)
        settings = tiny.config(optimizer=Optimizer(warmup=0, clip=1e-3))
        step.take(made, settings, tokens(), 0)
        after.append(weights(made.network))
    torch.testing.assert_close(after[0], after[1], rtol=1e-5, atol=1e-7)


def test_a_gradient_that_is_not_finite_leaves_weights_and_moments_alone():
    made = learner(Scaled(broken=(1,)))
    settings = tiny.config()
    assert not step.take(made, settings, tokens(), 0).skipped
    before, moments = weights(made.network), made.optimizers[0].state_dict()["state"]
    kept = {i: {k: v.clone() for k, v in state.items()} for i, state in moments.items()}
    outcome = step.take(made, settings, tokens(), 1)
    assert outcome.skipped
    assert math.isnan(outcome.loss)
    assert torch.equal(weights(made.network), before)
    after = made.optimizers[0].state_dict()["state"]
    assert all(torch.equal(after[i][k], v) for i, s in kept.items() for k, v in s.items())
    assert not step.take(made, settings, tokens(), 2).skipped, "the NaN stayed in the gradient"
    assert weights(made.network).isfinite().all()


def test_the_next_step_after_a_skipped_one_is_the_one_that_would_have_been_taken():
    after = []
    for broken in ((), (0,)):
        made = learner(Scaled(broken=broken))
        if broken:
            step.take(made, tiny.config(), tokens(), 0)
        step.take(made, tiny.config(), tokens(), 1)
        after.append(weights(made.network))
    assert torch.equal(*after)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    {
        "constant": {0: 1 / 5, 3: 4 / 5, 4: 1.0, 5: 1.0, 23: 1.0},
        "linear": {0: 1 / 5, 4: 1.0, 14: 0.55, 24: 0.1},
        "cosine": {0: 1 / 5, 4: 1.0, 9: 0.1 + 0.9 * (1 + 0.5**0.5) / 2, 14: 0.55, 24: 0.1},
    }.items(),
)
def test_the_learning_rate_warms_up_and_decays_as_stated(schedule, expected):
    settings = Optimizer(warmup=4, schedule=schedule, final=0.1)
    for at, share in expected.items():
        assert optim.rate(settings, at, 24) == pytest.approx(share, abs=1e-12), at


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_weight_belongs_to_one_optimizer_and_gets_its_share_of_the_peak_rate(name):
    network = tiny.model().network
    settings = Optimizer(name, lr=1e-3, muon_lr=2e-2)
    optimizers = optim.make(network, settings)
    held = [id(w) for o in optimizers for group in o.param_groups for w in group["params"]]
    assert sorted(held) == sorted(id(w) for w in network.parameters())
    for share in (0.5, 0.25, 1.0):  # of the peak, not of the last value
        optim.set_rate(optimizers, share)
        rates = [group["lr"] for o in optimizers for group in o.param_groups]
        assert rates == [share * lr for lr in ((2e-2, 1e-3) if name == "muon" else (1e-3,))]


def test_muon_moves_the_matrices_of_the_blocks_and_nothing_else():
    network = tiny.model(depth=2).network
    muon, adamw = optim.make(network, Optimizer("muon"))
    names = {id(w): n for n, w in network.named_parameters()}
    by_muon = {names[id(w)] for w in muon.param_groups[0]["params"]}
    by_adamw = {names[id(w)] for w in adamw.param_groups[0]["params"]}
    assert by_muon
    assert all(n.startswith("blocks.") for n in by_muon)
    assert {"embed.weight", "head.weight"} <= by_adamw
    assert all(w.ndim == 2 for w in muon.param_groups[0]["params"])


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9999])
def test_the_average_of_the_weights_warms_up_by_its_stated_formula(decay):
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(network.weight, 5.0)
    average, by_hand = Average(network, decay), 5.0
    for n, value in enumerate((1.0, -2.0, 4.0, 0.5, 7.0)):
        torch.nn.init.constant_(network.weight, value)
        average.update(network, n)
        kept = min(decay, (1 + n) / (10 + n)) if decay else 0.0
        by_hand = kept * by_hand + (1 - kept) * value
        assert float(average.weights[0]) == pytest.approx(by_hand, rel=1e-6)


def test_swapping_the_average_in_and_out_changes_nothing():
    network = tiny.model().network
    average = Average(network, 0.9)
    tiny.randomise(network, seed=1)
    raw, mean = weights(network), [w.clone() for w in average.weights]
    average.swap(network)
    assert torch.equal(weights(network), torch.cat([w.flatten() for w in mean]))
    average.swap(network)
    assert torch.equal(weights(network), raw)
    assert all(torch.equal(a, b) for a, b in zip(average.weights, mean, strict=True))


def test_a_step_depends_on_its_number_and_the_seed_and_on_nothing_before_it():
    outcomes = []
    for seed, number, noise in ((0, 3, 0), (0, 3, 99), (0, 4, 0), (1, 3, 0)):
        torch.manual_seed(noise)
        made = learner(Scaled(), sgd, dropout=0.5)
        outcomes.append(step.take(made, tiny.config(seed=seed), tokens(), number).loss)
    assert outcomes[0] == outcomes[1]
    assert len(set(outcomes)) == 3


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_any_allowed_seed_trains(seed):
    made = learner(Scaled())
    assert math.isfinite(step.take(made, tiny.config(seed=seed), tokens(4), 5).loss)
    with pytest.raises(ValueError, match="seed must be in"):
        tiny.config(seed=2**63)

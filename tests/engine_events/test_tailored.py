"""Networks cut to conditions: what is left out was switched off, and experts are used evenly."""

import itertools

import pytest
import torch
from torch import nn

from unison.engine.continuous import routing, sites
from unison.engine.continuous.tailored import Found, Tailoring, exported, tailor
from unison.event_model import EventModel
from unison.models.continuous import DiTConfig, PointsConfig, UNetConfig, WaveConfig, build
from unison.objectives.continuous import Denoising, EventBatch
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM

CONFIGS = {
    "unet": UNetConfig(width=16, attention=(0,), classes=3),
    "dit": DiTConfig(width=16, depth=2, heads=4, classes=3),
    "wave": WaveConfig(width=16, multipliers=(1, 2), classes=3),
}


def numbers(seed, *shape):
    count = torch.Size(shape[1:]).numel()
    return rng.normal(Key(rng.rows(seed, 0, shape[0])), 1, count).float().view(shape)


def lively(config):
    """A network none of whose weights is 0."""
    network = build(config)
    with torch.no_grad():
        for place, weight in enumerate(network.parameters()):
            weight += 0.1 * numbers(place, 1, weight.numel())[0].view_as(weight)
    return network.double().eval()


def case_of(config, rows=4):
    shape = (16,) if isinstance(config, WaveConfig) else (8, 8)
    x = numbers(5, rows, config.channels, *shape).double()
    return x, numbers(6, rows, 1)[:, 0].double(), torch.arange(rows) % 3


def chosen(seed, count):
    return rng.uniform(Key(torch.tensor([seed])), 2, count)[0] < 0.6


def model_of(config):
    return EventModel(lively(config), EDM(), (1, 8, 8), 0.5, span=(0.01, 40.0))


def batches(step, rows=8):
    key = Key(rng.rows(3, 0, rows), step)
    label = (rng.uniform(key, 9, 1)[:, 0] * 3).long()
    line = torch.linspace(-1, 1, 8)
    events = torch.stack([line.expand(8, 8), -line.expand(8, 8), line[:, None].expand(8, 8)])
    return EventBatch(events[label][:, None], rng.stratified(3, step, rows), label), key


@pytest.mark.parametrize("name", CONFIGS)
def test_a_cut_network_answers_as_the_gated_one(name):
    config = CONFIGS[name]
    network, case = lively(config), case_of(config)
    places = sites.sites_of(network)
    count = sum(site.groups for site in places)
    for seed in range(3):
        kept = chosen(seed, count)
        with torch.no_grad(), sites.gated(network, places, kept.double()):
            masked = network(*case)
        with torch.no_grad():
            small, whole = sites.cut(network, places, kept)(*case), network(*case)
        torch.testing.assert_close(small, masked, rtol=0, atol=1e-9)
        assert (small - whole).abs().max() > 1e-3


@pytest.mark.parametrize("name", CONFIGS)
def test_whole_branches_can_go(name):
    config = CONFIGS[name]
    network, case = lively(config), case_of(config)
    places = sites.sites_of(network)
    for gone in range(len(places)):
        kept = torch.cat([torch.full((s.groups,), i != gone) for i, s in enumerate(places)])
        with torch.no_grad(), sites.gated(network, places, kept.double()):
            masked = network(*case)
        with torch.no_grad():
            small = sites.cut(network, places, kept)(*case)
        torch.testing.assert_close(small, masked, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_have_gates_of_their_own(name):
    config = CONFIGS[name]
    network, case = lively(config), case_of(config)
    places = sites.sites_of(network)
    count = sum(site.groups for site in places)
    gates = torch.stack([chosen(seed, count).double() for seed in range(4)])
    with sites.gated(network, places, gates):
        together = network(*case)
    for row in range(4):
        with sites.gated(network, places, gates[row]):
            alone = network(*(part[row : row + 1] for part in case))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-9)
    assert not any(part._forward_pre_hooks for part in network.modules())


@pytest.mark.parametrize("name", CONFIGS)
def test_the_work_left_is_what_the_cut_network_does(name):
    config = CONFIGS[name]
    network, case = lively(config), case_of(config)
    places = sites.sites_of(network)
    cost = sites.cost_of(network, places, lambda some: some(*case))
    assert cost.total == sites.work(network, lambda some: some(*case))
    for seed in range(3):
        kept = chosen(seed, len(cost.groups))
        left = sites.work(sites.cut(network, places, kept), lambda some: some(*case))
        assert cost.share(kept.float()).item() == pytest.approx(left / cost.total, rel=1e-5)


def test_work_is_counted_by_hand():
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(48, 5))
    found = sites.work(network, lambda some: some(torch.zeros(1, 2, 4, 4)))
    assert found == 3 * 2 * 9 * 16 + 48 * 5


@pytest.mark.parametrize(("rows", "columns"), [(11, 4), (32, 8), (3, 8), (40, 5)])
@pytest.mark.parametrize("epsilon", [0.01, 0.05, 1.0])
def test_transport_uses_rows_and_columns_evenly(rows, columns, epsilon):
    scores = numbers(rows, rows, columns).tanh()
    scores = scores[torch.arange(rows) * 2 // 3]  # conditions come again in a batch
    plan = routing.sinkhorn(scores, epsilon)
    assert (plan.sum(1) * rows - 1).abs().max() < 1e-3
    assert (plan.sum(0) * columns - 1).abs().max() < 1e-3
    # Of the plans with these margins it alone is rows times columns times exp(score / epsilon).
    ratio = plan.log() - scores.double() / epsilon
    cross = ratio[:1, :1] + ratio[1:, 1:] - ratio[:1, 1:] - ratio[1:, :1]
    assert cross.abs().max() < 1e-6


def test_transport_goes_to_the_best_permutation():
    scores = numbers(4, 4, 4)
    best = max(itertools.permutations(range(4)), key=lambda p: sum(scores[i, p[i]] for i in p))
    plan = routing.sinkhorn(scores, 0.005)
    assert tuple(plan.argmax(1).tolist()) == best


def test_experts_have_even_shares_of_the_conditions():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        router = routing.Router(torch.eye(11), 20, 4)
    given = router.experts(0.05)
    assert max(given.count(expert) for expert in range(4)) <= 3


def test_the_threshold_meets_the_budget():
    codes, shares = numbers(1, 4, 50), torch.full((50,), 0.018)  # a tenth is never left out
    for budget in (0.2, 0.6, 0.9):
        open_ = codes > routing.threshold(codes, shares, budget)
        left = (1 - ((~open_).float() * shares).sum(1)).mean().item()
        assert left == pytest.approx(budget, abs=0.018 / 4 / 2 + 1e-6)
    assert (codes > routing.threshold(codes, shares, 1.0)).all()


def test_unequal_gates_are_shut_from_the_lowest_until_the_budget_is_met():
    codes = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    shares = torch.tensor([0.3, 0.5, 0.1, 0.04])
    kept = routing.within(codes, shares, 0.6)
    # 0.5 more would leave 0.2: it is passed over.
    assert kept.tolist() == [[False, True, False, True]]
    codes, shares = numbers(1, 4, 50), 0.001 + 0.03 * numbers(2, 1, 50)[0].sigmoid()
    for budget in (0.4, 0.6, 0.9):
        open_ = routing.within(codes, shares, budget)
        left = (1 - ((~open_).float() * shares).sum(1)).mean().item()
        assert left == pytest.approx(budget, abs=shares.min().item() / 4 / 2 + 1e-6)


def test_gates_are_whole_and_have_the_gradient_of_a_sigmoid():
    logits = torch.tensor([[-1.0, -0.1, 0.2, 3.0]], requires_grad=True)
    noise = torch.tensor([[0.0, 0.3, -0.3, 0.0]])
    gates = routing.switched(logits, noise, 0.4)
    torch.testing.assert_close(gates, torch.tensor([[0.0, 1.0, 0.0, 1.0]]))
    gates.sum().backward()
    share = torch.sigmoid((logits.detach() + noise) / 0.4)
    torch.testing.assert_close(logits.grad, share * (1 - share) / 0.4)


def test_wishes_alike_where_conditions_are_cost_least():
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    alike, unlike = vectors @ numbers(3, 2, 5), numbers(8, 3, 5)
    assert routing.contrast(vectors, vectors, 0.2) < routing.contrast(vectors, alike, 0.2) + 1e-6
    assert routing.contrast(vectors, vectors, 0.2) < routing.contrast(vectors, unlike, 0.2)


def trained(config, steps):
    """A network briefly trained on stripes that run along, against and across a line."""
    model = EventModel(build(config), EDM(), (1, 8, 8), 0.5, span=(0.01, 40.0))
    optimizer = torch.optim.Adam(model.network.parameters(), lr=3e-3)
    loss = Denoising()
    for step in range(steps):
        batch, key = batches(step)
        squares = loss(model.process, lambda label, beside: asked(model, label), batch, key)
        optimizer.zero_grad()
        (squares.total / squares.count).backward()
        optimizer.step()
    return model


def asked(model, label):
    return model.denoiser(label, gradients=True)


def test_tailoring_meets_its_budget_and_loses_less_than_it_did_at_first():
    model, seen = trained(UNetConfig(width=16, classes=3), 40), []
    weights = {name: value.clone() for name, value in model.network.state_dict().items()}
    config = Tailoring(experts=4, budget=0.6, steps=50, learning_rate=4e-2)
    found = tailor(model, config, batches, observe=lambda step, losses: seen.append(losses))
    left = found.cost.share(found.kept.float()).mean().item()
    assert left == pytest.approx(0.6, rel=0.01)
    first, last = (
        sum(losses.distillation.item() for losses in part) for part in (seen[:10], seen[-10:])
    )
    assert last < 0.8 * first
    assert set(found.expert) == {0, 1, 2, 3}
    after = model.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in weights.items())


def test_each_class_is_answered_by_its_own_expert():
    model = model_of(CONFIGS["unet"])
    places = sites.sites_of(model.network)
    count = sum(site.groups for site in places)
    kept = torch.stack([chosen(seed, count) for seed in range(2)])
    cost = sites.Cost(1.0, torch.zeros(count))
    router = routing.Router(torch.eye(4), count, 2)
    small = exported(model, Found(router, places, cost, kept, (0, 1, 0, 1)))
    x, level = numbers(1, 5, 1, 8, 8).double(), torch.full((5,), 0.7).double()
    label = torch.tensor([1, 0, -1, 2, 1])
    answer = small.denoiser(label)(x, level)
    whole = model.denoiser(label)
    for row, expert in enumerate((1, 0, 1, 0, 1)):
        one = torch.tensor([row])
        with sites.gated(model.network, places, kept[expert].double()):
            wanted = whole.keep(one)(x[one], level[one])
        torch.testing.assert_close(answer[one], wanted, rtol=0, atol=1e-9)


def test_impossible_wishes_are_refused():
    model = model_of(CONFIGS["unet"])
    with pytest.raises(ValueError, match="4 vectors"):
        tailor(model, Tailoring(experts=2), batches, torch.eye(3))
    with pytest.raises(ValueError, match="more than the 4 conditions"):
        tailor(model, Tailoring(experts=5), batches)
    with pytest.raises(ValueError, match="never left out"):
        tailor(model, Tailoring(experts=2, budget=0.01), batches)
    with pytest.raises(ValueError, match="budget must be in"):
        Tailoring(budget=1.5)
    with pytest.raises(ValueError, match="knows no classes"):
        tailor(model_of(UNetConfig(width=8)), Tailoring(experts=1), batches)
    with pytest.raises(ValueError, match="no branch that is known"):
        sites.sites_of(build(PointsConfig()))
    with pytest.raises(ValueError, match="which do not fall into 7 groups"):
        sites.sites_of(build(CONFIGS["dit"]), groups=7)
    with pytest.raises(ValueError, match="epsilon above 0"):
        routing.sinkhorn(torch.zeros(2, 2), 0.0)

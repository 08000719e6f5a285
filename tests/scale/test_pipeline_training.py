"""A network in stages learns what one process learns."""

import dataclasses

import pipeline_cases as cases
import pytest
import torch
from ranks import gloo, run
from torch.distributed import pipelining

from unison.objectives import Duo, MaskedNelbo, Udlm
from unison.scale.axes import CUTTERS
from unison.scale.config import Scale
from unison.scale.placing import place
from unison.scale.simulator.pipeline import Times, simulate
from unison.scale.simulator.pipeline_orders import Kind, Op, Shape, orders

KINDS = ("simctg", "any_order", "radd", "bd3", "complementary", "duo")

# Sums over micro-batches have one order everywhere. What differs is the norm, whose squares are
# added over ranks in float64, and a tied embedding, whose gradient is the sum of two sums.
CLOSE = 1e-5

PLANS = [
    ("1f1b", cases.config_of(Udlm(), Scale(schedule="1f1b")), True),
    ("gpipe", cases.config_of(Udlm(), Scale(schedule="gpipe")), False),
    ("interleaved", cases.config_of(Udlm(), Scale(schedule="interleaved")), True),
    ("deep", cases.config_of(Udlm(), Scale(schedule="interleaved4"), depth=8), False),
    ("tied", cases.config_of(Udlm(), tied=True), True),
    ("places", cases.config_of(MaskedNelbo(), positions="learned", shifted=True), True),
    (
        "bfloat16",
        dataclasses.replace(cases.config_of(Udlm(), qk_norm=False), precision="bfloat16"),
        False,
    ),
    ("soft", cases.config_of(Duo(curriculum_steps=2, soft="dense")), False),
    ("all", cases.config_of(Udlm(), micro=None), False),
]


def _compared(size, plan, several):
    """Check that every case ends where one process does; stages alone leave sums as they are."""
    told = run(size, cases.train_all, plan, several)
    for name, config, padded in several:
        alone = cases.learnt(dataclasses.replace(config, scale=Scale()), None, padded)
        for rank in told:
            assert rank[name][:2] == told[0][name][:2]
        losses, norms, weights = cases.apart(told[0][name], alone)
        assert losses < CLOSE, name
        assert norms < CLOSE, name
        assert weights < CLOSE, name
        same_sums = "x" not in plan
        if same_sums and config.micro_batch is not None:
            assert told[0][name][0][0] == alone[0][0], name


def test_steps_inside_somebodys_autocast_see_the_weights_of_the_step_before():
    name, config, padded = next(one for one in PLANS if one[0] == "bfloat16")
    alone = cases.learnt(dataclasses.replace(config, scale=Scale()), None, padded)
    with torch.autocast("cpu", enabled=False):
        inside = cases.learnt(dataclasses.replace(config, scale=Scale()), None, padded)
    assert inside[:2] == alone[:2], name


@gloo
def test_objectives_of_every_kind_are_learnt_as_by_one_process():
    """A causal network, orders, no time, blocks, two views of a text, soft tokens."""
    _compared(2, "pp2", [one for one in _objectives() if one[0] in KINDS])


@gloo
@pytest.mark.slow
def test_every_objective_is_learnt_as_by_one_process():
    several = _objectives()
    assert len(several) == 16
    _compared(2, "pp2", several)


def _objectives():
    return [(name, cases.config_of(kind), False) for name, kind in cases.objectives().items()]


@gloo
def test_every_schedule_and_shape_is_learnt_as_by_one_process():
    _compared(2, "pp2", PLANS)


@gloo
@pytest.mark.slow
@pytest.mark.parametrize("plan", ["pp4", "pp2xdp2", "pp2xtp2", "pp2xfsdp2"])
def test_four_ranks_learn_what_one_does(plan):
    some = ("1f1b", "tied") if plan == "pp4" else ("1f1b", "interleaved", "tied", "places")
    several = [case for case in PLANS if case[0] in some]
    if plan == "pp2xfsdp2":
        several.append(("simctg", cases.config_of(cases.objectives()["simctg"]), True))
    micro = 1 if "dp2" in plan else 2
    several = [(n, dataclasses.replace(c, micro_batch=micro), p) for n, c, p in several]
    _compared(4, plan, several)


def _noticed(rank, size, schedule):
    """Return what a rank does in one step, in order, and what its network is asked."""
    done, asked = [], []
    stage = pipelining.PipelineStage
    forward, backward = stage.forward_one_chunk, stage.backward_one_chunk

    def ahead(self, number, *rest, **named):
        done.append(("F", self.stage_index, number))
        return forward(self, number, *rest, **named)

    def back(self, number, *rest, **named):
        done.append(("B", self.stage_index, number))
        return backward(self, number, *rest, **named)

    stage.forward_one_chunk, stage.backward_one_chunk = ahead, back
    config = cases.config_of(Udlm(), Scale(schedule=schedule), micro=1)
    process, network = cases.network_of(config)
    placed = place(network, cases.spread_of(rank, size, "pp", schedule), CUTTERS)
    pipe, evaluate = placed.made["pp"], network.stage

    def noted(call, *rest):
        asked.append((call.inputs, call.sigma))
        return evaluate(call, *rest)

    network.stage = noted
    tokens, _, _ = cases.text(0)
    keys = cases.batch_key(config.seed, 0, cases.ROWS)
    strata = cases.rng.stratified(config.seed, 0, cases.ROWS)

    def ask(net, rows):
        batch = cases.Batch(tokens[rows], strata[rows])
        return config.objective(process, net, batch, keys._replace(seed=keys.seed[rows]))

    total, count = pipe.accumulated(cases.ROWS, 1, ask, bfloat16=False)
    assert placed.network is network
    return done, asked, float(total), float(count)


@gloo
@pytest.mark.parametrize(("schedule", "chunks"), [("gpipe", 1), ("1f1b", 1), ("interleaved", 2)])
def test_ranks_work_in_the_order_whose_idle_share_is_the_formula(schedule, chunks):
    told = run(2, _noticed, schedule)
    shape = Shape(2, cases.ROWS, chunks)
    kinds = {"F": Kind.FORWARD, "B": Kind.BACKWARD}
    for rank, (done, _, _, count) in enumerate(told):
        assert [Op(kinds[kind], *rest) for kind, *rest in done] == orders(schedule, shape)[rank]
        assert count == cases.ROWS * cases.LENGTH
    trace = simulate(schedule, shape, Times(1.0, 1.0, 1.0))
    assert trace.makespan / max(trace.work) - 1 == pytest.approx(1 / (chunks * cases.ROWS))


@gloo
def test_noise_has_the_bits_it_has_on_one_process():
    told = run(2, _noticed, "1f1b")
    process, network = cases.network_of(cases.config_of(Udlm()))
    asked = []

    def noted(inputs, sigma, valid=None):
        asked.append((inputs, sigma))
        return network(inputs, sigma, valid)

    tokens, _, _ = cases.text(0)
    batch = cases.Batch(tokens, cases.rng.stratified(0, 0, cases.ROWS))
    nats = Udlm()(process, noted, batch, cases.batch_key(0, 0, cases.ROWS))
    for _, theirs, total, _ in told:
        assert torch.equal(torch.cat([ids for ids, _ in theirs]), asked[0][0])
        assert torch.equal(torch.cat([sigma for _, sigma in theirs]), asked[0][1])
        assert total == pytest.approx(nats.total.item(), rel=1e-6)

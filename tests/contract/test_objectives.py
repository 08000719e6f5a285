"""What every objective promises, whatever it minimises: held against every entry of the table."""

import dataclasses

import pytest
import torch

from unison.models import Transformer, TransformerConfig
from unison.objectives import (
    OBJECTIVES,
    AnyOrder,
    Batch,
    D3pm,
    Duo,
    Flow,
    Objective,
    Radd,
    Sedd,
)
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import PROCESSES, Holes, Sequential

VOCAB, LENGTH, ROWS = 9, 8, 6
CASES = {name: kind() for name, kind in OBJECTIVES.items()} | {
    "duo, dense soft tokens": Duo(5, soft="dense", tau=0.1),
    "duo, top soft tokens": Duo(5, tau=0.1),
    "radd, score entropy": Radd("t_dse"),
    "radd, fixed count": Radd("k_dce"),
    "any_order, next token": AnyOrder(single=True),
    "sedd, uniform": Sedd("uniform"),
    "d3pm, uniform": D3pm("uniform", levels=4, auxiliary=0.1),
    "flow, uniform": Flow("uniform"),
    "flow, uniform, bound": Flow("uniform", "elbo"),
}
SILENT = {"ar", "simctg"}  # draw no noise

every_objective = pytest.mark.parametrize("name", CASES)


def network_for(objective):
    """A small transformer of the first kind the objective names, with random weights."""
    needs, process = objective.needs, PROCESSES[objective.process](VOCAB)
    if needs.holes:
        process = Sequential(VOCAB, holes=Holes(needs.holes, 0))
    attention = needs.attention[0]
    config = TransformerConfig(
        vocab_size=VOCAB,
        num_states=process.num_states,
        hidden=16,
        depth=2,
        heads=2,
        max_length=2 * LENGTH,
        cond_dim=8,
        attention=attention,
        block_length=4 if attention == "block_causal" else None,
        time=needs.time[0],
        scalar=needs.scalar,
        self_conditioning=needs.self_conditioning[0],
    )
    torch.manual_seed(0)
    network = Transformer(config)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return process, network.double()


def batch_of():
    g = torch.Generator().manual_seed(3)
    tokens = torch.randint(VOCAB, (ROWS, LENGTH), generator=g)
    return Batch(tokens, rng.stratified(0, 0, ROWS))


def total(name, batch, seeds):
    objective = CASES[name]
    process, network = network_for(objective)
    return objective(process, network, batch, Key(seeds))


@every_objective
def test_it_is_a_frozen_value_that_keeps_the_protocol(name):
    objective = CASES[name]
    assert isinstance(objective, Objective)
    assert objective.process in PROCESSES
    assert dataclasses.is_dataclass(objective)
    assert objective == dataclasses.replace(objective)
    assert type(objective).__doc__


@every_objective
def test_two_parts_of_a_batch_add_up_to_the_whole(name):
    batch, seeds = batch_of(), rng.rows(0, 0, ROWS)
    whole = total(name, batch, seeds)
    parts = [
        total(name, Batch(batch.tokens[part], batch.strata[part]), seeds[part])
        for part in (slice(0, 4), slice(4, ROWS))
    ]
    torch.testing.assert_close(parts[0].total + parts[1].total, whole.total)
    assert parts[0].count + parts[1].count == whole.count


@every_objective
def test_padding_contributes_nothing(name):
    """Neither to the sum nor to the count, whatever the padding holds."""
    batch, seeds = batch_of(), rng.rows(0, 0, ROWS)
    valid = torch.ones(ROWS, LENGTH, dtype=torch.bool)
    valid[:, 5:] = False
    other = torch.where(valid, batch.tokens, (batch.tokens + 1) % VOCAB)
    first = total(name, batch._replace(valid=valid), seeds)
    second = total(name, Batch(other, batch.strata, valid), seeds)
    torch.testing.assert_close(first.total, second.total, rtol=1e-9, atol=1e-9)
    assert first.count == second.count
    everything = total(name, batch._replace(valid=torch.ones_like(valid)), seeds)
    torch.testing.assert_close(everything.total, total(name, batch, seeds).total)


@every_objective
def test_given_text_is_neither_noised_nor_counted(name):
    """All of it given costs nothing; part of it given costs what the rest costs."""
    batch, seeds = batch_of(), rng.rows(0, 0, ROWS)
    given = torch.zeros(ROWS, LENGTH, dtype=torch.bool)
    given[:, :4] = True
    part = total(name, batch._replace(given=given), seeds)
    assert int(part.count) == ROWS * (LENGTH - 4)
    assert torch.isfinite(part.total)
    everything = total(name, batch._replace(given=torch.ones_like(given)), seeds)
    assert everything.total.item() == 0
    assert int(everything.count) == 0
    nothing = total(name, batch._replace(given=torch.zeros_like(given)), seeds)
    torch.testing.assert_close(nothing.total, total(name, batch, seeds).total)


@every_objective
def test_it_is_pure(name):
    batch, seeds = batch_of(), rng.rows(0, 0, ROWS)
    before = batch.tokens.clone()
    assert torch.equal(total(name, batch, seeds).total, total(name, batch, seeds).total)
    assert torch.equal(batch.tokens, before)


@every_objective
def test_its_noise_is_named_by_the_rows_seeds(name):
    batch = batch_of()
    first, second = (total(name, batch, rng.rows(seed, 0, ROWS)).total for seed in (0, 1))
    assert (first == second) == (name in SILENT)


@every_objective
def test_every_weight_of_the_network_learns_from_it(name):
    """What it needs, and nothing else, gets a gradient."""
    objective = CASES[name]
    process, network = network_for(objective)
    objective(process, network, batch_of(), Key(rng.rows(0, 0, ROWS))).total.backward()
    idle = [n for n, w in network.named_parameters() if w.grad is None or not w.grad.any()]
    assert idle == []

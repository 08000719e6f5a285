"""A likelihood with a margin between positions, against a loop over pairs."""

import dataclasses

import causal
import pytest
import torch

from unison.objectives import AutoregressiveNll, Batch, SimCtg
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Sequential

V = 7
PROCESS = Sequential(V)
NETWORK = causal.network(3, V, num_states=PROCESS.num_states)


def batch(rows: int = 3, length: int = 6, **masks) -> Batch:
    g = torch.Generator().manual_seed(1)
    tokens = torch.randint(V, (rows, length), generator=g)
    return Batch(tokens, rng.stratified(0, 0, rows), **masks)


def key(rows: int = 3) -> Key:
    return Key(rng.rows(0, 0, rows))


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def by_hand(one: Batch, margin: float) -> tuple[float, int]:
    """The loss, row by row and pair by pair."""
    total, count = 0.0, 0
    for row, tokens in enumerate(one.tokens):
        inputs = torch.cat([torch.tensor([PROCESS.bos_id]), tokens[:-1]])[None]
        with torch.no_grad():
            h = NETWORK.features(inputs, torch.zeros(1))[0].double()
            logp = NETWORK.logits(h[None].float())[0].double().log_softmax(-1)
        real = [i for i in range(len(tokens)) if one.valid is None or one.valid[row, i]]
        for i in real:
            if one.given is not None and one.given[row, i]:
                continue
            apart = [max(0.0, margin - 1 + cosine(h[i], h[j])) for j in real if j != i]
            total += -float(logp[i, tokens[i]]) + (sum(apart) / len(apart) if apart else 0.0)
            count += 1
    return total, count


@pytest.mark.parametrize("margin", [0.5, 1.2])
def test_the_loss_is_the_sum_over_tokens_and_pairs(margin: float):
    valid = torch.ones(3, 6, dtype=torch.bool)
    valid[1, 4:] = valid[2, 1:] = False  # the last row has no pair at all
    given = torch.zeros(3, 6, dtype=torch.bool)
    given[0, :3] = True
    for one in (batch(), batch(valid=valid), batch(valid=valid, given=given)):
        found = SimCtg(margin)(PROCESS, NETWORK, one, key())
        total, count = by_hand(one, margin)
        assert found.total.item() == pytest.approx(total, rel=1e-5)
        assert int(found.count) == count


def test_for_rows_of_one_length_it_is_the_mean_over_all_pairs():
    found = SimCtg(0.9)(PROCESS, NETWORK, batch(), key())
    plain = AutoregressiveNll()(PROCESS, NETWORK, batch(), key())
    with torch.no_grad():
        h = NETWORK.features(PROCESS.shifted(batch().tokens), torch.zeros(3)).double()
    pairs = [
        max(0.0, 0.9 - 1 + cosine(row[i], row[j]))
        for row in h
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    gap = (found.total / found.count - plain.total / plain.count).item()
    assert gap == pytest.approx(sum(pairs) / len(pairs), rel=1e-4)
    assert gap > 0.05


def test_without_a_margin_it_is_the_likelihood():
    found = SimCtg(0.0).losses(PROCESS, NETWORK, batch(), key())
    torch.testing.assert_close(found, AutoregressiveNll().losses(PROCESS, NETWORK, batch(), key()))


def test_a_step_down_its_gradient_moves_hidden_states_apart():
    network = causal.network(4, V, num_states=PROCESS.num_states).double()

    def crowding() -> torch.Tensor:
        with_margin = SimCtg(1.0)(PROCESS, network, batch(), key()).total
        return with_margin - AutoregressiveNll()(PROCESS, network, batch(), key()).total

    before = crowding()
    before.backward()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.grad is not None:
                weight -= 1e-3 * weight.grad
    assert crowding().item() < before.item()


@pytest.mark.parametrize("margin", [-0.1, 2.5])
def test_a_margin_no_cosine_can_have_is_refused(margin: float):
    with pytest.raises(ValueError, match=f"margin must be in .* got {margin}"):
        dataclasses.replace(SimCtg(), margin=margin)

"""The loops ours is compared with are the published ones, and the choice among ours is fair."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracle import diffusion_gemma as oracle

from benchmarks import problem_model, problems
from benchmarks import reference_loops as loops
from unison.decode.presets import PRESETS
from unison.process import Absorbing

SIZE, LENGTH = 7, 10


class OneRow:
    """The interface the restated loop of one row asks for, around logits of a whole canvas."""

    config = SimpleNamespace(text_config=SimpleNamespace(vocab_size=SIZE))
    lm_head = SimpleNamespace(weight=torch.zeros(1))

    def __init__(self, logits_fn):
        self.logits_fn = logits_fn
        self.model = SimpleNamespace(encoder=lambda input_ids: SimpleNamespace(past_key_values=0))

    def __call__(self, past_key_values, decoder_input_ids, self_conditioning_logits):
        return SimpleNamespace(logits=self.logits_fn(decoder_input_ids))


@pytest.mark.parametrize(
    "how",
    [
        oracle.Settings(steps=6),
        oracle.Settings(steps=12, bound=3.0, confident=1.5),
        oracle.Settings(steps=12, bound=20.0, confident=9.0),
    ],
    ids=str,
)
def test_several_rows_write_what_the_published_loop_writes_of_each(how):
    """Random tables: the logits of a place depend on it and on the token at its left."""
    random = torch.Generator().manual_seed(3)
    table = 3 * torch.randn(LENGTH, SIZE, SIZE, generator=random)
    draws = torch.rand(4, 3, how.steps + 1, LENGTH, generator=random, dtype=torch.float64)
    kinds = ("start", "token", "noise")

    def logits(x):
        return table[torch.arange(LENGTH), x.roll(1, -1)]

    written = loops.gemma(logits, SIZE, how, lambda what, step: draws[:, kinds.index(what), step])
    for row, said in enumerate(written.tolist()):
        alone, _ = oracle.write_canvas(
            OneRow(logits),
            [0],
            how,
            lambda what, step, row=row: draws[row, kinds.index(what), step],
        )
        assert said == alone


@pytest.fixture(scope="module")
def model():
    """Untrained, with weights strong enough that no two beliefs are alike."""
    torch.manual_seed(4)
    made = problem_model.fresh(
        Absorbing(problems.tokenizer().vocab_size), problem_model.PLANS["large"]
    )
    for weight in made.network.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    made.network.eval()
    return made


@torch.no_grad()
def test_the_preset_llada_writes_what_the_published_loop_writes(model):
    asked = loops.drawn(1, 2)
    ours = loops.by_ours({"float32": model}, loops.Candidate("llada", PRESETS["llada"]()))
    assert ours(asked) == loops.by_llada(model, asked)


def test_a_uniform_model_starts_with_the_weights_of_a_masked_one(model):
    made = problem_model.going_on(model, problem_model.PLANS["large"])
    before, after = model.network.state_dict(), made.network.state_dict()
    assert all(torch.equal(before[name][: len(w)], w) for name, w in after.items())
    assert made.process.vocab_size == model.process.vocab_size


def found(right, seconds):
    return loops.Found(np.array(right, dtype=bool), seconds)


def test_the_fastest_is_chosen_among_those_as_accurate():
    theirs = np.array([1, 1, 1, 0], dtype=bool)
    some = [
        (loops.Candidate(name, PRESETS["llada"]()), found(right, seconds))
        for name, right, seconds in (
            ("wrong and fast", [1, 1, 0, 0], 1.0),
            ("right", [1, 1, 0, 1], 3.0),
            ("right and slow", [1, 1, 1, 1], 4.0),
        )
    ]
    assert loops.fastest(some, theirs).label == "right"
    with pytest.raises(ValueError, match="no candidate is as accurate"):
        loops.fastest(some[:1], theirs)


def test_differences_are_paired():
    ours, theirs = np.array([1, 1, 0, 0], dtype=bool), np.array([1, 0, 0, 0], dtype=bool)
    apart = loops.difference(ours, theirs)
    assert apart.mean == 25.0
    assert apart.interval == pytest.approx(1.96 * 100 * np.std([0, 1, 0, 0], ddof=1) / 2)


def test_ratios_are_of_the_published_loop_over_each_find(capsys):
    runs = {
        "llada": [found([1, 0], 4.0), found([1, 1], 6.0)],
        "first": [found([1, 0], 2.0), found([1, 1], 2.0)],
        "second": [found([1, 0], 1.0), found([1, 0], 1.0)],
    }
    done = loops.outcome("llada", runs)
    assert [(one.name, one.low, one.high) for one in done.ratios] == [
        ("llada, strategy alone: published / ours", 2.0, 3.0),
        ("llada, best: published / ours", 4.0, 6.0),
    ]
    assert done.facts["llada, % right"] == 75.0
    assert done.facts["second"]["points"] == -25.0
    assert done.facts["second"]["tokens per CPU second"] == 4 * problems.ANSWER / 2.0

"""A compiled run learns what the plain one does, whole graph or not at all, and resumes exactly."""

import dataclasses
import json
from functools import partial

import pytest
import tiny
import torch
from tracing import traced, unchecked

from unison.engine.compiled import whole
from unison.scale.placing import alone
from unison.scale.plan import Plan
from unison.scale.spread import Spread
from unison.train import TrainError, loop, optim
from unison.train.compiling import Learning, learning, pays, unfit
from unison.train.folder import _compare, claim
from unison.train.setup import prepare
from unison.train.step import Learner, take


def broken(function):
    del function

    def graph(*arguments):
        raise RuntimeError("no C++ compiler was found\nlong story")

    return graph


def prepared(settings, folder):
    return prepare(settings, [tiny.corpus(folder)], torch.device("cpu"))


def losses(settings, folder, compiler=None, steps=3):
    """Take steps; return losses, gradient norms and the weights after them."""
    begun = prepared(settings, folder)
    network = begun.network.train()
    with torch.no_grad():  # away from the start, where all beliefs are uniform
        for number, weight in enumerate(network.parameters()):
            weight.add_(torch.sin(torch.arange(weight.numel()) + number).view_as(weight) / 9)
    seen = network
    if compiler is not None:
        settings = dataclasses.replace(settings, compile="on")
        seen = learning(settings, begun, alone(network), compiler)
        assert isinstance(seen, Learning)
    optimizers = optim.make(network, settings.optimizer)
    learner = Learner(seen, begun.process, begun.objective, optimizers, alone(network))
    done = []
    for step in range(steps):
        rows = begun.corpus.rows(settings.model.max_length, begun.stream.indices(step))
        done.append(take(learner, settings, rows.tokens, step))
    if compiler is not None:
        assert seen.forward.compiled
        assert not seen.forward.failed
    return done, torch.cat([weight.detach().flatten() for weight in network.parameters()])


CASES = {
    "duo": {},
    "gqa_swiglu": {"model": {"kv_heads": 1, "mlp": "swiglu", "norm": "rms", "qk_norm": True}},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.parametrize("case", CASES)
def test_one_graph_of_forward_and_backward_takes_the_steps_of_the_plain_network(case, tmp_path):
    settings = tiny.config(**CASES[case])
    plain, weights = losses(settings, tmp_path)
    made, moved = losses(settings, tmp_path, traced)
    close = 2e-2 if case == "bfloat16" else 1e-5
    for one, other in zip(plain, made, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=close)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=close)
    if case != "bfloat16":
        assert torch.allclose(weights, moved, atol=1e-4)


def test_where_the_compiler_fails_the_run_goes_on_as_written_after_one_line(tmp_path):
    settings = tiny.config(compile="on")
    begun, said = prepared(settings, tmp_path), []
    seen = learning(settings, begun, alone(begun.network), broken, said.append)
    assert seen is begun.network
    assert any("no C++ compiler was found" in line and "\n" not in line for line in said)
    assert all(weight.grad is None for weight in begun.network.parameters())


def test_a_backward_pass_that_cannot_be_compiled_is_found_before_the_first_step(tmp_path):
    class Refused(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError("no kernel for this gradient")

    settings = tiny.config(compile="on")
    begun, said = prepared(settings, tmp_path), []

    def forwards_only(function):
        return lambda *arguments: Refused.apply(function(*arguments))

    assert learning(settings, begun, alone(begun.network), forwards_only, said.append) is (
        begun.network
    )
    assert said == ["the network is not compiled: no kernel for this gradient"]
    assert all(weight.grad is None for weight in begun.network.parameters())


def test_trying_out_changes_neither_weights_nor_what_a_run_draws(tmp_path):
    settings = tiny.config(compile="on", model={"dropout": 0.3})

    def first_step(compiler):
        begun = prepared(settings, tmp_path)
        state = {name: w.clone() for name, w in begun.network.state_dict().items()}
        learning(settings, begun, alone(begun.network), compiler, lambda line: None)
        assert all(torch.equal(w, state[name]) for name, w in begun.network.state_dict().items())
        network = begun.network.train()
        optimizers = optim.make(network, settings.optimizer)
        learner = Learner(network, begun.process, begun.objective, optimizers)
        rows = begun.corpus.rows(settings.model.max_length, begun.stream.indices(0))
        return take(learner, settings, rows.tokens, 0)

    assert first_step(lambda f: f) == first_step(broken)


def test_off_is_the_network_itself_and_auto_on_a_small_run_too(tmp_path):
    for how in ("off", "auto"):
        settings = tiny.config(compile=how)
        begun = prepared(settings, tmp_path)
        assert learning(settings, begun, alone(begun.network), broken) is begun.network


def test_auto_is_a_function_of_the_configuration(tmp_path):
    begun = prepared(tiny.config(), tmp_path)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    long, short = 10**12, 10
    assert pays(tiny.config(steps=long, precision="bfloat16"), begun.network, cpu)
    assert not pays(tiny.config(steps=short, precision="bfloat16"), begun.network, cpu)
    assert not pays(tiny.config(steps=long, precision="float32"), begun.network, cpu)
    assert not pays(tiny.config(steps=long), begun.network, cpu)
    assert pays(tiny.config(steps=short), begun.network, gpu)


def test_a_network_cut_over_ranks_is_not_compiled(tmp_path):
    begun = prepared(tiny.config(), tmp_path)
    cut = dataclasses.replace(alone(begun.network), spread=Spread(plan=Plan(dp=2, tp=2)))
    whole_copies = dataclasses.replace(cut, spread=Spread(plan=Plan(dp=4)))
    assert unfit(tiny.config(), cut) == (
        "scale.plan cuts it (tp); only copies of the whole are compiled"
    )
    assert unfit(tiny.config(), whole_copies) is None


def test_evaluation_runs_as_written(tmp_path):
    settings = tiny.config(compile="on")
    begun = prepared(settings, tmp_path)
    seen = learning(settings, begun, alone(begun.network), lambda f: f)
    before = seen.forward.compiled
    tokens, sigma = torch.zeros(3, 16, dtype=torch.long), torch.ones(3)
    with torch.no_grad():
        seen.network.train()
        assert torch.equal(seen(tokens, sigma), begun.network(tokens, sigma))
    seen.network.eval()
    seen(tokens, sigma)
    assert seen.forward.compiled == before


def test_a_setting_newer_than_a_run_does_not_keep_it_from_going_on(tmp_path):
    settings = tiny.config()
    claim(tmp_path / "run", False, "train", settings, ["text"])
    path = tmp_path / "run" / "run.json"
    content = json.loads(path.read_text())
    del content["config"]["compile"]
    path.write_text(json.dumps(content))
    _compare(tmp_path / "run", "train", settings, ["text"])
    with pytest.raises(TrainError, match="compile"):
        _compare(tmp_path / "run", "train", tiny.config(compile="on"), ["text"])


def test_a_compiled_run_cut_off_and_resumed_ends_bit_for_bit_as_if_never_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "learning", partial(learning, compiler=traced))
    settings, text = tiny.config(compile="on"), tiny.corpus(tmp_path)
    tiny.run(settings, text, tmp_path / "whole")
    with pytest.raises(tiny.Cut):
        tiny.run(settings, text, tmp_path / "pieces", cut=5, resume=True)
    tiny.run(settings, text, tmp_path / "pieces", resume=True)
    tiny.assert_same(tmp_path / "whole", tmp_path / "pieces")


@pytest.mark.slow
def test_the_real_compiler_gives_the_losses_of_the_plain_network(tmp_path):
    settings = tiny.config(model={"depth": 2})
    plain, _ = losses(settings, tmp_path)
    with unchecked():
        made, _ = losses(settings, tmp_path, whole)
    for one, other in zip(plain, made, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)

"""Nobody starves, nobody harms another, and whoever leaves leaves nothing behind."""

import gc

import pytest
import tiny
import torch

from unison.generation import Sampling
from unison.generation.ordering import Asked, ordered

pytest.importorskip("greenlet")

from unison.engine.flow import Flow
from unison.serve.batching import (
    Engine,
    Failed,
    Finished,
    Full,
    Limits,
    Question,
    Started,
    Terms,
    Write,
    Wrote,
    collect,
)
from unison.serve.batching.batch import Batch
from unison.serve.batching.hub import Turn
from unison.serve.batching.queueing import FairQueue


@pytest.fixture(scope="module")
def model():
    return tiny.model("mdlm", length=24)


def work(model, steps=8, *, num=1, **terms):
    how = Sampling("llada", steps=steps)
    return Write(ordered(model, Asked("the", length=20, num=num), how), terms=Terms(**terms))


def rounds(engine, most=200):
    for _ in range(most):
        if not engine.busy:
            return
        engine.round()
    raise AssertionError("it does not come to an end")


def kinds(told):
    return [type(event).__name__ for event in told]


def test_a_poisoned_text_fails_alone_and_the_others_are_written(model):
    other = tiny.model("mdlm", length=24)
    engine, good, bad, worse = Engine(), [], [], []
    engine.submit(work(model), good.append)

    def explode(asked):
        raise ZeroDivisionError("planted")

    def bad_tokens(asked):
        asked.network(torch.full((1, 4), 10_000), torch.zeros(1))

    engine.submit(Question(model, explode), bad.append)
    engine.submit(Question(other, bad_tokens), worse.append)
    rounds(engine)
    assert kinds(good) == ["Started", "Wrote", "Finished"]
    assert isinstance(bad[-1], Failed)
    assert isinstance(bad[-1].error, ZeroDivisionError)
    assert isinstance(worse[-1].error, IndexError)
    assert engine.stats().failed == 2
    assert engine.stats().rows == 0


def test_a_strategy_that_fails_for_one_row_goes_on_with_the_others(model):
    class Poisoned(type(model.network)):
        def forward(self, inputs, *rest):
            if (inputs[:, 0] == self.poison).any():
                raise RuntimeError("planted")
            return super().forward(inputs, *rest)

    network = Poisoned(model.network.config)
    network.load_state_dict(model.network.state_dict())
    network.poison = model.tokenizer.encode("x")[0]
    from dataclasses import replace

    sick = replace(model, network=network.eval())
    how = Sampling("llada", steps=6)
    told = {}
    engine = Engine()
    for prompt in ("the", "x", "dog"):
        order = ordered(sick, Asked(prompt, length=20), how)
        engine.submit(Write(order), told.setdefault(prompt, []).append)
    rounds(engine)
    assert kinds(told["the"]) == kinds(told["dog"]) == ["Started", "Wrote", "Finished"]
    assert isinstance(told["x"][-1], Failed)
    assert "planted" in str(told["x"][-1].error)


def test_a_cancelled_text_is_gone_before_the_next_step(model):
    engine, told, other = Engine(), [], []
    ticket = engine.submit(work(model, num=3), told.append)
    engine.submit(work(model), other.append)
    engine.round()
    engine.round()
    assert engine.stats().rows == 4
    engine.cancel(ticket)
    engine.round()
    stats = engine.stats()
    assert (stats.rows, stats.cancelled) == (1, 1)
    rounds(engine)
    assert kinds(told) == ["Started"]
    assert kinds(other) == ["Started", "Wrote", "Finished"]


def test_what_is_cancelled_last_leaves_nothing_in_memory(model):
    def alive():
        gc.collect()
        return {id(held) for held in gc.get_objects() if type(held) in (Batch, Flow, Turn)}

    causal, others = tiny.model("ar", length=64), alive()
    for one in (work(model, num=2), continued(causal, "the"), Question(model, waits)):
        engine = Engine()
        ticket = engine.submit(one, lambda event: None)
        engine.round()
        engine.cancel(ticket)
        engine.round()
        assert alive() <= others


def waits(model):
    while True:
        model.network(torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1))


def test_a_deadline_ends_what_runs_and_what_waits(model):
    now = [0.0]
    engine = Engine(Limits(rows=1), clock=lambda: now[0])
    running, waiting, patient = [], [], []
    engine.submit(work(model, 12, deadline=5.0), running.append)
    engine.round()
    engine.submit(work(model, 4, deadline=1.0), waiting.append)
    engine.submit(work(model, 4), patient.append)
    engine.round()
    now[0] = 2.0
    engine.round()
    assert kinds(waiting) == ["Failed"]
    assert isinstance(waiting[-1].error, TimeoutError)
    now[0] = 6.0
    rounds(engine)
    assert isinstance(running[-1], Failed)
    assert "5 seconds" in str(running[-1].error)
    assert kinds(patient)[-1] == "Finished"


def test_no_more_is_taken_than_the_limits_say(model):
    engine = Engine(Limits(rows=1, waiting=1))
    for _ in range(2):
        engine.submit(work(model), lambda event: None)
    with pytest.raises(Full, match="2 requests"):
        engine.submit(work(model), lambda event: None)
    rounds(engine)
    engine.submit(work(model), lambda event: None)
    rounds(engine)


def test_what_never_fits_the_memory_is_refused_and_what_does_waits_for_it(model):
    from unison.serve.batching import account

    one = account.text_bytes(work(model).order, 0)
    told, many = [], []
    engine = Engine(Limits(memory=2 * one))
    engine.submit(work(model, num=5), many.append)
    engine.round()
    assert engine.stats().rows == 2
    assert engine.stats().memory == 2 * one
    rounds(engine)
    assert kinds(many).count("Wrote") == 5
    small = Engine(Limits(memory=one - 1))
    small.submit(work(model), told.append)
    rounds(small)
    assert "shorter canvas" in str(told[-1].error)


def test_clients_take_turns_whatever_one_of_them_sends():
    waiting = FairQueue()
    for i in range(6):
        waiting.put(f"many {i}", Terms("many"), 0.0)
    for i in range(2):
        waiting.put(f"few {i}", Terms("few"), 0.0)
    waiting.put("urgent", Terms("many", priority=1), 0.0)
    order = []
    while (first := waiting.first()) is not None:
        waiting.take(first)
        order.append(first.thing)
    assert order[0] == "urgent"
    assert order[1:5] == ["few 0", "many 0", "few 1", "many 1"]


def test_one_who_comes_back_does_not_make_up_for_lost_time():
    waiting = FairQueue()
    waiting.put("first", Terms("slow"), 0.0)
    waiting.take(waiting.waiting[0])
    for i in range(5):
        one = waiting.put(i, Terms("busy"), 0.0)
        waiting.take(one)
    for client in ("slow", "busy"):
        for _ in range(4):
            waiting.put(client, Terms(client), 0.0)
    order = []
    while (first := waiting.first()) is not None:
        waiting.take(first)
        order.append(first.thing)
    assert order[:6].count("busy") >= 2


def test_in_a_thread_of_its_own_it_serves_drains_and_closes(model):
    engine = Engine().start()
    told = list(collect(engine, work(model, num=2)))
    assert isinstance(told[0], Started)
    assert sorted(event.text for event in told if isinstance(event, Wrote)) == [0, 1]
    assert isinstance(told[-1], Finished)
    late = []
    engine.submit(work(model, 18), late.append)
    assert engine.drain(30.0)
    assert isinstance(late[-1], Finished)
    with pytest.raises(Full, match="going down"):
        engine.submit(work(model), late.append)
    engine.close()
    assert not engine.alive
    assert not engine._thread.is_alive()


def test_after_a_defect_of_its_own_it_serves_on(model, monkeypatch):
    from unison.serve.batching.cohorts import CohortLane

    def broken(self):
        monkeypatch.undo()
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(CohortLane, "settle", broken)
    engine = Engine().start()
    (failed,) = [one for one in collect(engine, work(model)) if isinstance(one, Failed)]
    assert isinstance(failed.error, ZeroDivisionError)
    assert isinstance(list(collect(engine, work(model)))[-1], Finished)
    assert engine.stats().rows == 0
    engine.close()


def test_closing_fails_what_is_not_done(model):
    engine, told = Engine(Limits(rows=1)).start(), []
    for _ in range(3):
        engine.submit(work(model, 18, num=4), told.append)
    engine.close()
    ends = [event for event in told if isinstance(event, Failed)]
    assert len(ends) + sum(isinstance(event, Finished) for event in told) == 3
    assert all(isinstance(event.error, InterruptedError) for event in ends)


def continued(model, prompt, seed=0, cache="exact", **how):
    order = ordered(model, Asked(prompt, length=48, seed=seed), Sampling(cache=cache, **how))
    return Write(order)


def test_a_prompt_that_was_read_before_is_remembered_and_the_text_is_the_same():
    causal = tiny.model("ar", length=64)
    prompt = tiny.TEXT[:36]
    fresh, shared = Engine(Limits(prefixes=0)), Engine()
    texts = []
    for engine in (fresh, shared):
        told = []
        for seed in range(3):
            engine.submit(continued(causal, prompt, seed), told.append)
            rounds(engine)
        texts.append([event.sample.tokens for event in told if isinstance(event, Wrote)])
    assert texts[0] == texts[1]
    assert fresh.stats().prefix_hits == 0
    assert shared.stats().prefix_hits == 2 * 32  # two whole units of 16 tokens, twice
    assert shared.stats().prefix_misses > 0


def test_a_token_evaluation_that_fails_is_repeated_one_by_one(monkeypatch):
    from unison.engine.flow import Flow

    causal = tiny.model("ar", length=64)
    advance, seen = Flow.advance, []

    def fragile(self):
        seen.append(len(self._running))
        if any(7 in one.asked.inputs for one in self._running.values()):
            raise RuntimeError("planted")
        return advance(self)

    bad = next(char for char in tiny.TEXT if causal.tokenizer.encode(char) == [7])
    good = [word for word in ("the", "ox", "lazy") if bad not in word][:2]
    told = {word: [] for word in (*good, bad)}
    alone = {}
    for word in good:
        engine = Engine()
        engine.submit(continued(causal, word), alone.setdefault(word, []).append)
        rounds(engine)
    monkeypatch.setattr(Flow, "advance", fragile)
    engine = Engine()
    for word, heard in told.items():
        engine.submit(continued(causal, word), heard.append)
    rounds(engine)
    assert isinstance(told[bad][-1], Failed)
    for word in good:
        (wrote,) = [event for event in told[word] if isinstance(event, Wrote)]
        assert wrote.answer == alone[word][-2].answer

"""A text is the one ``unison.generate`` writes, whatever runs beside it and whenever it began."""

import math
import random
from dataclasses import replace

import pytest
import tiny

import unison
from unison import constrain
from unison.decode import STRATEGIES
from unison.decode.presets import PRESETS
from unison.generation import Sampling
from unison.generation.ordering import Asked, ordered

pytest.importorskip("greenlet")

from unison.serve.batching import Engine, Limits, Step, Terms, Write, Wrote
from unison.serve.batching.work import Failed, Finished

PROMPTS = ["", "the", "quick brown"]
WAYS = {
    "mdlm": [
        {},
        {"strategy": "ancestral", "steps": 3, "top_p": 0.9},
        {"strategy": "llada", "steps": 5, "temperature": 0.7},
        {"strategy": "fast-dllm"},
        {"strategy": "fast-dllm", "cache": "dual", "block_length": 4},
        {"strategy": "llada", "cfg": 0.5, "steps": 4},
        {"strategy": "remdm", "steps": 6},
        {"strategy": "p2", "steps": 6},
        {"strategy": "wino", "block_length": 8},
        {"strategy": "first_hitting"},
        {"strategy": "llada", "cache": "unchanged", "steps": 4},
        {"strategy": "llada", "steps": 6, "ruled": True},
        {"strategy": "ancestral", "steps": 6, "ruled": True},
    ],
    "duo": [{}, {"strategy": "psi", "steps": 5}, {"strategy": "entropy-bound", "steps": 5}],
    "ar": [{}, {"cache": "exact"}, {"temperature": 0.8, "top_k": 3}, {"ruled": True}],
}
RULE = constrain.regex("[a-z ]{2,5}")


@pytest.fixture(scope="module")
def models():
    return {family: tiny.model(family, length=24) for family in WAYS}


def orders(models, seed, count):
    """Random requests, and what generate would be told."""
    rnd = random.Random(seed)
    for _ in range(count):
        family = rnd.choice(list(WAYS))
        how = dict(rnd.choice(WAYS[family]))
        asked = Asked(
            prompt=rnd.choice(PROMPTS),
            length=rnd.choice([14, 17, 24]),
            num=rnd.choice([1, 1, 2]),
            seed=rnd.randrange(100),
            constraint=RULE if how.pop("ruled", False) else None,
        )
        yield ordered(models[family], asked, Sampling(**how)), asked, how


class Listener:
    """Remembers everything told, by request."""

    def __init__(self):
        self.told = []

    def __call__(self, event):
        self.told.append(event)

    @property
    def samples(self):
        wrote = [event for event in self.told if isinstance(event, Wrote)]
        return [event.sample for event in sorted(wrote, key=lambda event: event.text)]

    def steps(self, text):
        return [event for event in self.told if isinstance(event, Step) and event.text == text]


def solo(order, asked, how):
    return unison.generate(
        order.model,
        asked.prompt,
        length=asked.length,
        num=asked.num,
        seed=asked.seed,
        constraint=asked.constraint,
        **how,
    )


def same(sample, alone, *, exactly):
    """Everything is equal; probabilities to rounding where a cache reads fewer tokens at once."""
    plain = [replace(one, confidence=[]) for one in (sample, alone)]
    assert plain[0] == plain[1]
    sure = [[math.nan if p is None else p for p in one.confidence] for one in (sample, alone)]
    assert sure[0] == pytest.approx(sure[1], abs=0.0 if exactly else 1e-5, rel=0, nan_ok=True)


def step_by_step(engine, works, late=()):
    """Run an engine's rounds by hand: some requests come with the first, others as told."""
    listeners = []
    pending = sorted(late, key=lambda one: one[0])
    for work in works:
        listeners.append(Listener())
        engine.submit(work, listeners[-1])
    rounds = 0
    while pending or engine.busy:
        while pending and pending[0][0] <= rounds:
            listeners.append(Listener())
            engine.submit(pending.pop(0)[1], listeners[-1])
        engine.round()
        rounds += 1
    return listeners


@pytest.mark.parametrize("seed", range(6))
def test_texts_of_a_crowd_are_those_written_alone_to_the_last_bit(models, seed):
    asked = list(orders(models, seed, 14))
    watched = [Write(order, watch=i % 3 == 0) for i, (order, *_) in enumerate(asked)]
    now, later = watched[:6], [(2 * i, work) for i, work in enumerate(watched[6:])]
    heard = step_by_step(Engine(Limits(rows=12)), now, later)
    for listener, one in zip(heard, asked, strict=True):
        assert isinstance(listener.told[-1], Finished), listener.told[-1]
        for sample, alone in zip(listener.samples, solo(*one), strict=True):
            same(sample, alone, exactly="cache" not in one[2])


def known(family):
    process = tiny.FAMILIES[family]
    for name, kind in {**STRATEGIES, **PRESETS}.items():
        made = kind() if name not in ("guided", "edlm", "learn2pd", "bd3") else None
        if made is not None and process in made.processes:
            yield family, name


@pytest.mark.parametrize(("family", "name"), [pair for f in WAYS for pair in known(f)])
def test_what_is_called_settled_never_changes_again(models, family, name):
    try:
        order = ordered(models[family], Asked("the", num=2, length=20, seed=3), Sampling(name))
    except ValueError as refused:
        pytest.skip(str(refused))
    (heard,) = step_by_step(Engine(), [Write(order, watch=True)])
    finals = heard.samples
    for text, final in enumerate(finals):
        steps = heard.steps(text)
        assert steps[0].settled >= 3
        for step in steps:
            assert list(step.tokens[: step.settled]) == final.tokens[: step.settled]
        assert [step.settled for step in steps] == sorted(step.settled for step in steps)
        assert list(steps[-1].tokens) == final.tokens


def test_steps_tell_every_change_and_replayed_give_the_text(models):
    order = ordered(models["mdlm"], Asked("the", length=20), Sampling("remdm", steps=8))
    (heard,) = step_by_step(Engine(), [Write(order, watch=True)])
    canvas = list(heard.steps(0)[0].tokens)
    for step in heard.steps(0)[1:]:
        changed = {i for i, (a, b) in enumerate(zip(canvas, step.tokens, strict=True)) if a != b}
        assert changed == set(step.changed)
        canvas = list(step.tokens)
    assert canvas == heard.samples[0].tokens


def test_a_stop_string_ends_the_text_early_and_is_not_shown(models):
    order = ordered(models["ar"], Asked("the", length=24, seed=5), Sampling(cache="exact"))
    (whole,) = step_by_step(Engine(), [Write(order)])
    answer = whole.told[-2].answer
    stop = answer[6:8]
    (cut,) = step_by_step(Engine(), [Write(order, stop=(stop, "never there"))])
    wrote = cut.told[-2]
    assert wrote.answer == answer[: answer.index(stop)]
    assert wrote.ended == "stop"
    assert wrote.sample.nfe < whole.told[-2].sample.nfe


def test_of_several_holes_only_what_was_written_counts(models):
    parts = ["the", 4, "ox", 3, "dog"]
    order = ordered(models["mdlm"], Asked(parts=parts), Sampling("llada", steps=4))
    (heard,) = step_by_step(Engine(), [Write(order)])
    wrote = heard.told[-2]
    ends = models["mdlm"].eos_ids
    holes = wrote.sample.tokens[3:7] + wrote.sample.tokens[9:12]
    if not set(holes) & set(ends):
        assert (wrote.tokens, wrote.ended) == (7, "length")
        assert "ox" in wrote.answer
    else:
        assert wrote.tokens <= 7


def test_interrupted_texts_begin_again_and_are_the_same(models):
    low = [(o, a, h) for o, a, h in orders(models, 11, 4) if a.num == 1]
    works = [Write(order, watch=True, terms=Terms("a", priority=0)) for order, *_ in low]
    order = ordered(models["mdlm"], Asked("the", length=14, num=2), Sampling("llada", steps=3))
    urgent = Write(order, terms=Terms("b", priority=5))
    engine = Engine(Limits(rows=2))
    heard = step_by_step(engine, works, [(3, urgent)])
    assert engine.stats().preempted >= 1
    assert len(heard[-1].samples) == 2
    for listener, one in zip(heard, low, strict=False):
        for sample, alone in zip(listener.samples, solo(*one), strict=True):
            same(sample, alone, exactly="cache" not in one[2])
        numbers = [step.step for step in listener.steps(0)]
        assert numbers == sorted(set(numbers))


def test_questions_are_answered_as_without_a_server(models):
    from unison.serve.batching import Answered, Question

    made = models["mdlm"]

    def ask(model):
        return unison.log_likelihood(model, ["the quick fox", "lazy dogs"], draws=4)

    want = ask(made)
    order = ordered(made, Asked("the", length=20), Sampling("llada", steps=6))
    question, write = step_by_step(Engine(), [Question(made, ask), Write(order)])
    assert [event.value for event in question.told if isinstance(event, Answered)] == [want]
    assert len(write.samples) == 1
    assert not any(isinstance(event, Failed) for event in question.told)

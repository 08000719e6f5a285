"""Scores over HTTP are those of the library, to the last bit, whatever else is asked."""

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from speaking import FAMILIES, speaking

import unison


@pytest.fixture(scope="module")
def server():
    with speaking(prompt_tokens=600) as made:
        yield made


def score(server, **body):
    answer = server.client.post("/v1/score", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_log_likelihood_to_the_last_bit(family, server):
    texts, contexts = ["a fox", "dogs", "é"], ["the ", "", "x"]
    got = score(server, model=family, input=texts, context=contexts, draws=8, seed=3)
    want = unison.log_likelihood(server.models[family], texts, contexts, draws=8, seed=3)
    for mine, theirs in zip(got["results"], want, strict=True):
        assert mine["log_p"] == theirs.log_p._asdict()
        assert mine["bits_per_byte"] == theirs.bits_per_byte._asdict()
        assert tuple(mine["interval"]) == theirs.interval
        assert (mine["method"], mine["bound"]) == (theirs.method, theirs.bound)
        assert (mine["tokens"], mine["bytes"]) == (theirs.num_tokens, theirs.num_bytes)
        assert (mine["evaluations"], mine["reached"]) == (theirs.evaluations, theirs.reached)
    assert got["usage"]["nfe"] == sum(one.evaluations for one in want)
    given = [len((before + text).encode()) for before, text in zip(contexts, texts, strict=True)]
    assert got["usage"]["prompt_tokens"] == sum(given)


def test_a_single_text_may_be_longer_than_the_model_reads_if_it_rolls(server):
    text = "over the lazy dogs " * 25
    got = score(server, model="ar", input=text, rolling=True)
    (want,) = unison.log_likelihood(server.models["ar"], [text], rolling=True)
    assert got["results"][0]["log_p"] == want.log_p._asdict()
    answer = server.client.post("/v1/score", json={"model": "ar", "input": text})
    assert answer.json()["error"]["param"] == "input"


def test_a_precision_that_is_asked_for_decides_the_draws(server):
    body = {"input": "the fox", "draws": 4, "max_draws": 64, "precision": 1e-6, "seed": 1}
    got = score(server, **body)
    (want,) = unison.log_likelihood(
        server.models["mdlm"], ["the fox"], draws=4, max_draws=64, precision=1e-6, seed=1
    )
    assert got["results"][0]["log_p"] == want.log_p._asdict()
    assert got["results"][0]["reached"] is want.reached


@pytest.mark.parametrize("family", ["mdlm", "ar"])
def test_choices_are_compared_as_choose_does(family, server):
    choices = ["a fox", "a dog", "it"]
    body = {"model": family, "choices": choices, "context": "see ", "draws": 8, "seed": 2}
    got = score(server, **body, normalise="bytes")["choice"]
    want = unison.choose(server.models[family], "see ", choices, normalise="bytes", draws=8, seed=2)
    assert got["best"] == want.best
    assert got["scores"] == [one._asdict() for one in want.scores]
    assert (got["probability"], got["evaluations"]) == (want.probability, want.evaluations)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": "a", "choices": ["a", "b"]}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a"] * 129}, "input"),
        ({"input": "a" * 601, "rolling": True}, "input"),
        ({"input": "a", "method": "exakt"}, "method"),
        ({"input": "a", "method": "ar"}, "method"),
        ({"input": "a", "draws": 0}, "draws"),
        ({"input": "a", "draws": 10, "max_draws": 5}, "max_draws"),
        ({"input": "a", "max_draws": 1 << 20}, "max_draws"),
        ({"input": "a", "precision": 0}, "precision"),
        ({"input": ["a", "b"], "context": ["x"]}, "context"),
        ({"input": "a", "normalise": "bytes"}, "normalise"),
        ({"input": "a", "temperature": 1}, "temperature"),
        ({"choices": ["a"]}, "choices"),
        ({"choices": ["a", "b"], "context": ["x", "y"]}, "context"),
        ({"choices": ["a", "b"], "rolling": True}, "rolling"),
        ({"choices": ["a", "b"], "precision": 1.0}, "precision"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_the_name_of_its_field(body, field, server):
    answer = server.client.post("/v1/score", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == field

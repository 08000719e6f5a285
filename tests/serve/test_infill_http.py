"""Canvases filled over HTTP: given text stays, and every hole holds text of its type."""

import json
import math
import re

import jsonschema
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from speaking import speaking

import unison

AGE = {"hole": {"tokens": 3, "name": "age", "type": "int"}}
LETTERS = {"hole": {"tokens": 4, "name": "letters", "type": {"regex": "[a-c]+"}}}
PET = {"hole": {"tokens": 5, "name": "pet", "type": {"choices": ["cat", "horse"]}}}
SIZES = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}
RECORD = {"hole": {"tokens": 20, "name": "record", "type": {"json_schema": SIZES}}}
CANVAS = ["I am ", AGE, " years, {", LETTERS, "} ", PET, " -> ", RECORD, "!"]


@pytest.fixture(scope="module")
def server():
    with speaking() as made:
        yield made


def infill(server, **body):
    answer = server.client.post("/v1/infill", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("family", ["mdlm", "duo"])
def test_every_hole_holds_its_type_and_given_text_stays(family, server):
    for choice in infill(server, model=family, canvas=CANVAS, n=3, seed=4)["choices"]:
        said = {hole["name"]: hole["text"] for hole in choice["holes"]}
        assert re.fullmatch("0|-?[1-9][0-9]*", said["age"])
        assert re.fullmatch("[a-c]+", said["letters"])
        assert said["pet"] in ("cat", "horse")
        jsonschema.validate(json.loads(said["record"]), SIZES)
        whole = (
            f"I am {said['age']} years, {{{said['letters']}}} {said['pet']} -> {said['record']}!"
        )
        assert choice["text"] == whole


@pytest.mark.parametrize("family", ["mdlm", "duo"])
def test_a_canvas_without_types_is_the_one_that_generate_fills(family, server):
    parts = ["The ", 5, " jumps ", 4, 2]
    got = infill(server, model=family, canvas=parts, n=2, seed=9)
    want = unison.generate(server.models[family], parts=parts, num=2, seed=9)
    for choice, sample in zip(got["choices"], want, strict=True):
        assert choice["text"] == sample.text
        first, second, third = choice["holes"]
        assert first["ids"] == sample.tokens[4 : 4 + len(first["ids"])]
        assert second["steps"] == sample.step[16 : 16 + len(second["steps"])]
        assert third["confidence"] == sample.confidence[20 : 20 + len(third["confidence"])]
        assert "".join(first["tokens"]) == first["text"]
    assert got["usage"]["nfe"] == sum(sample.nfe for sample in want)


def test_the_short_form_is_the_canvas_of_one_hole(server):
    hole = {"hole": {"tokens": 6, "type": "word"}}
    long = infill(server, canvas=["ab ", hole, " cd"], seed=2)
    short = infill(server, prefix="ab ", tokens=6, suffix=" cd", type="word", seed=2)
    assert short["choices"] == long["choices"]
    assert not re.search(r"\s", short["choices"][0]["holes"][0]["text"])


def test_a_left_to_right_model_fills_what_no_text_follows(server):
    got = infill(server, model="ar", prefix="n = ", tokens=4, type="int", seed=1)
    assert re.fullmatch("0|-?[1-9][0-9]*", got["choices"][0]["holes"][0]["text"])
    body = {"model": "ar", "canvas": ["a", 4, "b"]}
    answer = server.client.post("/v1/infill", json=body)
    assert answer.json()["error"]["param"] == "canvas"
    assert "behind a hole" in answer.json()["error"]["message"]


def test_a_stream_ends_with_the_canvas_that_does_not_stream(server):
    body = {"canvas": ["I am ", AGE, " and ", LETTERS], "seed": 3}
    whole = infill(server, **body)["choices"][0]
    answer = server.client.post("/v1/infill", json={**body, "stream": True})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    choices = [json.loads(line)["choices"][0] for line in lines[:-1]]
    told = "".join(choice.pop("delta") for choice in choices)
    assert choices[-1] == whole
    assert told == whole["text"].removeprefix("I am ")


def test_every_hole_is_of_its_own_type_whatever_stands_around_it(server):
    """Given text that a hole could hold too, and holes of any text, change nothing."""
    typed = {"hole": {"tokens": 4, "type": {"regex": "[a-c ]+"}}}
    json_hole = {"hole": {"tokens": 6, "type": "json"}}
    got = infill(server, canvas=["a ", typed, " ", 4, " ", json_hole, " b"], seed=4, n=3)
    for choice in got["choices"]:
        first, _, third = choice["holes"]
        assert re.fullmatch("[a-c ]+", first["text"])
        json.loads(third["text"])


def test_probabilities_are_as_coarse_as_the_leak_audit_makes_them(server):
    from unison.serve.leaks import floored_one

    body = {"model": "ar", "prefix": "n = ", "tokens": 3, "seed": 1}
    exact = infill(server, **body)["choices"][0]["holes"][0]["confidence"]
    with speaking(logprob_digits=1) as rough:
        told = infill(rough, **body)["choices"][0]["holes"][0]["confidence"]
    assert told == [math.exp(floored_one(math.log(one), 1)) for one in exact]
    assert told != exact


def test_probabilities_are_told_only_where_the_server_tells_them():
    with speaking(logprobs=0) as server:
        got = infill(server, model="ar", prefix="n = ", tokens=3, seed=1)
    assert set(got["choices"][0]["holes"][0]["confidence"]) == {None}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "canvas"),
        ({"canvas": ["text alone"]}, "canvas"),
        ({"canvas": []}, "canvas"),
        ({"canvas": ["a", 0]}, "canvas.1"),
        ({"canvas": ["a", {"hole": {"tokens": 2, "typ": "int"}}]}, "canvas.1.hole.typ"),
        ({"canvas": ["a", {"hole": {"tokens": 2, "type": "itn"}}]}, "canvas.1.hole.type"),
        ({"canvas": ["a", {"hole": {"tokens": 2, "type": {"regex": "("}}}]}, "canvas.1.hole.type"),
        ({"canvas": ["a", {"hole": {"tokens": 2, "type": "date"}}]}, "canvas"),
        ({"canvas": [AGE, "a", AGE]}, "canvas"),
        ({"canvas": [AGE, 2]}, "canvas.1"),
        ({"canvas": ["a", 4], "tokens": 4}, "tokens"),
        ({"canvas": ["a", 4], "prefix": "x"}, "prefix"),
        ({"tokens": 4, "type": "word", "regex": "a"}, "regex"),
        ({"tokens": 4, "stop": "x"}, "stop"),
        ({"tokens": 4, "length": 8}, "length"),
        ({"tokens": 4000}, "tokens"),
        ({"tokens": 4, "type": {"choices": ["too long for it"]}}, "tokens"),
        ({"tokens": 4, "hole": 1}, "hole"),
    ],
)
def test_what_cannot_be_filled_is_refused_by_the_name_of_its_field(body, field, server):
    answer = server.client.post("/v1/infill", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == field

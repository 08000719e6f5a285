"""A labelled answer over HTTP carries the labels of the document it was looked up in."""

import math

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from looking import SURE, model
from served import Client, running

from unison.serve.http import create_app
from unison.serve.service import Hosted
from unison.serve.settings import Settings

DOCUMENTS = [
    {"id": "one", "text": "a=5;", "labels": ["red", "old"]},
    {"id": "two", "text": "b=7;", "labels": ["blue"]},
    {"id": "three", "text": "c=9;"},
]
ASKED = {
    "documents": DOCUMENTS,
    "prompt": "b?",
    "max_tokens": 1,
    "temperature": 0,
    "tolerance": 0.5,
    "seed": 3,
}
LOOKUPS = {name: Hosted(name, model(name == "causal")) for name in ("causal", "masked")}


@pytest.fixture(scope="module")
def lookups():
    with running(LOOKUPS) as service:
        yield Client(create_app(service))


def ask(client, **changes):
    return client.post("/v1/labelled", json={**ASKED, **changes})


@pytest.mark.parametrize("name", LOOKUPS)
def test_the_answer_carries_the_labels_of_the_document_it_needs(name, lookups):
    answer = ask(lookups, model=name)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["text"] == "7"
    assert said["labels"] == ["blue"]
    assert said["all_labels"] == ["blue", "old", "red"]
    assert {one["id"]: one["kept"] for one in said["documents"]} == {
        "one": False,
        "two": True,
        "three": True,
    }
    assert said["object"] == "labelled_text"
    assert said["usage"]["completion_tokens"] == 1


def test_influences_are_told_in_nats(lookups):
    said = ask(lookups, model="causal").json()
    one, two, _ = (each["influence"] for each in said["documents"])
    size = LOOKUPS["causal"].model.tokenizer.vocab_size
    assert two["nats"] == pytest.approx(math.log(SURE * size), abs=1e-6)
    assert two["low"] == two["high"] == two["nats"]
    assert one["nats"] == pytest.approx(0, abs=1e-6)
    assert said["loss"]["high"] < 0.5


def test_influences_are_as_precise_as_log_probabilities_are_told():
    with running(LOOKUPS, Settings(logprob_digits=1)) as service:
        two = ask(Client(create_app(service))).json()["documents"][1]["influence"]
    size = LOOKUPS["causal"].model.tokenizer.vocab_size
    assert two["nats"] == math.floor(10 * math.log(SURE * size)) / 10


def test_a_server_that_tells_no_log_probabilities_tells_labels_alone():
    with running(LOOKUPS, Settings(logprobs=0)) as service:
        said = ask(Client(create_app(service))).json()
    assert said["labels"] == ["blue"]
    assert said["loss"]["nats"] is None
    assert all(one["influence"]["nats"] is None for one in said["documents"])


def test_the_same_request_has_the_same_answer(lookups):
    first, second = (ask(lookups, model="masked", temperature=1).json() for _ in range(2))
    for said in (first, second):
        said.pop("id"), said.pop("created")
    assert first == second


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"documents": []}, "documents"),
        ({"documents": [DOCUMENTS[0], DOCUMENTS[0]]}, "documents"),
        ({"documents": [{"id": "x", "text": "a", "labels": "red"}]}, "documents.0.labels"),
        ({"documents": [{"id": "x", "text": "a", "label": []}]}, "documents.0.label"),
        (
            {"documents": [{"id": str(i), "text": "a=1;", "labels": [f"l{i}"]} for i in range(17)]},
            "documents",
        ),
        ({"tolerance": 0}, "tolerance"),
        ({"tolerance": "much"}, "tolerance"),
        ({"n": 2}, "n"),
        ({"stream": True}, "stream"),
        ({"question": "b?"}, "question"),
        ({"draws": 1}, "draws"),
    ],
    ids=str,
)
def test_what_cannot_be_labelled_is_refused_by_its_field(wrong, field, lookups):
    answer = ask(lookups, **wrong)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == field


def test_documents_longer_than_the_model_reads_are_refused(lookups):
    answer = ask(lookups, documents=[{"id": "x", "text": "a=5;" * 40}])
    assert answer.status_code == 400
    assert "128" in answer.json()["error"]["message"]

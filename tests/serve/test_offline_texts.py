"""A batch writes the texts that ``unison.generate`` writes, whatever stands beside them."""

import json

import pytest
import tiny

import unison

pytest.importorskip("fastapi")
pytest.importorskip("greenlet")

from unison.serve import batch_lines, offline
from unison.serve.inside import serving
from unison.serve.offline import How
from unison.serve.settings import Settings

ASKED = [
    {"prompt": "the ", "max_tokens": 8, "seed": 1},
    {"prompt": "Par", "suffix": "dogs.", "max_tokens": 6, "seed": 2},
    {"prompt": "fox", "max_tokens": 9, "seed": 2, "steps": 3},
    {"prompt": "the ", "max_tokens": 8, "seed": 1, "temperature": 0.5},
    {"prompt": "", "max_tokens": 12, "seed": 7, "regex": "[a-z ]+"},
    {"prompt": "qu", "max_tokens": 5, "seed": 3, "n": 2},
]


def wanted(model):
    """What ``generate`` writes for ``ASKED``, without the prompts."""
    regex = unison.constrain.regex("[a-z ]+")
    calls = [
        {"prompt": "the ", "new_tokens": 8, "seed": 1},
        {"prompt": "Par", "suffix": "dogs.", "new_tokens": 6, "seed": 2},
        {"prompt": "fox", "new_tokens": 9, "seed": 2, "steps": 3},
        {"prompt": "the ", "new_tokens": 8, "seed": 1, "temperature": 0.5},
        {"prompt": "", "new_tokens": 12, "seed": 7, "constraint": regex},
        {"prompt": "qu", "new_tokens": 5, "seed": 3, "num": 2},
    ]
    texts = []
    for call in calls:
        samples = unison.generate(model, **call)
        cut = len(call["prompt"]), len(call.get("suffix", ""))
        texts.append([one.text[cut[0] : len(one.text) - cut[1]] for one in samples])
    return texts


@pytest.mark.parametrize(("family", "rows"), [("mdlm", 1), ("mdlm", 8), ("duo", 8)])
def test_texts_are_those_of_generate(family, rows, tmp_path):
    model = tiny.model(family)
    source = tmp_path / "in"
    source.write_text("".join(f"{json.dumps(body)}\n" for body in ASKED))
    done = offline.run(source, tmp_path / "out", model, "m", How(Settings(rows=rows)))
    answers = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [one["response"]["status_code"] for one in answers] == [200] * len(ASKED)
    got = [[c["text"] for c in one["response"]["body"]["choices"]] for one in answers]
    assert got == wanted(model)
    assert done.failed == 0


@pytest.mark.parametrize("field", batch_lines.TELLS)
def test_a_field_that_tells_who_is_asked_is_one_that_is_understood_there(field, schema):
    paths, kinds = schema["paths"], schema["components"]["schemas"]
    asked = paths[batch_lines.TELLS[field]]["post"]["requestBody"]["content"]["application/json"]
    assert field in kinds[asked["schema"]["$ref"].rpartition("/")[2]]["properties"]


@pytest.fixture(scope="module")
def schema():
    with serving(tiny.model("mdlm"), "m", offline.SETTINGS) as inside:
        return inside.app.openapi()


def test_no_request_is_sent_away_for_those_beside_it(tmp_path):
    source = tmp_path / "in"
    body = {"input": ["ox"] * 16, "draws": 1, "max_draws": 1}  # as many questions at once
    source.write_text(f"{json.dumps(body)}\n" * 21)  # together more than a server lets wait
    done = offline.run(source, tmp_path / "out", tiny.model("mdlm", length=8), "m")
    assert (done.done, done.failed) == (21, 0)

"""What the description of the server says is what it does, whatever is sent to it."""

from collections import Counter

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("schemathesis")

import schemathesis
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events
from served import listening, running
from speaking import byte_model

from unison.serve.http import create_app
from unison.serve.service import Hosted
from unison.serve.settings import Settings

# Whether a text fits its canvas, and its tokens the model, no schema can say: what is of a
# request's schema may still be refused, so the check that it is accepted is left out.
CHECKS = {"positive_data_acceptance": {"enabled": False}}
WRITES = ("create_completion", "create_chat_completion", "create_infill", "create_labelled")
OTHERS = ("create_score", "list_models", "get_model", "health", "ready")


@pytest.fixture(scope="module")
def url():
    hosted = {name: Hosted(name, byte_model(name)) for name in ("mdlm", "ar")}
    with (
        running(hosted, Settings(new_tokens=8, timeout=20.0)) as service,
        listening(create_app(service)) as address,
    ):
        yield address


def fuzzed(url, only, examples, *, coverage=False):
    """Send what the description allows and what it forbids; return statuses and what was wrong."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "checks": CHECKS,
            "generation": {
                "max-examples": examples,
                "deterministic": True,
                "database": "none",
                "no-shrink": True,
            },
            "phases": {"stateful": {"enabled": False}, "coverage": {"enabled": coverage}},
        }
    )
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    statuses, wrong = Counter(), []
    for event in engine.from_schema(schema.include(operation_id=list(only))).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            wrong.append(str(getattr(event, "value", event)))
        if isinstance(event, events.ScenarioFinished):
            for one in event.recorder.interactions.values():
                statuses[None if one.response is None else one.response.status_code] += 1
            checks = [check for some in event.recorder.checks.values() for check in some]
            wrong += [check for check in checks if check.status.value != "success"]
    return statuses, wrong


def test_every_operation_is_among_those_that_are_tried(url):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    described = [made.ok().definition.raw["operationId"] for made in schema.get_all_operations()]
    assert sorted(described) == sorted((*WRITES, *OTHERS))


@pytest.mark.parametrize("only", [WRITES, OTHERS], ids=["writing", "reading"])
def test_no_request_of_the_description_or_beside_it_breaks_what_it_says(only, url):
    statuses, wrong = fuzzed(url, only, 8)
    assert not wrong
    assert sum(statuses.values()) >= 20
    assert max(statuses) < 500


@pytest.mark.slow
@pytest.mark.parametrize("only", [*WRITES, *OTHERS])
def test_hundreds_of_requests_break_nothing_that_the_description_says(only, url):
    statuses, wrong = fuzzed(url, [only], 300, coverage=True)
    print(only, dict(statuses))
    assert not wrong
    assert max(statuses) < 500

"""OpenAI's own client works against the server as it is."""

import time

import pytest

import unison
from unison.generation import filled

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def asking(server_url):
    with openai.OpenAI(base_url=f"{server_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(asking, **said):
    return asking.completions.create(**{"model": "mdlm", "prompt": "the ", "seed": 5, **said})


def test_a_completion_is_what_generate_writes(asking, hosted):
    answer = ask(asking, max_tokens=16, n=2, temperature=1.0)
    made = hosted["mdlm"].model
    samples = unison.generate(made, "the ", new_tokens=16, num=2, seed=5, temperature=1.0)
    assert [choice.text for choice in answer.choices] == [filled(made, one)[0] for one in samples]
    assert answer.usage.prompt_tokens == 4
    assert answer.usage.total_tokens == 4 + answer.usage.completion_tokens
    assert answer.usage.model_extra["nfe"] == sum(one.nfe for one in samples)


def test_a_stream_with_drafts_is_read_by_a_client_that_knows_none(asking):
    how = {"max_tokens": 16, "temperature": 1.0}
    extension = {"strategy": "fast-dllm", "drafts": True}
    whole = ask(asking, extra_body={"strategy": "fast-dllm"}, **how).choices[0].text
    usage, text, drafts = None, "", 0
    stream = ask(
        asking, stream=True, stream_options={"include_usage": True}, extra_body=extension, **how
    )
    for chunk in stream:
        text += "".join(choice.text for choice in chunk.choices)
        usage = chunk.usage or usage
        drafts += "unison" in (chunk.model_extra or {})
    assert text == whole
    assert usage.completion_tokens >= len(whole)
    assert drafts > 1


def test_logprobs_stop_suffix_and_echo_are_understood(asking):
    answer = ask(
        asking,
        max_tokens=12,
        logprobs=1,
        echo=True,
        suffix=" dog",
        stop=["#"],
        extra_body={"strategy": "fast-dllm"},
    ).choices[0]
    assert answer.text.startswith("the ")
    assert "".join(answer.logprobs.tokens) == answer.text
    assert answer.logprobs.token_logprobs[:4] == [None] * 4
    assert all(one < 0 for one in answer.logprobs.token_logprobs[4:])


def test_an_early_end_of_the_client_ends_the_work(asking, service):
    before = service.engine.stats().cancelled
    extension = {"strategy": "remdm", "steps": 20_000, "drafts": True}
    with ask(asking, stream=True, extra_body=extension) as stream:
        next(iter(stream))
    until = time.monotonic() + 20
    while service.engine.stats().running and time.monotonic() < until:
        time.sleep(0.01)
    stats = service.engine.stats()
    assert (stats.running, stats.cancelled) == (0, before + 1)


@pytest.mark.parametrize(
    ("said", "kind", "param"),
    [
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
        ({"frequency_penalty": 1.0}, openai.BadRequestError, "frequency_penalty"),
        ({"extra_body": {"stepz": 4}}, openai.BadRequestError, "stepz"),
        ({"model": "gpt"}, openai.NotFoundError, "model"),
        ({"extra_body": {"deadline": 1e-6}}, openai.APIStatusError, "deadline"),
    ],
    ids=str,
)
def test_refusals_are_the_clients_own_errors(said, kind, param, asking):
    with pytest.raises(kind) as refused:
        ask(asking, **said)
    assert refused.value.param == param


def test_models_are_listed(asking, hosted):
    assert [model.id for model in asking.models.list()] == list(hosted)
    assert asking.models.retrieve("duo").id == "duo"

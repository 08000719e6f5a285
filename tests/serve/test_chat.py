"""Conversations over HTTP: the template is the model's, what is asked for is what is answered."""

import json
import math

import jsonschema
import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from speaking import FAMILIES, speaking  # noqa: E402

import unison  # noqa: E402
from unison.constrain import json_schema, member  # noqa: E402
from unison.serve.http.tools import Tool, calls  # noqa: E402

HELLO = [{"role": "user", "content": "Hello"}]
PLAIN = "User: Hello\nAssistant:"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Says the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"enum": [1, 2, 3]}},
            "required": ["city", "days"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
TOOLS = [WEATHER, CLOCK]
SCHEMAS = {
    "weather": WEATHER["function"]["parameters"],
    "clock": {"type": "object", "additionalProperties": False},
}


@pytest.fixture(scope="module")
def server():
    with speaking() as made:
        yield made


@pytest.fixture(scope="module")
def asking(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client.chat.completions


def refused(server, **body):
    answer = server.client.post("/v1/chat/completions", json={"messages": HELLO, **body})
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_is_what_generate_writes_for_the_same_prompt_and_seed(family, server, asking):
    got = asking.create(model=family, messages=HELLO, seed=5, n=2, max_tokens=24)
    want = unison.generate(server.models[family], PLAIN, num=2, new_tokens=24, seed=5)
    for choice, sample in zip(got.choices, want, strict=True):
        whole = PLAIN + choice.message.content
        assert sample.text.partition("\nUser:")[0] == whole or sample.text == whole
        assert choice.message.role == "assistant"
    assert got.usage.prompt_tokens == len(PLAIN)
    assert got.usage.completion_tokens <= 48
    assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_of_deltas_is_the_answer_that_does_not_stream(family, asking):
    asked = {"model": family, "messages": HELLO, "seed": 7, "n": 2, "max_tokens": 16}
    want = asking.create(**asked)
    chunks = list(asking.create(**asked, stream=True, stream_options={"include_usage": True}))
    for choice in want.choices:
        mine = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == choice.index]
        assert mine[0].delta.role == "assistant"
        assert "".join(c.delta.content or "" for c in mine) == choice.message.content
        assert [c.finish_reason for c in mine if c.finish_reason] == [choice.finish_reason]
    assert chunks[-1].usage.completion_tokens == want.usage.completion_tokens


def test_all_sides_of_a_conversation_stand_in_the_prompt(server, asking):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "clock", "arguments": '{"zone": "é"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
        {"role": "user", "content": "Thanks"},
    ]
    prompt = (
        "Be brief.\n\nUser: AB\n"
        'Assistant: {"name": "clock", "arguments": {"zone": "é"}}\n'
        "Tool: 12:00\nUser: Thanks\nAssistant:"
    )
    got = asking.create(model="mdlm", messages=messages, seed=1, max_tokens=9)
    (want,) = unison.generate(server.models["mdlm"], prompt, new_tokens=9, seed=1)
    assert want.text == prompt + got.choices[0].message.content


@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_under_a_json_schema_validates(family, server, asking):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    asked = {"model": family, "messages": HELLO, "seed": 3, "n": 3, "max_tokens": 48}
    got = asking.create(**asked, response_format=form)
    want = unison.generate(
        server.models[family], PLAIN, num=3, new_tokens=48, seed=3, constraint=json_schema(PERSON)
    )
    for choice, sample in zip(got.choices, want, strict=True):
        jsonschema.validate(json.loads(choice.message.content), PERSON)
        assert sample.text == PLAIN + choice.message.content


def test_every_answer_under_the_other_formats_obeys(asking):
    asked = {"model": "mdlm", "messages": HELLO, "seed": 4, "n": 3, "max_tokens": 20}
    formats = {
        "json_object": {},
        "regex": {"pattern": "[a-c]{3}-[0-9]+"},
        "grammar": {"syntax": "gbnf", "text": 'root ::= "(" root ")" | "x"'},
    }
    found = {}
    for kind, rest in formats.items():
        got = asking.create(**asked, response_format={"type": kind, **rest})
        found[kind] = [choice.message.content for choice in got.choices]
    assert all(isinstance(json.loads(text), dict) for text in found["json_object"])
    letters = [text.partition("-") for text in found["regex"]]
    assert all(len(a) == 3 and set(a) <= set("abc") and b.isdecimal() for a, _, b in letters)
    depths = [text.count("(") for text in found["grammar"]]
    assert found["grammar"] == ["(" * depth + "x" + ")" * depth for depth in depths]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_required_call_names_a_tool_and_its_arguments_validate(family, asking):
    asked = {"model": family, "messages": HELLO, "n": 2, "max_tokens": 72, "tools": TOOLS}
    for choice in asking.create(**asked, tool_choice="required", seed=1).choices:
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        (call,) = choice.message.tool_calls
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


def test_the_function_that_is_named_is_called(asking):
    named = {"type": "function", "function": {"name": "clock"}}
    got = asking.create(
        model="mdlm", messages=HELLO, tools=TOOLS, tool_choice=named, n=4, seed=2, max_tokens=40
    )
    called = [choice.message.tool_calls[0].function for choice in got.choices]
    assert [(one.name, one.arguments) for one in called] == [("clock", "{}")] * 4


@pytest.mark.parametrize("family", ["mdlm", "ar"])
def test_a_call_that_streams_is_the_call_that_does_not(family, asking):
    asked = {"model": family, "messages": HELLO, "seed": 6, "n": 1, "max_tokens": 72}
    asked |= {"tools": TOOLS, "tool_choice": "required"}
    want = asking.create(**asked)
    chunks = list(asking.create(**asked, stream=True))
    for choice in want.choices:
        mine = [c.choices[0] for c in chunks if c.choices[0].index == choice.index]
        parts = [c.delta.tool_calls[0] for c in mine if c.delta.tool_calls]
        assert not any(c.delta.content for c in mine)
        assert len({part.id for part in parts if part.id}) == 1
        assert parts[0].function.name == choice.message.tool_calls[0].function.name
        told = "".join(part.function.arguments or "" for part in parts)
        assert told == choice.message.tool_calls[0].function.arguments
        assert mine[-1].finish_reason == "tool_calls"


def test_with_auto_an_answer_is_talk_or_a_call_and_nothing_between():
    tools = [Tool.model_validate(one) for one in TOOLS]
    language = calls(tools, "auto")
    right = '{"name": "weather", "arguments": {"city": "Rome", "days": 2}}'
    assert member(language, right)
    assert all(member(language, text) for text in ("", "Hi", " \n", "It says {", "\té{"))
    wrong = (right[:-1], right + " ", " " + right, "{", " {}", right.replace("2", "4"))
    assert not any(member(language, text) for text in wrong)
    must = calls(tools, "required")
    assert member(must, right)
    assert not member(must, "Hi")


def test_with_auto_what_is_no_call_is_told_as_content(server, asking):
    got = asking.create(
        model="mdlm", messages=HELLO, tools=[CLOCK], tool_choice="auto", seed=1, max_tokens=30
    )
    assert got.choices[0].finish_reason in ("stop", "length")
    assert not got.choices[0].message.content.lstrip().startswith("{")
    assert got.choices[0].message.tool_calls is None


def test_log_probabilities_are_those_the_tokens_were_written_with(server, asking):
    got = asking.create(
        model="ar", messages=HELLO, seed=2, max_tokens=6, logprobs=True, top_logprobs=1
    )
    told = got.choices[0].logprobs.content
    assert "".join(one.token for one in told) == got.choices[0].message.content
    (want,) = unison.generate(server.models["ar"], PLAIN, new_tokens=6, seed=2)
    sure = want.confidence[len(PLAIN) :]
    assert [one.logprob for one in told] == pytest.approx(
        [math.log(one) for one in sure[: len(told)]], abs=1e-5
    )
    assert all(one.top_logprobs[0].logprob == one.logprob for one in told)
    assert all(bytes(one.bytes).decode() == one.token for one in told)


IMAGE = [{"type": "image_url", "image_url": {"url": "http://x"}}]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": IMAGE}]}, "messages.0.content"),
        ({"messages": [{"role": "judge", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": "x" * 500}]}, "messages"),
        ({"tempreature": 1}, "tempreature"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"store": True}, "store"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 9}, "top_logprobs"),
        ({"max_tokens": 4, "max_completion_tokens": 5}, "max_completion_tokens"),
        ({"max_tokens": 4000}, "max_tokens"),
        ({"n": 17}, "n"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "regex", "pattern": "(a"}}, "response_format"),
        ({"response_format": {"type": "regex", "pattern": "(a{999}){999}"}}, "response_format"),
        ({"response_format": {"type": "regex", "pattern": "a{99}"}, "max_tokens": 9}, None),
        ({"response_format": {"type": "json_object"}, "regex": "a"}, "response_format"),
        ({"response_format": {"type": "json_object"}, "tools": TOOLS}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {
                "tools": TOOLS,
                "tool_choice": {"type": "function", "function": {"name": "wether"}},
            },
            "tool_choice",
        ),
        ({"tools": [CLOCK, CLOCK]}, "tools.1.function.name"),
        ({"tools": TOOLS, "stop": "x"}, "stop"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}]},
            "tools.0.function.parameters",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_name_of_its_field(body, field, server):
    error = refused(server, **body)
    assert error["param"] == (field or "response_format")
    assert error["type"] == "invalid_request_error"


def test_a_schema_that_says_what_no_value_is_names_the_contradiction(server):
    schema = {"type": "integer", "minimum": 3, "maximum": 2}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    error = refused(server, response_format=form)
    assert error["param"] == "response_format"
    assert "#" in error["message"]


def test_a_misspelt_keyword_of_a_schema_is_refused_unless_told_otherwise(server):
    schema = {"type": "string", "maxlength": 3}
    named = {"name": "x", "schema": schema}
    error = refused(server, response_format={"type": "json_schema", "json_schema": named})
    assert "maxlength" in error["message"]
    loose = {"type": "json_schema", "json_schema": {**named, "strict": False}}
    body = {"messages": HELLO, "response_format": loose, "max_tokens": 8}
    assert server.client.post("/v1/chat/completions", json=body).status_code == 200

"""A prompt sent over HTTP is continued as ``unison.generate`` continues it."""

import math

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from served import small_models

import unison
from unison.decode.autoregressive import LeftToRight
from unison.generation import filled

MODELS = ("mdlm", "duo", "ar")


def ask(client, **said):
    answer = client.post("/v1/completions", json={"prompt": "the ", **said})
    assert answer.status_code == 200, answer.text
    return answer.json()


def generated(made, prompt="the ", **settings):
    return [
        filled(made, sample)[0]
        for sample in unison.generate(made, prompt, **{"seed": 5, "length": None, **settings})
    ]


def texts(answer):
    return [choice["text"] for choice in answer["choices"]]


@pytest.mark.parametrize("name", MODELS)
def test_the_text_is_the_one_generate_writes_for_the_seed(name, client, hosted):
    answer = ask(client, model=name, max_tokens=16, seed=5, n=3)
    expected = generated(hosted[name].model, new_tokens=16, num=3)
    assert texts(answer) == expected
    assert len(set(expected)) == 3
    assert answer["model"] == name
    assert answer["object"] == "text_completion"
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]


@pytest.mark.parametrize(
    "how",
    [
        {"strategy": "fast-dllm", "temperature": 1.0},
        {"strategy": "llada", "block_length": 8, "temperature": 0.7, "top_k": 9},
        {"strategy": "remdm", "steps": 7},
        {"strategy": "wino", "temperature": 1.0, "top_p": 0.8},
        {"strategy": "first_hitting"},
        {"steps": 5, "cfg": 1.5},
        {"strategy": "fast-dllm", "cache": "dual", "block_length": 8},
    ],
    ids=str,
)
def test_a_control_means_what_it_means_to_generate(how, client, hosted):
    answer = ask(client, seed=5, max_tokens=12, **how)
    assert texts(answer) == generated(hosted["mdlm"].model, new_tokens=12, **how)


def test_settings_change_parts_as_flags_do(client, hosted):
    from dataclasses import replace

    from unison.decode.presets import fast_dllm
    from unison.decode.select import Threshold

    said = {"select.threshold": 0.02, "temper.temperature": 1.0}
    answer = ask(client, seed=5, max_tokens=20, strategy="fast-dllm", settings=said)
    base = fast_dllm()
    warm = replace(base, select=Threshold(0.02), temper=replace(base.temper, temperature=1.0))
    [expected] = unison.generate(hosted["mdlm"].model, "the ", new_tokens=20, seed=5, strategy=warm)
    assert texts(answer) == [filled(hosted["mdlm"].model, expected)[0]]
    assert answer["usage"]["nfe"] == expected.nfe
    strict = ask(client, seed=5, max_tokens=20, strategy="fast-dllm")
    assert strict["usage"]["nfe"] > expected.nfe  # at 0.9 nothing passes, and one at a time does


def test_parts_without_a_strategy_make_a_composed_one(client, hosted):
    from unison.decode.diffusion.composed import Composed
    from unison.decode.order import Entropy

    answer = ask(client, seed=5, max_tokens=20, settings={"order": "entropy"}, temperature=1.0)
    made = hosted["mdlm"].model
    composed = Composed(order=Entropy(), steps=made.defaults.steps)  # as for the name alone
    assert texts(answer) == generated(made, new_tokens=20, strategy=composed, temperature=1.0)


def test_texts_of_several_prompts_come_prompt_by_prompt(client, hosted):
    answer = ask(client, prompt=["the ", "quick"], n=2, max_tokens=10, seed=5)
    expected = generated(hosted["mdlm"].model, ["the ", "quick"], num=2, new_tokens=10)
    assert texts(answer) == expected
    assert answer["usage"]["prompt_tokens"] == len("the ") + len("quick")


def test_token_ids_are_the_text_they_stand_for(client, hosted):
    ids = hosted["mdlm"].model.tokenizer.encode("the ")
    plain = texts(ask(client, max_tokens=10, seed=5))
    assert texts(ask(client, prompt=ids, max_tokens=10, seed=5)) == plain
    assert texts(ask(client, prompt=[ids], max_tokens=10, seed=5)) == plain


@pytest.mark.parametrize("name", ["mdlm", "duo"])
def test_a_suffix_is_seen_and_not_told(name, client, hosted):
    answer = ask(client, model=name, suffix=" dog", max_tokens=10, seed=5)
    expected = generated(hosted[name].model, new_tokens=10, suffix=" dog")
    assert texts(answer) == expected
    assert answer["usage"]["prompt_tokens"] == len("the ") + len(" dog")


def test_length_is_the_whole_canvas_and_the_default_the_models(client, hosted):
    assert texts(ask(client, length=15, seed=5)) == generated(hosted["mdlm"].model, length=15)
    assert texts(ask(client, seed=5)) == generated(hosted["mdlm"].model)


def test_a_seed_that_was_not_given_is_drawn_and_told(client):
    one, other = (ask(client, max_tokens=24) for _ in range(2))
    assert one["seed"] != other["seed"]
    assert texts(one) != texts(other)
    assert texts(ask(client, max_tokens=24, seed=one["seed"])) == texts(one)


@pytest.mark.parametrize("name", MODELS)
def test_a_text_is_cut_before_the_first_stop_string(name, client):
    how = {"model": name, "max_tokens": 16, "regex": "[a-z]{16}"}  # no early end
    [whole] = texts(ask(client, seed=5, **how))
    stop = [whole[9:11], whole[5:8]]
    answer = ask(client, seed=5, stop=stop, **how)
    first = min(whole.index(one) for one in stop)
    assert texts(answer) == [whole[:first]]
    assert answer["choices"][0]["finish_reason"] == "stop"
    alone = ask(client, seed=5, stop=stop[1], **how)
    assert texts(alone) == [whole[: whole.index(stop[1])]]


def test_an_answer_that_fills_its_canvas_ends_for_its_length(client, hosted):
    answer = ask(client, max_tokens=20, seed=0, n=12)
    samples = unison.generate(hosted["mdlm"].model, "the ", new_tokens=20, seed=0, num=12)
    full = [hosted["mdlm"].model.tokenizer.eos_id not in sample.tokens for sample in samples]
    told = [choice["finish_reason"] for choice in answer["choices"]]
    assert told == ["length" if one else "stop" for one in full]
    assert set(told) == {"length", "stop"}, "the texts must show both"


def test_echo_tells_the_prompt_first(client):
    [plain] = texts(ask(client, max_tokens=10, seed=5))
    [echoed] = texts(ask(client, max_tokens=10, seed=5, echo=True))
    assert echoed == "the " + plain


def test_usage_counts_tokens_and_evaluations(client, hosted):
    answer = ask(client, max_tokens=16, seed=5, n=3, model="ar")
    stopping = LeftToRight(stop_at_end=True)
    samples = unison.generate(
        hosted["ar"].model, "the ", new_tokens=16, num=3, seed=5, strategy=stopping
    )
    written = sum(filled(hosted["ar"].model, sample)[1] for sample in samples)
    nfe = sum(sample.nfe for sample in samples)
    assert answer["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": written,
        "total_tokens": 4 + written,
        "nfe": nfe,
        "tokens_per_forward": written / nfe,
    }


def test_logprobs_are_logs_of_the_confidence_tokens_were_written_with(client, hosted):
    how = {"strategy": "fast-dllm", "temperature": 1.0}
    answer = ask(client, max_tokens=16, seed=2, logprobs=1, **how)
    made = hosted["mdlm"].model
    [sample] = unison.generate(made, "the ", new_tokens=16, seed=2, **how)
    told, text = answer["choices"][0]["logprobs"], answer["choices"][0]["text"]
    count = len(told["tokens"])
    assert told["tokens"] == [made.text([token]) for token in sample.tokens[4 : 4 + count]]
    assert "".join(told["tokens"]) == text
    assert sample.tokens[4 + count :][:1] in ([], [made.tokenizer.eos_id])
    expected = [math.log(sure) for sure in sample.confidence[4 : 4 + count]]
    assert told["token_logprobs"] == pytest.approx(expected, rel=1e-12)
    assert told["top_logprobs"] == [
        {token: one} for token, one in zip(told["tokens"], told["token_logprobs"], strict=True)
    ]
    assert told["text_offset"] == [len("".join(told["tokens"][:i])) for i in range(count)]
    few = ask(client, max_tokens=16, seed=2, logprobs=0, **how)["choices"][0]["logprobs"]
    assert few == {**told, "top_logprobs": None}


def test_logprobs_with_echo_are_null_for_the_prompt(client):
    how = {"strategy": "fast-dllm", "max_tokens": 8, "seed": 5, "logprobs": 1}
    plain = ask(client, **how)["choices"][0]["logprobs"]
    told = ask(client, echo=True, **how)["choices"][0]
    assert told["logprobs"]["tokens"] == [*"the ", *plain["tokens"]]
    assert told["logprobs"]["token_logprobs"] == [*[None] * 4, *plain["token_logprobs"]]
    assert told["logprobs"]["text_offset"] == list(range(len(told["text"])))


def test_logprobs_of_a_strategy_that_does_not_say_are_null(client):
    told = ask(client, max_tokens=8, seed=5, logprobs=1, strategy="ancestral")["choices"][0]
    assert told["logprobs"]["token_logprobs"] == [None] * len(told["logprobs"]["tokens"])


def test_logprobs_are_rounded_as_the_leak_audit_rounds_them(serving):
    from served import Client

    from unison.serve.http import create_app
    from unison.serve.leaks import floored_one

    exact = ask(Client(create_app(serving())), max_tokens=8, seed=5, logprobs=1, model="ar")
    round_ = Client(create_app(serving(logprob_digits=1)))
    told = ask(round_, max_tokens=8, seed=5, logprobs=1, model="ar")["choices"][0]["logprobs"]
    full = exact["choices"][0]["logprobs"]["token_logprobs"]
    assert told["token_logprobs"] == [floored_one(one, 1) for one in full]
    assert all(said <= one for said, one in zip(told["token_logprobs"], full, strict=True))
    assert told["token_logprobs"] != [round(one, 1) for one in full]  # down, not to the nearest


@pytest.mark.parametrize(
    ("said", "obeys"),
    [
        ({"regex": "[a-f]{3}"}, r"[a-f]{3}"),
        ({"choices": ["lazy", "quick"]}, r"lazy|quick"),
        ({"grammar": 'root ::= "dog" | "fox" "fox"'}, r"dog|foxfox"),
        ({"template": "fox {n:int}"}, r"fox -?\d+"),
        ({"json_schema": {"type": "integer"}}, r"-?\d+(\.0*)?([eE][-+]?\d+)?"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
@pytest.mark.parametrize("name", ["mdlm", "ar"])
def test_an_answer_obeys_its_constraint(said, obeys, name, client):
    import re

    for text in texts(ask(client, model=name, max_tokens=8, seed=1, n=2, **said)):
        assert re.fullmatch(obeys, text), text


def test_a_left_to_right_model_of_which_nothing_is_asked_stops_at_its_end(client, hosted):
    made = hosted["ar"].model
    answer = ask(client, model="ar", seed=5, n=4, max_tokens=12)
    samples = unison.generate(
        made,
        "the ",
        strategy=LeftToRight(stop_at_end=True),
        cache="exact",
        seed=5,
        num=4,
        new_tokens=12,
    )
    assert texts(answer) == [filled(made, sample)[0] for sample in samples]
    assert answer["usage"]["nfe"] == sum(sample.nfe for sample in samples)
    assert answer["usage"]["nfe"] < 4 * 12, "some text must end early"
    whole = ask(client, model="ar", seed=5, n=4, max_tokens=12, strategy="left_to_right")
    assert texts(whole) == texts(answer)
    assert whole["usage"]["nfe"] == 4 * 12


def test_a_left_to_right_model_remembers_exactly_unless_told_otherwise(service):
    from unison.engine.exact import Exact
    from unison.engine.none import Uncached
    from unison.generation.ordering import Asked
    from unison.serve.http.completions import CompletionRequest
    from unison.serve.http.writing import Wish, job_of

    def cache(name, **said):
        wish = Wish(service.model(name), Asked(prompt="the "), CompletionRequest(**said))
        return type(job_of(service, wish).order.sampling.cache)

    assert cache("ar") is Exact
    assert cache("ar", cache="none") is Uncached
    assert cache("mdlm") is Uncached


def test_models_are_listed_and_described(client, hosted):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]] == list(hosted)
    card = client.get("/v1/models/ar").json()
    assert card == listed["data"][2]
    assert (card["process"], card["max_length"]) == ("sequential", hosted["ar"].model.max_length)
    assert client.get("/v1/models/at").status_code == 404


def test_ready_says_whether_the_engine_takes_work():
    from served import Client, running

    from unison.serve.http import create_app

    with running(small_models()) as service:
        client = Client(create_app(service))
        assert client.get("/ready").json() == {"status": "ready", "models": ["mdlm", "duo", "ar"]}
        service.engine.close()
        gone = client.get("/ready")
        assert gone.status_code == 503
        assert gone.json()["error"]["code"] == "not_ready"
        assert client.get("/health").json() == {"status": "alive"}
        refused = client.post("/v1/completions", json={"prompt": "the "})
        assert refused.status_code == 503
        assert "retry-after" in refused.headers

"""A model writes what was asked for: given parts stay, rows are their own, nothing leaks."""

import dataclasses

import pytest
import tiny
import torch

import unison
from unison.decode import STRATEGIES
from unison.decode.autoregressive.left_to_right import LeftToRight
from unison.decode.diffusion.ancestral import Ancestral
from unison.generation import generate, read

FITTING = [
    (family, name)
    for family, process in tiny.FAMILIES.items()
    for name, kind in STRATEGIES.items()
    if process in kind.processes
]


@pytest.fixture(scope="module")
def models():
    return {family: tiny.model(family) for family in tiny.FAMILIES}


@pytest.mark.parametrize(("family", "strategy"), FITTING)
def test_given_parts_stay_where_they_were_put_and_no_mask_is_left(family, strategy, models):
    made = models[family]
    parts = ["the", 4, "ox", 3, "dog", 1]
    for sample in generate(made, parts=parts, num=3, strategy=strategy):
        assert len(sample.tokens) == 16
        assert made.tokenizer.decode(sample.tokens[:3]) == "the"
        assert made.tokenizer.decode(sample.tokens[7:9]) == "ox"
        assert made.tokenizer.decode(sample.tokens[12:15]) == "dog"
        assert all(0 <= token < made.tokenizer.vocab_size for token in sample.tokens)
        assert sample.text.startswith("the")
        assert "ox" in sample.text
        assert "dog" in sample.text


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_prompt_and_suffix_are_the_ends_of_the_text(family, models):
    for sample in generate(models[family], "quick", suffix="lazy", num=5, length=13):
        assert sample.text.startswith("quick")
        assert sample.text.endswith("lazy")
        assert len(sample.tokens) == 13


def test_an_end_of_document_ends_the_text_only_after_the_last_given_part(models):
    made = models["duo"]
    end, letters = made.tokenizer.eos_id, made.tokenizer.encode("abcd")
    a, b, c, d = letters
    assert read(made, [a, b, end, c, end, d]) == "ab"
    assert read(made, [a, b, end, c, end, d], given=4) == "abc"
    assert read(made, [a, b, c, d], given=4) == "abcd"
    assert read(made, [end, a]) == ""


@pytest.mark.parametrize(("family", "strategy"), FITTING)
def test_a_rows_text_depends_on_the_seed_and_its_number_and_not_on_its_batch(
    family, strategy, models
):
    def ask(**settings):
        return generate(models[family], "the ", strategy=strategy, **settings)

    whole = ask(num=5, batch_size=5)
    for settings in ({"num": 5, "batch_size": 2}, {"num": 5, "batch_size": 1}, {"num": 2}):
        found = ask(**settings)
        assert found == whole[: len(found)]
    assert len({tuple(sample.tokens) for sample in whole}) > 1, "rows must differ from each other"
    assert ask(num=5, seed=1) != whole


@pytest.mark.parametrize("family", ["duo", "mdlm"])
def test_evaluations_are_counted_and_are_the_steps_asked_for(family, models):
    calls = []
    made = models[family]
    hook = made.network.register_forward_hook(lambda *_: calls.append(1))
    samples = generate(made, num=3, steps=6)
    hook.remove()
    # A masked row whose tokens are all decided stops early, and stops counting.
    expected = {"duo": [6, 6, 6]}.get(family)
    counted = [sample.nfe for sample in samples]
    assert counted == expected or (family == "mdlm" and max(counted) <= 6)
    assert sum(counted) <= len(calls) <= 3 * max(counted)


@pytest.mark.parametrize("family", ["duo", "mdlm"])
def test_a_self_conditioned_model_reads_its_own_answer_and_counts_two_evaluations(family):
    made = tiny.model(family, self_conditioning=True)
    with torch.no_grad():
        made.network.earlier.weight.mul_(30)
    calls = []
    hook = made.network.register_forward_hook(
        lambda module, args, out: calls.append(args[3] is not None)
    )
    [sample] = generate(made, num=1, steps=4)
    hook.remove()
    assert sample.nfe == len(calls)
    assert calls == [False, True] * (len(calls) // 2), "first without, then with the earlier belief"
    assert made.evaluations_per_step == 2
    with torch.no_grad():
        made.network.earlier.weight.zero_()
    assert generate(made, num=1, steps=4)[0].tokens != sample.tokens


def test_an_autoregressive_model_continues_its_prompt_one_token_an_evaluation(models):
    made = models["ar"]
    [sample] = generate(made, "fox ", length=12)
    assert sample.text.startswith("fox ")
    assert sample.nfe == 8
    greedy = generate(made, "fox ", length=12, temperature=0.0)[0].tokens
    tokens = list(greedy[:4])
    for _ in range(8):  # the same by hand, one prefix at a time
        row = torch.tensor([tokens + [made.process.mask_id] * (12 - len(tokens))])
        belief = made.denoiser()(row, torch.ones(1).double())[0, len(tokens)]
        tokens.append(int(belief.argmax()))
    assert greedy == tokens


def test_temperature_zero_and_one_kept_token_are_the_same_choice(models):
    for family in ("duo", "mdlm", "ar"):
        cold = generate(models[family], num=3, temperature=0.0)
        assert cold == generate(models[family], num=3, top_k=1)
        assert cold == generate(models[family], num=3, top_p=1e-9)
        assert cold != generate(models[family], num=3)


def test_settings_left_out_are_the_models_own(models):
    made = models["duo"]
    own = dataclasses.replace(
        made, defaults=dataclasses.replace(made.defaults, steps=3, length=9, temperature=0.2)
    )
    [sample] = generate(own, num=1)
    assert (len(sample.tokens), sample.nfe) == (9, 3)
    assert [sample] == generate(made, num=1, steps=3, length=9, temperature=0.2)
    assert generate(own, strategy="ancestral") == generate(own, strategy=Ancestral(3))


def test_an_observer_sees_every_step_and_changes_nothing(models):
    frames = []
    seen = generate(
        models["mdlm"], num=2, steps=5, on_step=lambda step, canvas, info: frames.append(canvas)
    )
    assert seen == generate(models["mdlm"], num=2, steps=5)
    assert len(frames) == 1 + max(sample.nfe for sample in seen)
    mask = models["mdlm"].process.mask_id
    left = [int((canvas.tokens == mask).sum()) for canvas in frames]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0


def test_a_canvas_that_is_all_given_costs_nothing(models):
    [sample] = generate(models["duo"], "quick brown", length=11)
    assert (sample.text, sample.nfe) == ("quick brown", 0)


REFUSALS = {
    "no texts": ({"num": 0}, "num must be at least 1, got 0"),
    "no batch": ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    "no steps": ({"steps": 0}, "steps must be at least 1, got 0"),
    "cold": ({"temperature": -0.5}, "temperature must be at least 0 and finite, got -0.5"),
    "no temperature": ({"temperature": float("nan")}, "temperature must be at least 0 and finite"),
    "no nucleus": ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0"),
    "no token": ({"top_k": 0}, "top_k must be at least 1, got 0"),
    "no canvas": ({"length": 0}, r"length must be in \[1, 16\].* got 0"),
    "long canvas": ({"length": 17}, r"length must be in \[1, 16\].* got 17"),
    "long prompt": (
        {"prompt": "the quick brown fox"},
        "prompt and suffix take 19 tokens, more than the canvas of 16; shorten them",
    ),
    "long ends": ({"prompt": "quick", "suffix": "lazy", "length": 8}, "take 9 tokens, more than"),
    "long parts": ({"parts": ["quick", 20]}, "canvas has 25 tokens; it must have 1 to 16"),
    "no parts": ({"parts": []}, "canvas has 0 tokens"),
    "negative hole": ({"parts": ["a", -1, "b", 4]}, "hole must have at least 0 tokens, got -1"),
    "twice": ({"parts": ["a", 2], "prompt": "b"}, "leave prompt, suffix, length out"),
    "unknown strategy": ({"strategy": "best"}, "unknown strategy 'best'; known: ancestral"),
    "misfit": (
        {"strategy": "first_hitting"},
        "cannot undo the uniform process of this model; use one of ancestral",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_written_is_refused_with_a_reason(name, models):
    settings, message = REFUSALS[name]
    with pytest.raises(ValueError, match=message):
        unison.generate(models["duo"], **settings)


def test_a_strategy_that_decides_its_own_steps_takes_none(models):
    with pytest.raises(ValueError, match="LeftToRight decides its own number of steps"):
        generate(models["ar"], strategy=LeftToRight(), steps=4)

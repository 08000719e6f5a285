"""Whatever the model believes and however it is decoded, the text obeys its constraint."""

import json
import re
from dataclasses import replace
from itertools import groupby

import pytest
import tiny
from test_batch_invariance import CASES as EVERY

from unison import constrain
from unison.constrain import ConstraintError
from unison.decode.composition import refuses_constraint
from unison.decode.diffusion.composed import Composed
from unison.decode.presets import PRESETS
from unison.generation import generate

MODELS = {family: tiny.model(family) for family in tiny.FAMILIES}
CASES = [case for case in EVERY if refuses_constraint(case.values[1]) is None]
REFUSED = [case for case in EVERY if refuses_constraint(case.values[1]) is not None]
DEAR = "duo-diffusion-gemma"  # many evaluations for a text, and three rows alone make four texts


def slow(case):
    return pytest.param(*case.values, id=case.id, marks=pytest.mark.slow)


ONCE = [  # each strategy in the first family that has it; the others in the slow suite
    slow(case) if number else case
    for _, cases in groupby(CASES, lambda case: case.id.partition("-")[2])
    for number, case in enumerate(cases)
]
ALONE = [slow(case) if case.id == DEAR else case for case in ONCE]
NESTED = constrain.grammar('root ::= "q" root "z" | "fox" | root "," root')
PATTERN = r"(fox|dogs?)(, (fox|dogs?)){0,2}: [0-9]{1,3}"


def short(strategy):
    """Return the strategy with few steps, so that several tokens are written at once."""
    if isinstance(strategy, Composed) or getattr(strategy, "steps", None) is None:
        return strategy
    return replace(strategy, steps=4)


@pytest.mark.parametrize(("family", "strategy"), ONCE)
def test_every_strategy_writes_texts_of_the_language(family, strategy):
    found = generate(
        MODELS[family], "the ", new_tokens=11, num=3, strategy=short(strategy),
        constraint=constrain.regex(PATTERN), seed=5,
    )  # fmt: skip
    for sample in found:
        text = sample.text.removeprefix("the ")
        assert re.fullmatch(PATTERN, text), text


@pytest.mark.parametrize(("family", "strategy"), ALONE)
def test_rows_with_constraints_of_their_own_are_written_as_if_alone(family, strategy):
    model, strategy = MODELS[family], short(strategy)
    grammars = [constrain.regex(PATTERN), None, constrain.choice(["lazy", "brown fox"])]
    prompts = ["the ", "", "a"]
    together = generate(
        model, prompts, new_tokens=11, strategy=strategy, constraint=grammars, seed=2
    )
    alone = [
        generate(model, prompt, new_tokens=11, strategy=strategy, constraint=grammar, seed=2)[0]
        for prompt, grammar in zip(prompts, grammars, strict=True)
    ]
    assert together == [replace(sample, prompt=i) for i, sample in enumerate(alone)]


def test_rows_of_many_evaluations_are_written_as_if_alone_in_little_room():
    model, strategy = MODELS["duo"], replace(PRESETS["diffusion-gemma"](), steps=6)
    grammars = [constrain.choice(["lazy", "fox", "dogs"]), None]
    how = {"new_tokens": 4, "strategy": strategy, "seed": 2}
    together = generate(model, ["the ", "a"], constraint=grammars, **how)
    assert together[0].text.removeprefix("the ") in ("lazy", "fox", "dogs")
    for number, (prompt, grammar) in enumerate(zip(["the ", "a"], grammars, strict=True)):
        [alone] = generate(model, prompt, constraint=grammar, **how)
        assert together[number] == replace(alone, prompt=number)


@pytest.mark.parametrize(("family", "strategy"), REFUSED)
def test_what_rewrites_tokens_one_by_one_is_refused(family, strategy):
    with pytest.raises(ValueError, match="constraint"):
        generate(
            MODELS[family], new_tokens=4, strategy=strategy, constraint=constrain.choice(["fox"])
        )


def test_holes_end_early_and_what_is_left_of_them_shows_nowhere():
    model = MODELS["mdlm"]
    grammar = constrain.template("{a:[fox|dogs]} and {b:/[0-9]+/} lazy")
    # A model this small has canvases of 16 characters.
    [sample] = generate(
        model, scaffold=[6, " and ", 5], constraint=constrain.regex("(fox|dog) and [0-9]+"), seed=1
    )
    assert re.fullmatch("(fox|dog) and [0-9]+", sample.text)
    ends = [i for i, token in enumerate(sample.tokens) if token == model.tokenizer.eos_id]
    assert {3, 4, 5} <= set(ends), "fox or dog takes three of six places"
    with pytest.raises(ConstraintError, match="takes 14 tokens and there is room for 5"):
        generate(model, new_tokens=5, constraint=grammar)


def test_given_text_takes_part_only_where_the_constraint_covers_the_canvas():
    model, pattern = MODELS["mdlm"], "jumps over [0-9]"
    [whole] = generate(
        model, parts=["jum", 6, "er", 3], constraint=constrain.regex(pattern), covers="canvas"
    )
    assert re.fullmatch(pattern, whole.text)
    [part] = generate(
        model, parts=["jum", 6, "er", 3], constraint=constrain.regex("fox.{0,3}er[0-9]+")
    )
    assert re.fullmatch("jumfox.{0,3}er[0-9]+", part.text)
    with pytest.raises(ConstraintError, match=r"cannot be completed: .* contain 'x' after 'jum'"):
        generate(
            model, parts=["jum", 2, "x", 3, "er", 3], constraint=constrain.regex(pattern),
            covers="canvas",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("family", "cache"),
    [
        *(("mdlm", name) for name in ("none", "prefix", "dual", "free", "dkv", "unchanged")),
        ("ar", "exact"),
    ],
)
def test_caches_and_blocks_do_not_break_a_constraint(family, cache):
    strategy = "left_to_right" if family == "ar" else Composed(block_length=4)
    found = generate(
        MODELS[family], "the ", new_tokens=11, num=2, strategy=strategy, cache=cache,
        constraint=constrain.regex(PATTERN),
    )  # fmt: skip
    assert all(re.fullmatch("the " + PATTERN, sample.text) for sample in found)


def test_parts_of_a_text_that_nests_are_completed_within_their_holes():
    model = MODELS["mdlm"]
    for sample in generate(
        model, parts=["qq", 6, "z,", 4], constraint=NESTED, covers="canvas", num=4, seed=2
    ):
        assert constrain.member(NESTED, sample.text)
        assert sample.text.startswith("qq")
        assert "z," in sample.text
    with pytest.raises(ConstraintError, match="none fits holes of 2, 4 tokens"):
        generate(model, parts=["qq", 2, "z,", 4], constraint=NESTED, covers="canvas")
    with pytest.raises(ConstraintError, match="cannot be completed: no text"):
        generate(model, parts=[2, "zz", 4, "q,"], constraint=NESTED, covers="canvas")


@pytest.mark.parametrize("family", ["mdlm", "ar"])
def test_a_language_that_nests_is_obeyed_too(family):
    depths = set()
    for sample in generate(MODELS[family], new_tokens=12, num=6, constraint=NESTED, seed=3):
        inner = sample.text.replace("q", "[").replace("z", "]").replace("fox", "0")
        json.loads(f"[{inner}]")
        depths.add(sample.text.count("q"))
    assert max(depths) > 0


def test_letters_that_no_token_spells_are_named():
    with pytest.raises(ConstraintError, match="Ж"):
        generate(MODELS["mdlm"], new_tokens=4, constraint=constrain.choice(["Ж"]))


def test_as_many_constraints_as_canvases_or_one():
    with pytest.raises(ValueError, match="2 constraints and 3 canvases"):
        generate(MODELS["mdlm"], ["a", "b", "c"], constraint=[constrain.choice(["fox"]), None])

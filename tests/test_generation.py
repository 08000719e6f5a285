"""A model writes what was asked for: given parts stay, rows are their own, nothing leaks."""

import dataclasses

import pytest
import tiny
import torch

import unison
from unison.decode import STRATEGIES
from unison.decode.autoregressive.left_to_right import LeftToRight
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.select import Threshold
from unison.decode.temper import Temper
from unison.engine.dual import Dual
from unison.generation import Sampling, choose, generate, read
from unison.generation.canvases import Row
from unison.generation.sample import finished
from unison.models import Transformer

FITTING = [
    (family, name)
    for family, process in tiny.FAMILIES.items()
    for name, kind in STRATEGIES.items()
    if process in kind.processes
]


@pytest.fixture(scope="module")
def models():
    return {family: tiny.model(family) for family in tiny.FAMILIES}


def in_blocks(made):
    """The same weights, each block of four blind to those after it."""
    config = dataclasses.replace(made.network.config, attention="block_causal", block_length=4)
    network = Transformer(config)
    network.load_state_dict(made.network.state_dict())
    return dataclasses.replace(made, network=network.eval())


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
    # A composed strategy is greedy unless told otherwise: all its rows would be the same.
    how = {"strategy": strategy, **({"temperature": 1.0} if strategy == "composed" else {})}

    def ask(**settings):
        return generate(models[family], "the ", new_tokens=6, **how, **settings)

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
    "two lengths": ({"length": 8, "new_tokens": 4}, "both say how long the canvas is; give one"),
    "parts and new tokens": ({"parts": ["a", 2], "new_tokens": 4}, "leave prompt, suffix, length"),
    "no new tokens": ({"new_tokens": 0}, "new_tokens must be at least 1 .* got 0"),
    "many new tokens": ({"prompt": "the ", "new_tokens": 13}, "room for the 4 tokens .* got 13"),
    "no prompts": ({"prompt": []}, "prompt is an empty list; give at least one text"),
    "suffixes": ({"prompt": ["a", "b"], "suffix": ["c"]}, "there are 2 prompts and 1 suffixes"),
    "one long prompt": ({"prompt": ["a", "the quick brown fox"]}, "take 19 tokens"),
    "unknown strategy": ({"strategy": "best"}, "unknown strategy 'best'.*; known: ancestral"),
    "near strategy": ({"strategy": "lada"}, "unknown strategy 'lada'; did you mean 'llada'"),
    "unknown cache": ({"cache": "dul"}, "unknown cache 'dul'; did you mean 'dual'.*known: none"),
    "cache of blocks": (
        {"cache": "prefix", "strategy": "composed"},
        "set the strategy's block_length, which is None",
    ),
    "guidance": ({"cfg": -1.0}, "cfg must be at least 0 and finite, got -1"),
    "guidance without a mask": ({"cfg": 1.0}, "this model's uniform process has none"),
    "blocks of others": (
        {"strategy": "ancestral", "block_length": 4},
        "Ancestral does not work in blocks",
    ),
    "few steps": (
        {"strategy": "composed", "steps": 3, "block_length": 4},
        "steps=3 is fewer than the 4 blocks of 4 tokens to write; give at least 4 steps",
    ),
    "revision": (
        {"strategy": "p2"},
        "P2 cannot revise text under the uniform process; it needs absorbing",
    ),
    "no judge": ({"judge": tiny.model("ar")}, "Ancestral asks no judge; leave it out"),
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


def test_several_prompts_are_several_canvases_in_order(models):
    made = models["mdlm"]
    found = generate(made, ["the ", "fox", ""], suffix=["", "x", "ox"],
                     new_tokens=5, num=2)  # fmt: skip
    assert [sample.prompt for sample in found] == [0, 0, 1, 1, 2, 2]
    assert [len(sample.tokens) for sample in found] == [9, 9, 9, 9, 7, 7]
    assert [sum(sample.given) for sample in found] == [4, 4, 4, 4, 2, 2]
    assert all(sample.text.startswith("fox") for sample in found[2:4])
    assert all(sample.text.endswith("ox") for sample in found[4:])
    parts = generate(made, parts=[["the ", 5], ["fox", 5, "x"], [5, "ox"]], num=2)
    assert parts == found


def test_a_sample_says_when_how_surely_and_at_what_cost_each_token_was_written(models):
    made = models["mdlm"]
    steps = []
    strategy = Composed(steps=3, temper=Temper(0.0))
    [sample] = generate(
        made, "the ", new_tokens=6, strategy=strategy,
        on_step=lambda step, canvas, info: steps.append((canvas.tokens[0], info)),
    )  # fmt: skip
    assert sample.given == [True] * 4 + [False] * 6
    assert sample.step[:4] == [0] * 4
    assert sorted(sample.step[4:]) == [1, 1, 2, 2, 3, 3], "two tokens in each of three steps"
    assert sample.confidence[:4] == [1.0] * 4
    for place, step in enumerate(sample.step[4:], 4):
        before, after = steps[step - 1][0][place], steps[step][0][place]
        assert before == made.process.mask_id
        assert after == sample.tokens[place]
        belief = steps[step][1].confidence[0, place]
        assert sample.confidence[place] == pytest.approx(float(belief))
    assert sample.nfe == 3
    end = made.tokenizer.eos_id
    written = sample.tokens.index(end, 4) - 3 if end in sample.tokens[4:] else 6
    assert sample.tokens_per_forward == written / 3
    silent = generate(made, "the ", new_tokens=6, strategy="ancestral")[0]
    assert silent.confidence == [1.0] * 4 + [None] * 6, "ancestral keeps its candidates to itself"


def test_an_end_of_text_stops_the_count_of_tokens_per_forward(models):
    made = models["mdlm"]
    end, [a] = made.tokenizer.eos_id, made.tokenizer.encode("a")
    row = Row((0,) * 6, (False,) * 6)
    sample = finished(made, row, 0, 4, ([a, a, end, a, a, a], [1] * 6, [0.5] * 6))
    assert (sample.text, sample.tokens_per_forward) == ("aa", 3 / 4)


@pytest.mark.parametrize(("family", "carried"), [("duo", True), ("mdlm", False)])
def test_a_strategy_that_hands_beliefs_on_costs_one_evaluation_of_a_self_conditioned_model(
    family, carried
):
    made = tiny.model(family, self_conditioning=True)
    calls = []
    hook = made.network.register_forward_hook(lambda *_: calls.append(1))
    [sample] = generate(made, strategy=Composed(steps=4, temper=Temper(1.0)))
    hook.remove()
    assert sample.nfe == len(calls) == (4 if carried else 8)


def test_guidance_costs_two_evaluations_and_its_formula_is_llada_s(models):
    made = models["mdlm"]
    calls = []
    hook = made.network.register_forward_hook(lambda *_: calls.append(1))
    [sample] = generate(made, "the quick", new_tokens=1, cfg=1.5, strategy="composed")
    hook.remove()
    assert sample.nfe == len(calls) == 2
    mask, prompt = made.process.mask_id, made.tokenizer.encode("the quick")
    rows = torch.tensor([[*prompt, mask], [mask] * 10])
    said, without = made.denoiser()(rows, torch.ones(2).double())[:, -1]
    # log p = u + (s + 1)(c - u), up to a constant (arXiv:2410.18514)
    assert sample.tokens[-1] == int((without + 2.5 * (said - without)).argmax())
    plain = generate(made, "the quick", new_tokens=1, strategy="composed")[0]
    assert plain == generate(made, "the quick", new_tokens=1, cfg=0.0, strategy="composed")[0]


def test_temperature_reaches_a_composed_strategy_without_changing_what_its_parts_judge_by(models):
    made = models["mdlm"]
    chosen = choose(made, Sampling("composed", 4, 8, temperature=0.7, top_k=5, top_p=0.9))
    assert chosen.temper == Temper(0.7, top_k=5, top_p=0.9)
    assert (chosen.steps, chosen.block_length, chosen.judged) == (4, 8, "belief")
    assert chosen.eos_ids == made.eos_ids
    falling = Composed(temper=Temper(0.8, 0.4))
    assert choose(made, Sampling(falling)).temper == Temper(0.8, 0.4)
    assert choose(made, Sampling(falling, temperature=0.5)).temper == Temper(0.5)
    # A cold belief would make every candidate certain: the threshold must see the model's own.
    slow = generate(made, strategy=Composed(select=Threshold(0.999)), temperature=0.0)
    assert slow[0].nfe == 16


def test_a_preset_brings_its_own_steps_and_takes_the_models_where_they_set_the_pace(models):
    made = models["mdlm"]  # 4 steps by default
    assert choose(made, Sampling("llada")).steps == 4
    assert choose(made, Sampling("fast-dllm")).steps is None
    assert choose(made, Sampling("fast-dllm")).block_length == 32
    told = dataclasses.replace(made, defaults=dataclasses.replace(made.defaults, block_length=8))
    assert choose(told, Sampling("fast-dllm")).block_length == 8
    assert choose(told, Sampling("fast-dllm", block_length=2)).block_length == 2
    assert choose(told, Sampling("composed")).block_length is None
    # The model's 4 steps yield to 8 blocks; 4 that were asked for do not.
    assert generate(made, strategy="llada", block_length=2)[0].nfe == 8
    with pytest.raises(ValueError, match="steps=4 is fewer than the 8 blocks"):
        generate(made, strategy="llada", block_length=2, steps=4)
    with pytest.raises(ValueError, match="steps=3 is fewer than the 8 blocks"):
        generate(made, strategy=Composed(steps=3, block_length=2))


def test_a_model_trained_on_blocks_is_written_in_its_blocks(models):
    made = in_blocks(models["mdlm"])
    chosen = choose(made, Sampling())
    assert (chosen.block_length, chosen.anchor) == (4, "canvas")
    assert choose(made, Sampling("fast-dllm")).block_length == 4
    frames = []
    generate(made, "the q", on_step=lambda step, canvas, info: frames.append(canvas.tokens[0]))
    mask = made.process.mask_id
    for tokens in frames:
        undecided = [i // 4 for i in range(16) if tokens[i] == mask]
        written = [i // 4 for i in range(5, 16) if tokens[i] != mask]
        assert not undecided or not written or max(written) <= min(undecided)
    with pytest.raises(ValueError, match=r"block length that does not fit: .* have 4 tokens"):
        generate(made, strategy="composed", block_length=8)
    with pytest.raises(ValueError, match="Ancestral writes the whole canvas at once"):
        generate(made, strategy="ancestral")


def test_a_guided_strategy_asks_the_judge_and_ends_as_greedy_as_its_drafts(models):
    made, judge = models["mdlm"], models["ar"]
    calls = []
    hook = judge.network.register_forward_hook(lambda *_: calls.append(1))
    found = generate(made, ["the ", "a"], new_tokens=5, strategy="guided", judge=judge)
    hook.remove()
    assert [sample.text[:1] for sample in found] == ["t", "a"]
    assert len(calls) >= max(sample.nfe for sample in found) > 0
    with pytest.raises(ValueError, match="Guided needs a judge"):
        generate(made, strategy="guided")
    with pytest.raises(ValueError, match=r"must be a causal model .* got one of the absorbing"):
        generate(made, strategy="guided", judge=made)


def test_a_cache_that_computes_everything_is_no_cache_at_all(models):
    made = models["mdlm"]
    blocks = Composed(steps=4, block_length=4, temper=Temper(1.0))
    whole = generate(made, ["the ", ""], num=2, strategy=blocks)
    assert generate(made, ["the ", ""], num=2, strategy=blocks, cache=Dual(refresh=1)) == whole
    causal = in_blocks(models["mdlm"])
    want = generate(causal, "the ", num=2, temperature=1.0, strategy="composed")
    found = generate(causal, "the ", num=2, temperature=1.0, strategy="composed", cache="exact")
    assert [s.tokens for s in found] == [s.tokens for s in want]


def test_a_strategy_that_decides_its_own_steps_takes_none(models):
    with pytest.raises(ValueError, match="LeftToRight decides its own number of steps"):
        generate(models["ar"], strategy=LeftToRight(), steps=4)

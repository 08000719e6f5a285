"""Other tools' settings mean here what they mean there, or are refused with both meanings named."""

import pytest
import tiny

from unison.aliases import MEANINGS, canonical, keywords
from unison.decode import STRATEGIES
from unison.decode.diffusion.composed import Composed
from unison.decode.order import Confidence, Entropy, Margin, Perturbed, Position, Random
from unison.decode.parts import PARTS, with_parts
from unison.decode.presets import PRESETS
from unison.decode.revise import Edit
from unison.decode.select import Bernoulli, Count, Dream, EntropyBound, Factor, Threshold
from unison.decode.stop import Eos, Stable
from unison.engine import CACHES
from unison.generation import generate

# What a user of each tool would type, and what it is here.
TOOLS = {
    "LLaDA": (
        {"steps": 64, "gen_length": 128, "block_length": 32, "temperature": 0.0,
         "cfg_scale": 0.5, "remasking": "low_confidence"},
        {"steps": 64, "new_tokens": 128, "block_length": 32, "temperature": 0.0, "cfg": 0.5,
         "strategy": Composed(Confidence(), Count())},
    ),
    "LLaDA, random": ({"remasking": "random"}, {"strategy": Composed(Random(), Count())}),
    "Fast-dLLM": (
        {"gen_length": 64, "block_length": 32, "threshold": 0.8, "use_cache": True,
         "dual_cache": True},
        {"new_tokens": 64, "block_length": 32, "cache": "dual",
         "strategy": Composed(select=Threshold(0.8))},
    ),
    "Fast-dLLM, prefix": ({"use_cache": True, "factor": 1.5},
                          {"cache": "prefix", "strategy": Composed(select=Factor(1.5))}),
    "Dream": (
        {"max_new_tokens": 256, "steps": 128, "alg": "entropy", "alg_temp": 0.0,
         "temperature": 0.2, "top_p": 0.95},
        {"new_tokens": 256, "steps": 128, "temperature": 0.2, "top_p": 0.95,
         "strategy": Composed(Entropy(), Dream())},
    ),
    "Dream, margin": ({"alg": "topk_margin"}, {"strategy": Composed(Margin(), Dream())}),
    "Dream, noise": (
        {"alg": "maskgit_plus", "alg_temp": 0.1},
        {"strategy": Composed(Perturbed(Confidence(), 0.1), Dream())},
    ),
    "Dream, origin": ({"alg": "origin"}, {"strategy": Composed(Random(), Bernoulli())}),
    "SDAR": (
        {"gen_length": 64, "block_length": 4, "denoising_steps": 4,
         "remasking_strategy": "low_confidence_dynamic", "confidence_threshold": 0.85},
        {"new_tokens": 64, "block_length": 4, "steps": 4,
         "strategy": Composed(select=Threshold(0.85), steps=4, per_block=True)},
    ),
    "SDAR, sequential": ({"remasking_strategy": "sequential"},
                         {"strategy": Composed(Position(), Count())}),
    "JetEngine": (
        {"max_tokens": 256, "denoising_steps": 4, "dynamic_threshold": 0.9,
         "remasking_strategy": "low_confidence_dynamic"},
        {"new_tokens": 256, "steps": 4,
         "strategy": Composed(select=Threshold(0.9), steps=4, per_block=True)},
    ),
    "DiffusionGemma": (
        {"max_new_tokens": 512, "max_denoising_steps": 48, "sampler_config": {"entropy_bound": 0.2},
         "confidence_threshold": 0.01, "stability_threshold": 2},
        {"new_tokens": 512, "steps": 48,
         "strategy": Composed(select=EntropyBound(0.2), stop=Stable(2, 0.01), steps=48,
                              per_block=True)},
    ),
    "diffusers": (
        {"gen_length": 256, "block_length": 32, "num_inference_steps": 32, "threshold": 0.7,
         "editing_threshold": 0.5, "max_post_steps": 8, "eos_early_stop": True},
        {"new_tokens": 256, "block_length": 32, "steps": 32,
         "strategy": Composed(select=Threshold(0.7), revise=Edit(0.5, 8), stop=Eos(), steps=32,
                              per_block=True)},
    ),
    "dLLM": ({"max_new_tokens": 9, "block_size": 3, "use_cache": "dual", "suppress_tokens": []},
             {"new_tokens": 9, "block_length": 3, "cache": "dual"}),
    "end tokens": ({"eos_token_id": [2, 5], "eos_early_stop": True},
                   {"strategy": Composed(stop=Eos(), eos_ids=(2, 5))}),
}  # fmt: skip


@pytest.mark.parametrize("name", TOOLS)
def test_what_a_user_of_another_tool_types_is_the_same_run_here(name):
    theirs, ours = TOOLS[name]
    assert keywords(canonical(theirs)[0]) == ours


def test_a_translated_run_runs():
    theirs = {"gen_length": 8, "block_size": 4, "denoising_steps": 2, "remasking": "random"}
    found = generate(tiny.model("mdlm"), "the ", **keywords(canonical(theirs)[0]))
    assert (len(found[0].tokens), found[0].nfe) == (12, 4)


def test_settings_that_need_no_translation_pass_unchanged_and_without_a_note():
    ours = {"new_tokens": 4, "steps": 3, "strategy": "llada", "temperature": None, "seed": 1}
    assert canonical(ours) == (ours, [])
    assert keywords(ours) == ours


def test_a_part_of_a_preset_is_exchanged_and_the_rest_of_it_stays():
    made = keywords(canonical({"strategy": "llada", "threshold": 0.7})[0])["strategy"]
    assert made == Composed(select=Threshold(0.7), block_length=32)


def test_every_translation_is_told_by_its_new_name():
    notes = canonical({"gen_length": 4, "denoising_steps": 2, "use_cache": False, "steps": 2})[1]
    assert [str(note) for note in notes] == [
        "gen_length is new_tokens here",
        "denoising_steps=2 is steps=2 per_block=True here",
        "use_cache=False is cache=none here",
    ]


REFUSED = {
    "two meanings": (
        {"confidence_threshold": 0.9},
        r"two meanings: the probability .*select.threshold.*mean\s+entropy .*stop.entropy",
    ),
    "both contexts": (
        {"confidence_threshold": 0.9, "stability_threshold": 1, "denoising_steps": 4},
        "two meanings",
    ),
    "two numbers": (
        {"steps": 8, "denoising_steps": 4},
        "denoising_steps=4 says steps=4, .* steps=8;",
    ),
    "two lengths": ({"gen_length": 8, "max_tokens": 4}, "max_tokens=4 says new_tokens=4"),
    "no such rule": ({"remasking": "high"}, "remasking='high' is unknown; known: low_confidence"),
    "no such algorithm": ({"alg": "best"}, "alg='best' is unknown; known: origin, maskgit_plus"),
    "no counterpart": (
        {"logits_eos_inf": True},
        "logits_eos_inf has no counterpart here; discount",
    ),
    "no such cache": ({"use_cache": "full"}, "use_cache='full' is unknown; known: true, false"),
    "no bound": ({"sampler_config": {}}, "sampler_config must hold a number entropy_bound"),
    "no such setting": ({"select": "count", "select.threshold": 1}, "Count has no setting"),
    "no parts": ({"strategy": "ancestral", "threshold": 0.5}, "Ancestral is not made of parts"),
    "no such part": ({"order": "margn"}, "unknown order 'margn'; did you mean 'margin'"),
    "out of range": ({"threshold": 1.5}, r"threshold must be in \[0, 1\], got 1.5"),
    "no inner part": ({"order.order": "margin"}, "Confidence holds no other order"),
    "required": ({"select": "learned"}, "select Learned needs select.path"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_single_meaning_here_is_refused_with_a_reason(name):
    settings, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        keywords(canonical(settings)[0])


def test_the_context_decides_what_a_confidence_threshold_is():
    for context in ({"remasking_strategy": "low_confidence_dynamic"}, {"strategy": "llada2"}):
        found = canonical({"confidence_threshold": 0.9, **context})[0]
        assert (found["select"], found["select.threshold"]) == ("threshold", 0.9)
    for context in ({"t_max": 0.8}, {"strategy": "diffusion-gemma"}, {"entropy_bound": 0.1}):
        found = canonical({"confidence_threshold": 0.9, **context})[0]
        assert (found["stop"], found["stop.entropy"]) == ("stable", 0.9)


def test_no_name_of_another_tool_is_also_one_of_ours():
    ours = {"strategy", "steps", "block_length", "temperature", "top_k", "top_p", "cfg", "cache",
            "length", "new_tokens", "num", "seed", "batch_size", "prompt", "suffix", "parts",
            *PARTS}  # fmt: skip
    assert not ours & MEANINGS.keys()
    assert not {*STRATEGIES, *PRESETS, *CACHES} & MEANINGS.keys()


def test_exchanging_a_part_by_its_own_name_keeps_its_settings():
    strategy = Composed(select=Threshold(0.4))
    assert with_parts(strategy, {"select": "threshold", "order": "margin"}) == Composed(
        Margin(), Threshold(0.4)
    )
    assert with_parts(strategy, {}) is strategy

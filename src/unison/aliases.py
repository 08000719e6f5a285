"""What do other tools' settings mean here? One concept has many spellings; this is the door.

Names as in the published code of LLaDA, Dream, Fast-dLLM, dLLM, SDAR, SGLang, mlx-vlm, dlmserve,
diffusers and the DiffusionGemma of transformers. Settings here are flat: ``select`` names a part
of the strategy and ``select.threshold`` a setting of that part.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from unison.decode import Strategy
from unison.decode.parts import PARTS, configured, with_parts
from unison.generation import strategy_named

Settings = dict[str, Any]
Meaning = Callable[[Any, Mapping[str, Any]], Settings]


class Note(NamedTuple):
    """What a setting by another name came to."""

    name: str
    value: Any
    meant: Settings

    def __str__(self) -> str:
        return self.said("{}".format, "{}={}".format)

    def said(self, named: Callable[[str], str], valued: Callable[[str, Any], str]) -> str:
        """Return the note; with values where more than a name changed."""
        if not self.meant:
            return f"{named(self.name)} asks for nothing here"
        if list(self.meant.values()) == [self.value]:
            return f"{named(self.name)} is {named(next(iter(self.meant)))} here"
        here = " ".join(valued(key, value) for key, value in self.meant.items())
        return f"{valued(self.name, self.value)} is {here} here"


def canonical(settings: Mapping[str, Any]) -> tuple[Settings, list[Note]]:
    """Return settings under the names used here, and a note for each that had another.

    Args:
        settings: By any tool's names; those that are unknown here pass unchanged.

    Raises:
        ValueError: A name has two meanings and nothing else tells which, two names contradict
            each other, or a setting has no counterpart.
    """
    translated: Settings = {}
    notes: list[Note] = []
    for name, value in settings.items():
        meant = {name: value}
        if name in MEANINGS and value is not None:
            meant = MEANINGS[name](value, settings)
            notes.append(Note(name, value, meant))
        for key, said in meant.items():
            if translated.setdefault(key, said) != said:
                raise ValueError(
                    f"{name}={value} says {key}={said}, and another setting "
                    f"{key}={translated[key]}; give one of them."
                )
    return translated, notes


def keywords(settings: Mapping[str, Any]) -> Settings:
    """Return canonical settings as keywords of ``unison.generate``.

    What is said of the strategy and its parts becomes the strategy itself.

    Raises:
        ValueError: A part or a setting is unknown or out of range.
    """
    said = {name: value for name, value in settings.items() if _of_strategy(name)}
    rest = {name: value for name, value in settings.items() if name not in said}
    if not said:
        return rest
    named = rest.pop("strategy", None) or "composed"
    base = strategy_named(named) if isinstance(named, str) else named
    rest["strategy"] = built(base, said, rest.get("steps"))
    return rest


def _of_strategy(name: str) -> bool:
    return name.split(".")[0] in (*PARTS, *_OWN)


_OWN = ("temper", "per_block", "anchor", "judged", "discount", "discounted_by", "eos_ids")


def built(base: Strategy, said: Mapping[str, Any], steps: int | None = None) -> Strategy:
    """Return a strategy with parts and settings exchanged.

    Args:
        base: The strategy.
        said: Names of parts and values of settings, by dotted name.
        steps: How many, which a pace per block has to know.

    Raises:
        ValueError: A part or a setting is unknown or out of range.
    """
    names = {name: value for name, value in said.items() if name.rpartition(".")[2] in PARTS}
    fields_ = {name: value for name, value in said.items() if name not in names}
    required = {name: value for name, value in fields_.items() if name.split(".")[0] in PARTS}
    strategy = with_parts(base, names, required)
    paced = {"steps": steps} if "per_block" in fields_ else {}
    return configured(strategy, {**fields_, **paced})


def _renamed(key: str) -> Meaning:
    return lambda value, others: {key: value}


def _per_block(value: Any, others: Mapping[str, Any]) -> Settings:
    return {"steps": value, "per_block": True}


def _part(part: str, name: str, field: str) -> Meaning:
    return lambda value, others: {part: name, f"{part}.{field}": value}


def _choice(name: str, choices: Mapping[Any, Settings]) -> Meaning:
    def meaning(value: Any, others: Mapping[str, Any]) -> Settings:
        if value not in choices:
            raise ValueError(f"{name}={value!r} is unknown; known: {', '.join(map(str, choices))}.")
        return dict(choices[value])

    return meaning


def _impossible(name: str, instead: str) -> Meaning:
    def meaning(value: Any, others: Mapping[str, Any]) -> Settings:
        if value in (False, 0, [], (), ""):
            return {}
        raise ValueError(f"{name} has no counterpart here; {instead}.")

    return meaning


def _algorithm(value: Any, others: Mapping[str, Any]) -> Settings:
    """Dream's ``alg``, with the noise of ``alg_temp`` on its ranking."""
    orders = {"maskgit_plus": "confidence", "topk_margin": "margin", "entropy": "entropy"}
    if value == "origin":
        return {"order": "random", "select": "bernoulli"}
    if value not in orders:
        raise ValueError(f"alg={value!r} is unknown; known: origin, {', '.join(orders)}.")
    if others.get("alg_temp"):
        return {"order": "perturbed", "order.order": orders[value], "select": "dream"}
    return {"order": orders[value], "select": "dream"}


def _ranking_noise(value: Any, others: Mapping[str, Any]) -> Settings:
    if not value or others.get("alg") == "origin":
        return {}
    return {"order": "perturbed", "order.heat": value}


_ENTROPY_STOP = ("sampler_config", "entropy_bound", "max_denoising_steps", "t_min", "t_max",
                 "stability_threshold", "canvas_length")  # fmt: skip
_COMMIT = ("remasking_strategy", "denoising_steps", "dynamic_threshold", "store_kv", "gen_length")
_GEMMA, _SDAR = ("diffusion-gemma",), ("fast-dllm", "llada2", "localleap")


def _confidence_threshold(value: Any, others: Mapping[str, Any]) -> Settings:
    """Two things by one name: which, the other settings tell."""
    given = {name for name, other in others.items() if other is not None}
    strategy = others.get("strategy")
    stops = strategy in _GEMMA or others.get("stop") == "stable" or given & {*_ENTROPY_STOP}
    commits = strategy in _SDAR or others.get("select") == "threshold" or given & {*_COMMIT}
    if bool(stops) == bool(commits):
        raise ValueError(
            f"confidence_threshold={value} has two meanings: the probability from which a token "
            "is written (SDAR, LMDeploy; here select=threshold, select.threshold), and the mean "
            "entropy below which a block is finished (DiffusionGemma; here stop=stable, "
            "stop.entropy). Use the name of the one you mean."
        )
    if stops:
        return {"stop": "stable", "stop.entropy": value}
    return {"select": "threshold", "select.threshold": value}


def _cache(value: Any, others: Mapping[str, Any]) -> Settings:
    if value is True:
        dual = others.get("dual_cache") or others.get("if_cache_position")
        return {"cache": "dual" if dual else "prefix"}
    names = {False: "none", "none": "none", "prefix": "prefix", "dual": "dual"}
    if value not in names:
        raise ValueError(f"use_cache={value!r} is unknown; known: true, false, none, prefix, dual.")
    return {"cache": names[value]}


def _dual(value: Any, others: Mapping[str, Any]) -> Settings:
    return {"cache": "dual"} if value else {}


def _sampler(value: Any, others: Mapping[str, Any]) -> Settings:
    """The nested settings of DiffusionGemma."""
    bound = value.get("entropy_bound") if isinstance(value, Mapping) else value
    if not isinstance(bound, int | float):
        raise ValueError(f"sampler_config must hold a number entropy_bound, got {value!r}.")
    return {"select": "entropy_bound", "select.bound": bound}


_SURE = {"order": "confidence", "select": "count"}

MEANINGS: dict[str, Meaning] = {
    "gen_length": _renamed("new_tokens"),
    "max_new_tokens": _renamed("new_tokens"),
    "max_tokens": _renamed("new_tokens"),
    "max_length": _renamed("length"),
    "num_return_sequences": _renamed("num"),
    "block_size": _renamed("block_length"),
    "canvas_length": _renamed("block_length"),
    "num_denoising_steps": _renamed("steps"),
    "diffusion_steps": _renamed("steps"),
    "num_inference_steps": _per_block,
    "denoising_steps": _per_block,
    "max_denoising_steps": _per_block,
    "steps_per_block": _per_block,
    "remasking": _choice(
        "remasking",
        {"low_confidence": _SURE, "random": {"order": "random", "select": "count"}},
    ),
    "alg": _algorithm,
    "alg_temp": _ranking_noise,
    "remasking_strategy": _choice(
        "remasking_strategy",
        {
            "low_confidence_static": _SURE,
            "low_confidence_dynamic": {"order": "confidence", "select": "threshold"},
            "sequential": {"order": "position", "select": "count"},
            "entropy_bounded": {"select": "entropy_bound"},
        },
    ),
    "threshold": _part("select", "threshold", "threshold"),
    "dynamic_threshold": _part("select", "threshold", "threshold"),
    "confidence_threshold": _confidence_threshold,
    "factor": _part("select", "factor", "factor"),
    "entropy_bound": _part("select", "entropy_bound", "bound"),
    "sampler_config": _sampler,
    "stability_threshold": _part("stop", "stable", "patience"),
    "t_max": _renamed("temper.temperature"),
    "t_min": _renamed("temper.final"),
    "editing_threshold": _part("revise", "edit", "threshold"),
    "edit_threshold": _part("revise", "edit", "threshold"),
    "max_post_steps": _part("revise", "edit", "max_post_steps"),
    "max_post_edit_steps": _part("revise", "edit", "max_post_steps"),
    "cfg_scale": _renamed("cfg"),
    "use_cache": _cache,
    "dual_cache": _dual,
    "if_cache_position": _dual,
    "cache_implementation": _impossible(
        "cache_implementation", "name one of this project's caches with cache"
    ),
    "eos_early_stop": _choice(
        "eos_early_stop", {True: {"stop": "eos"}, False: {"stop": "committed"}}
    ),
    "eos_token_id": lambda value, others: {
        "eos_ids": tuple(value) if isinstance(value, list | tuple) else (value,)
    },
    "logits_eos_inf": _impossible("logits_eos_inf", "discount=0 holds end tokens back"),
    "confidence_eos_eot_inf": _impossible(
        "confidence_eos_eot_inf", "discount=0 holds end tokens back at a block's first step"
    ),
    "suppress_tokens": _impossible("suppress_tokens", "constrain the text instead"),
    "begin_suppress_tokens": _impossible("begin_suppress_tokens", "constrain the text instead"),
    "cfg_keep_tokens": _impossible("cfg_keep_tokens", "guidance leaves the whole prompt out"),
}

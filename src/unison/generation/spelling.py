"""Which speculation do a few words name? ``lookup:longest=4``, ``adaptive``, a drafter's folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from unison import checkpoints
from unison.drafters import DRAFTERS, both_modes, saving
from unison.drafters.automaton import Automaton
from unison.drafters.judge_head import JudgeHead
from unison.engine.reading import target_of
from unison.generation import companions
from unison.generation.companions import Companion
from unison.generation.settings import process_name
from unison.language_model import LanguageModel
from unison.speculation import Speculation
from unison.speculation.builders import BUILDERS
from unison.speculation.parts import Builder, Drafter, Policy, Scheduler, Target, Verifier
from unison.speculation.pearl import Pearl
from unison.speculation.policies import POLICIES
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers import SCHEDULERS
from unison.speculation.verifiers import VERIFIERS
from unison.suggest import nearest
from unison.suites import made, spelt
from unison.thoughts import QuietStar, load_mind

W = TypeVar("W", bound=Speculation | Pearl)
NONE, ITSELF, PEARL = "none", "itself", "pearl"
DRAFTER_NAMES = (*DRAFTERS, ITSELF, NONE)
SCHEDULER_NAMES = (*SCHEDULERS, PEARL)
POLICY_NAMES = (*POLICIES, *companions.POLICIES)
_ELSEWHERE = {
    "grammar": "a grammar comes from a constraint: generate(constraint=...), or --regex and such.",
    "uscd": "uscd needs a lame prompt for each prompt: make "
    "unison.speculation.policies.uscd.Uscd(...) in Python.",
}


def speculation(
    model: LanguageModel,
    drafter: str | Drafter | None = None,
    *,
    builder: str | Builder | None = None,
    verifier: str | Verifier | None = None,
    scheduler: str | Scheduler | None = None,
    policy: str | Policy | None = None,
) -> Speculation | Pearl:
    """Return the parts that are named, and the usual ones for those that are not.

    Where nothing is said, drafts are verified by ``match`` and the text is that of plain decoding,
    seed by seed; copying drafters wait until copies pass (``adaptive``), others draft three of
    the likeliest tokens: where a token more costs little, as on a GPU, trees (``top_k``) pay.

    Args:
        model: The target.
        drafter: A name in ``unison.drafters.DRAFTERS``, with settings as in
            ``lookup:longest=4,shortest=2``; the folder of a trained drafter, or of a smaller or a
            diffusion model; ``itself`` for a diffusion model that verifies its own blocks from
            left to right; ``none`` for plain decoding.
        builder: A name in ``unison.speculation.builders.BUILDERS``.
        verifier: A name in ``unison.speculation.verifiers.VERIFIERS``, or the folder of a trained
            judge (``unison train-drafter judge``).
        scheduler: A name in ``unison.speculation.schedulers.SCHEDULERS``, or ``pearl``, which
            drafts while the target reads and has a builder and a verifier of its own.
        policy: A name in ``unison.speculation.policies.POLICIES``, ``scmoe``, or the folder of
            trained thoughts (``unison train-thoughts``).

    Raises:
        ValueError: A name is unknown, a setting does not fit, or parts do not fit each other.
    """
    target = None
    if drafter == ITSELF:
        target, drafter = both_modes.self_speculation(model)
    drawn = None if drafter in (None, NONE) else _drafter(model, drafter)
    if isinstance(scheduler, str) and spelt(scheduler).name == PEARL:
        return _concurrent(scheduler, drawn, (builder, verifier), _policy(model, policy or "plain"))
    copies = drawn is not None and drawn.copies
    usual = {
        "builder": "given" if copies else "chain",
        "scheduler": "adaptive" if copies else "fixed:depth=3",
    }
    return Speculation(
        drawn,
        _part(model, BUILDERS, "builder", usual["builder"] if builder is None else builder),
        _verifier(model, "match" if verifier is None else verifier),
        _scheduler(model, usual["scheduler"] if scheduler is None else scheduler),
        _policy(model, "plain" if policy is None else policy),
        target,
    )


def _concurrent(
    said: str, drafter: Drafter | None, others: tuple[Any, ...], policy: Policy
) -> Pearl:
    if drafter is None or any(other is not None for other in others):
        raise ValueError(
            "pearl drafts chains while the target reads, and tests them one by one: name a drafter "
            "that guesses token by token, and no builder or verifier."
        )
    return made(partial(Pearl, drafter, policy=policy), said, spelt(said).settings)


def _drafter(model: LanguageModel, said: Any) -> Drafter:
    if not isinstance(said, str):
        return said
    place, name = Path(said), spelt(said).name
    if saving.is_drafter(place):
        return saving.load_drafter(place, model)
    if name in companions.DRAFTERS:
        return _part(model, companions.DRAFTERS, "drafter", said).of(model)
    if name in DRAFTERS:
        return _part(model, DRAFTERS, "drafter", said)
    if place.exists():
        beside = checkpoints.load(place)
        causal = process_name(beside.process) == "sequential"
        return companions.DRAFTERS["smaller" if causal else "block_diffusion"](beside).of(model)
    raise ValueError(
        f"unknown drafter {said!r}{nearest(name, DRAFTER_NAMES)}; known: "
        f"{', '.join(DRAFTER_NAMES)}, or the folder of a trained drafter (unison train-drafter), "
        "of a smaller model or of a diffusion model."
    )


def _verifier(model: LanguageModel, said: Any) -> Verifier:
    if not isinstance(said, str) or not saving.is_drafter(Path(said)):
        return _part(model, VERIFIERS, "verifier", said)
    trained = saving.load_trained(said, model)
    if not isinstance(trained.kind, JudgeHead) or not isinstance(trained.module, nn.Linear):
        raise ValueError(
            f"{said} holds a drafter of the kind {trained.kind.name}, and only a judge verifies; "
            "give it as the drafter."
        )
    return trained.kind.verifier(trained.module)


def _scheduler(model: LanguageModel, said: Any) -> Scheduler:
    if isinstance(said, str) and saving.is_drafter(Path(said)):
        raise ValueError(
            f"{said} holds a trained drafter, which is no scheduler; one that judges its drafts "
            f"(unison train-drafter acceptance) goes with specdec: --drafter {said} "
            "--scheduler specdec."
        )
    return _part(model, SCHEDULERS, "scheduler", said)


def _policy(model: LanguageModel, said: Any) -> Policy:
    if not isinstance(said, str):
        return said
    if Path(said).is_dir():
        return QuietStar(load_mind(said, model))
    name = spelt(said).name
    if name in _ELSEWHERE:
        raise ValueError(_ELSEWHERE[name])
    part = _part(model, {**POLICIES, **companions.POLICIES}, "policy", said)
    return part.of(model) if isinstance(part, Companion) else part


def _part(
    model: LanguageModel, table: Mapping[str, Callable[..., Any]], what: str, said: Any
) -> Any:
    """Return a part by its spelling; models and texts it needs are read from where they are."""
    if not isinstance(said, str):
        return said
    name, settings = spelt(said)
    if name not in table:
        known = SCHEDULER_NAMES if table is SCHEDULERS else tuple(table)
        raise ValueError(
            f"unknown {what} {name!r}{nearest(name, known)}; known: {', '.join(known)}."
        )
    kind = table[name]
    for field in fields(kind):  # pyright: ignore[reportArgumentType]
        read = next((read for wanted, read in _READ if field.type == wanted), None)
        if read is not None and field.name in settings:
            kind = partial(kind, **{field.name: read(model, str(settings.pop(field.name)))})
    return made(kind, said, settings)


def _beside(model: LanguageModel, path: str) -> LanguageModel:
    del model
    return checkpoints.load(path)


def _target(model: LanguageModel, path: str) -> Target:
    return target_of(_beside(model, path))


def _corpus(model: LanguageModel, path: str) -> Automaton:
    """Return the texts of a file, one between two blank lines, as the target spells them."""
    texts = Path(path).read_text(encoding="utf-8").split("\n\n")
    if not any(text.strip() for text in texts):
        raise ValueError(f"{path} holds no text to copy from.")
    return Automaton.of(model.tokenizer.encode(text) for text in texts)


_READ: Sequence[tuple[Any, Callable[[LanguageModel, str], Any]]] = (
    (LanguageModel, _beside),
    (Target, _target),
    (Automaton | None, _corpus),
)


def tempered(how: W, changes: Mapping[str, Any]) -> W:
    """Return a speculation with settings of its policy changed, or of the plain one inside it.

    Raises:
        ValueError: The policy has no such setting.
    """
    return replace(how, policy=_changed(how.policy, changes)) if changes else how


def _changed(policy: Any, changes: Mapping[str, Any]) -> Any:
    known = {field.name: getattr(policy, field.name) for field in fields(policy)}
    unknown = [name for name in changes if name not in known]
    if not unknown:
        return replace(policy, **changes)
    inside = [name for name, value in known.items() if isinstance(value, Plain)]
    if not inside:
        raise ValueError(
            f"{type(policy).__name__} decodes a law of its own, without {unknown[0]}; leave it out."
        )
    return replace(policy, **{inside[0]: _changed(known[inside[0]], changes)})

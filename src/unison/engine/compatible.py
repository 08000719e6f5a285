"""Which caches do not go with a strategy, a network or a process, and why?"""

from dataclasses import fields

from unison.decode import Strategy
from unison.decode.composition import refuses_cache
from unison.decode.diffusion.composed import Composed
from unison.decode.diffusion.corrected_hitting import CorrectedHitting
from unison.decode.order import Position, Random
from unison.engine.delayed_greedy import DelayedGreedy
from unison.engine.none import Uncached
from unison.engine.policy import Policy
from unison.engine.unchanged import Unchanged
from unison.models import Network
from unison.models.network import Remembering
from unison.process import PROCESSES, Process, Uniform


def check(policy: Policy, strategy: Strategy, network: Network, process: Process) -> None:
    """Raise ValueError, with the reason, if decoding cannot be cached like that."""
    if isinstance(policy, Uncached):
        return
    for reason in (unfit(policy, network, process), _ill_matched(policy, strategy)):
        if reason is not None:
            raise ValueError(reason)


def unfit(policy: Policy, network: Network, process: Process) -> str | None:
    """Return why a policy cannot serve a network; ``None`` if it can."""
    rules = _OF_ANSWERS if isinstance(policy, Unchanged) else _OF_NETWORKS
    reasons = (rule(policy, network, process) for rule in rules)
    return next((reason for reason in reasons if reason is not None), None)


def _ill_matched(policy: Policy, strategy: Strategy) -> str | None:
    reasons = (rule(policy, strategy) for rule in _OF_STRATEGIES)
    return next((reason for reason in reasons if reason is not None), None)


def _name(policy: Policy) -> str:
    return type(policy).__name__


def _a_cache_needs_our_transformer(
    policy: Policy, network: Network, process: Process
) -> str | None:
    if isinstance(network, Remembering) and network.remembers:
        return None
    return (
        f"{type(network).__name__} keeps its keys and values to itself, so {_name(policy)} cannot "
        "remember them; decode without a cache (cache 'none')."
    )


def _a_policy_names_its_processes(policy: Policy, network: Network, process: Process) -> str | None:
    name = next(name for name, kind in PROCESSES.items() if isinstance(process, kind))
    if name in policy.processes:
        return None
    return (
        f"{_name(policy)} goes with {' or '.join(policy.processes)} processes, and this model "
        f"undoes the {name} one; use cache 'none'"
        + (" or 'exact'." if network.config.attention != "bidirectional" else ".")
    )


def _exact_needs_looking_back(policy: Policy, network: Network, process: Process) -> str | None:
    if not policy.exact or network.config.attention != "bidirectional":
        return None
    return (
        f"{_name(policy)} serves networks that only look back, and here every position sees "
        "every other: all would be computed anew. Use an approximate cache, or 'none'."
    )


def _exact_needs_one_level(policy: Policy, network: Network, process: Process) -> str | None:
    config = network.config
    if not policy.exact or config.time == "none" or config.time_zeroed:
        return None
    return (
        f"{_name(policy)} promises the belief without a cache, but this network reads the noise "
        "level, which falls from step to step, at every position. Use an approximate cache, "
        "or 'none'."
    )


def _exact_needs_no_second_look(policy: Policy, network: Network, process: Process) -> str | None:
    if not policy.exact or not network.config.self_conditioning or isinstance(process, Uniform):
        return None
    return (
        f"{_name(policy)} has nothing to spare: this self-conditioned network reads a fresh belief "
        "at every position and step. Use an approximate cache, or 'none'."
    )


def _blocks_are_needed(policy: Policy, strategy: Strategy) -> str | None:
    if not policy.blocks:
        return None
    if "block_length" not in {field.name for field in fields(strategy)}:  # pyright: ignore
        return (
            f"{_name(policy)} remembers what lies outside the active block, and "
            f"{type(strategy).__name__} works on the whole canvas at once; use a strategy with "
            "blocks, cache 'dkv' or cache 'none'."
        )
    if strategy.block_length is None:  # pyright: ignore[reportAttributeAccessIssue]
        return (
            f"{_name(policy)} remembers what lies outside the active block; set the strategy's "
            "block_length, which is None: the whole canvas."
        )
    return None


def _greedy_needs_a_drawn_order(policy: Policy, strategy: Strategy) -> str | None:
    if not isinstance(policy, DelayedGreedy):
        return None
    if isinstance(strategy, Composed) and isinstance(strategy.order, Position | Random):
        return None
    return (
        f"{_name(policy)} leaves most undecided positions uncomputed, so the next to write must "
        "not be chosen by what the model says of them: the order must be random or position. "
        "Use cache 'dkv' with other orders."
    )


def _shadows_are_not_served(policy: Policy, strategy: Strategy) -> str | None:
    if isinstance(strategy, CorrectedHitting):
        who, another = strategy, "strategy"
    elif isinstance(strategy, Composed) and strategy.revise.shadows:
        who, another = strategy.revise, "revision"
    else:
        return None
    return (
        f"{type(who).__name__} judges tokens without seeing them, which cached networks cannot; "
        f"use another {another} or cache 'none'."
    )


def _revisions_are_followed(policy: Policy, strategy: Strategy) -> str | None:
    if not isinstance(strategy, Composed):
        return None
    # The active block is computed every time, so what is rewritten inside it is never stale.
    inside = policy.blocks and strategy.revise.reads != "canvas"
    return refuses_cache(strategy, policy.exact_under_revision or inside)


_OF_NETWORKS = (
    _a_cache_needs_our_transformer,
    _a_policy_names_its_processes,
    _exact_needs_looking_back,
    _exact_needs_one_level,
    _exact_needs_no_second_look,
)
_OF_ANSWERS = (_a_policy_names_its_processes, _exact_needs_one_level)  # no keys and values
_OF_STRATEGIES = (
    _revisions_are_followed,
    _shadows_are_not_served,
    _blocks_are_needed,
    _greedy_needs_a_drawn_order,
)

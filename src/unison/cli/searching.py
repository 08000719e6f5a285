"""How does the command line say what is looked for? The flags of ``generate --search``."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unison.cli import shared
from unison.search.api import Search
from unison.search.named import search_named
from unison.search.rewards import TextReward, reward_named
from unison.search.writing import Chosen


class Wanted(NamedTuple):
    """What is looked for, and how."""

    search: Search
    reward: TextReward


def wanted(search: str | None, reward: str | None, others: Mapping[str, bool]) -> Wanted | None:
    """Return what is looked for; ``None`` if nothing is.

    Args:
        search: A search and its settings.
        reward: The path of a reward.
        others: What no search goes with, and whether it was asked for.

    Raises:
        ValueError: A search lacks its reward, or was asked for with one of the others.
    """
    if search is None and reward is None:
        return None
    if search is None or reward is None:
        raise ValueError(
            "--search says how to look and --reward for what; give both, such as --search "
            "best_of:n=8 --reward my_module:my_function."
        )
    for name, said in others.items():
        if said:
            raise ValueError(f"--search does not go with {name}; leave one of them out.")
    return Wanted(search_named(search), reward_named(reward))


def tell(found: Sequence[Chosen], as_json: bool) -> None:
    """Print what was found, with its reward and its cost."""
    if as_json:
        shared.emit({"samples": [dataclasses.asdict(one) for one in found]})
        return
    for one in found:
        print(f"--- {one.prompt}: reward {one.reward:.6g} ({one.nfe} evaluations)")
        print(one.text)

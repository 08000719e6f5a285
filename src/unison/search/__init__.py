"""How is the best one found? Searches, by name."""

from unison.search.api import Found, Reward, Run, Search

SEARCHES: dict[str, type[Search]] = {}

__all__ = ["SEARCHES", "Found", "Reward", "Run", "Search"]

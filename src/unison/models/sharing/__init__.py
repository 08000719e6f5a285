"""How does a network hold fewer numbers than weights, from the start of training?"""

from unison.models.sharing.pools import check, expanded, numbers, shared, shares

__all__ = ["check", "expanded", "numbers", "shared", "shares"]

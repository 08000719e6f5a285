"""Which beginnings of texts are remembered for requests to come? A store for each network."""

from weakref import WeakKeyDictionary

from unison.engine.prefixes import Prefixes
from unison.models import Network, Transformer

_UNIT = 16  # tokens that are remembered or forgotten together, where blocks do not say


class Remembered:
    """Stores of shared prefixes, forgotten with their networks.

    Args:
        bytes: Most that one network's keys and values may take; 0 for no sharing.
    """

    def __init__(self, bytes: int) -> None:
        self._bytes = bytes
        self._stores: WeakKeyDictionary[Transformer, Prefixes | None] = WeakKeyDictionary()

    def of(self, network: Network) -> Prefixes | None:
        """Return the store of a network; ``None`` where what it computes cannot be shared."""
        if not self._bytes or not isinstance(network, Transformer):
            return None
        if network not in self._stores:
            self._stores[network] = self._made(network)
        return self._stores[network]

    @property
    def asked(self) -> int:
        """Prompt tokens that were looked for so far."""
        return sum(one.counts.asked for one in list(self._stores.values()) if one is not None)

    @property
    def found(self) -> int:
        """Of these, how many were remembered."""
        return sum(one.counts.found for one in list(self._stores.values()) if one is not None)

    def _made(self, network: Transformer) -> Prefixes | None:
        config = network.config
        unit = {"causal": _UNIT, "block_causal": config.block_length}.get(config.attention)
        timed = config.time == "adaln" and not config.time_zeroed
        if unit is None or timed or config.self_conditioning:
            return None
        return Prefixes(config, unit, self._bytes)

"""How is decoding made fast? Denoisers that remember, and one table of what they remember."""

from unison.denoising import RowDenoiser
from unison.engine.compatible import check, unfit
from unison.engine.delayed import Delayed
from unison.engine.delayed_greedy import DelayedGreedy
from unison.engine.denoiser import CachedDenoiser
from unison.engine.dual import Dual
from unison.engine.exact import Exact
from unison.engine.fidelity import Drift, drift
from unison.engine.free import Free
from unison.engine.none import Uncached
from unison.engine.policy import Policy, Standing
from unison.engine.prefix import Prefix
from unison.engine.prefixes import Prefixes
from unison.engine.skipping import SkippingDenoiser
from unison.engine.tally import Tally
from unison.engine.unchanged import Unchanged
from unison.models import Network
from unison.process import Process
from unison.types import Denoiser, Mask

CACHES: dict[str, type[Policy]] = {
    "none": Uncached,
    "exact": Exact,
    "prefix": Prefix,
    "dual": Dual,
    "free": Free,
    "dkv": Delayed,
    "dkv_greedy": DelayedGreedy,
    "unchanged": Unchanged,
    "radd": Unchanged,
}


def cached(
    network: Network,
    process: Process,
    policy: Policy,
    valid: Mask | None = None,
    prefixes: Prefixes | None = None,
) -> Denoiser:
    """Return the denoiser of one batch, to be called step after step; make one for each batch.

    Args:
        network: Noisy tokens and noise level in, logits out.
        process: What the network was trained to undo.
        policy: Which positions are computed.
        valid: False at padding; ``None`` if there is none.
        prefixes: Beginnings of texts shared with other batches of the network, for policies that
            never differ from no cache; others leave it aside. ``None`` for none.

    Raises:
        ValueError: The policy cannot serve the network; ``check`` also asks about the strategy.
    """
    if isinstance(policy, Uncached):
        return RowDenoiser(network, process, valid)
    reason = unfit(policy, network, process)
    if reason is not None:
        raise ValueError(reason)
    if isinstance(policy, Unchanged):
        return SkippingDenoiser(RowDenoiser(network, process, valid), policy)
    shared = prefixes if policy.exact_under_revision else None
    return CachedDenoiser(network, process, policy, valid, shared)


__all__ = [
    "CACHES",
    "CachedDenoiser",
    "Drift",
    "Policy",
    "SkippingDenoiser",
    "Standing",
    "Tally",
    "Unchanged",
    "cached",
    "check",
    "drift",
]

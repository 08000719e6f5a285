"""How is text drawn? The strategy contract, its driver, and one table of strategies by name."""

from unison.decode.api import Canvas, Decoded, StepInfo, Strategy, decode, start
from unison.decode.autoregressive import STRATEGIES as _AUTOREGRESSIVE
from unison.decode.diffusion import STRATEGIES as _DIFFUSION
from unison.decode.guidance import shaped

STRATEGIES: dict[str, type[Strategy]] = {**_DIFFUSION, **_AUTOREGRESSIVE}

__all__ = ["STRATEGIES", "Canvas", "Decoded", "StepInfo", "Strategy", "decode", "shaped", "start"]

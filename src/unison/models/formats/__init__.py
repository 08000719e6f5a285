"""Which checkpoint families can be read and written? One file each; two tables, asked in order.

To add one: write a module with the names of ``blueprint.Format`` (or of ``wrapped.Wrapped`` where
another library's class does the work) and add one line below.
"""

from collections.abc import Mapping

from unison.models.formats import (
    a2d,
    bd3lm,
    causal,
    diffusion_gemma,
    dream,
    duo,
    encoder,
    fast_dllm,
    llada,
    llada2,
    llada_moe,
    mdlm,
    own,
    sdar,
)
from unison.models.formats.blueprint import Format
from unison.models.formats.wrapped import Wrapped

FORMATS: Mapping[str, Format] = {
    "unison": own,
    "llada_moe": llada_moe,  # before llada, whose model_type it shares
    "llada2": llada2,
    "llada": llada,
    "dream": dream,
    "sdar": sdar,
    "fast_dllm": fast_dllm,
    "a2d": a2d,
    "mdlm": mdlm,
    "bd3lm": bd3lm,
    "duo": duo,
    "causal": causal,
}
WRAPPED: Mapping[str, Wrapped] = {
    "diffusion_gemma": diffusion_gemma,
    "encoder": encoder,
}

__all__ = ["FORMATS", "WRAPPED"]

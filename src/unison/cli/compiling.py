"""How is a loaded model compiled for decoding? What --compile means to generate and serve."""

import time
from dataclasses import replace

import torch

from unison.cli import shared
from unison.denoising import ROWS_ON_GPU
from unison.engine import compiled as graphs
from unison.engine.compiled import Compiler, Compiling, Settings, whole
from unison.language_model import LanguageModel


def compiled(
    model: LanguageModel,
    how: Compiling,
    length: int | None = None,
    compiler: Compiler = whole,
) -> LanguageModel:
    """Return a model whose whole-canvas evaluations run as compiled graphs, or the same model.

    The graph of one canvas is made, and with ``auto`` timed, before this returns; others when they
    are first asked for.

    Args:
        model: Any.
        how: ``on``, ``off``, or ``auto`` for where it pays.
        length: Tokens of that canvas; the model's own if left out.
        compiler: Makes a graph of a function.

    Raises:
        ValueError: ``on``, and the network cannot be compiled.
    """
    if how == "off":
        return model
    device = model.device
    canvas = min(length or model.defaults.length, model.max_length)
    rows = 1 if device.type == "cpu" else ROWS_ON_GPU

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    settings = Settings(rows, canvas, clock, shared.log, compiler)
    return replace(model, network=graphs.compiled(model.network, how, settings))

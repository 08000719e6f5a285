"""How is a loaded model made fast? What --weights and --compile mean to generate and serve."""

import time
from dataclasses import replace

import torch

from unison.cli import shared
from unison.denoising import ROWS_ON_GPU
from unison.engine import compiled as graphs
from unison.engine import precision, replaying
from unison.engine.compiled import Compiler, Compiling, Settings, whole
from unison.engine.graphs import Graphs, on_gpu
from unison.engine.quantised import Precision
from unison.language_model import LanguageModel


def check(
    weights: Precision | None, how: Compiling, devices: str | None = None, *, graphs: bool = False
) -> None:
    """Refuse what does not go together, before a model is loaded.

    Raises:
        ValueError: Two of a compiled network, packed weights, several devices and recorded graphs
            that exclude each other, or graphs without a GPU.
    """
    given = {
        "--weights": weights is not None,
        "--devices": devices is not None,
        "--graphs": graphs,
    }
    others = [name for name, there in given.items() if there]
    if how == "on" and others:
        raise ValueError(
            f"--compile on and {others[0]} do not go together yet; leave one of them out."
        )
    if graphs and len(others) > 1:
        raise ValueError(f"--graphs and {others[0]} do not go together yet; leave one of them out.")
    if graphs and not torch.cuda.is_available():
        raise ValueError("--graphs records what a GPU does, and there is none; leave it out.")


def recorded(model: LanguageModel) -> LanguageModel:
    """Return a model on a GPU whose evaluations, or steps, are recorded once and replayed.

    Raises:
        ValueError: The model is on a CPU.
    """
    if model.device.type != "cuda":
        raise ValueError("--graphs records what a GPU does; leave --device cpu out.")
    return replaying.model(model, Graphs(on_gpu(), shared.log))


def quickened(
    model: LanguageModel, weights: Precision | None, how: Compiling, length: int | None = None
) -> LanguageModel:
    """Return a model with packed weights or compiled graphs, whichever is asked for.

    Args:
        model: As loaded.
        weights: Their precision; ``None`` for as they are.
        how: Whether evaluations of whole canvases are compiled.
        length: Tokens of the canvas; the model's own if left out.

    Raises:
        ValueError: The network cannot be packed or compiled.
    """
    if weights is None:
        return compiled(model, how, length)
    if model.device.type == "cpu" and not precision.quick(weights):
        shared.log("packed weights are slow without numba; pip install 'unison[fast]'")
    return precision.quantised(model, weights)


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

"""How does a network run as kernels made for it? Whole graphs of fixed shapes, eager otherwise."""

from unison.engine.compiled.buckets import Buckets
from unison.engine.compiled.graphs import Compiler, Graphs, Say, whole
from unison.engine.compiled.network import Compiled, Compiling, Settings, compiled, unfit
from unison.engine.compiled.trial import Trial, tried

__all__ = [
    "Buckets",
    "Compiled",
    "Compiler",
    "Compiling",
    "Graphs",
    "Say",
    "Settings",
    "Trial",
    "compiled",
    "tried",
    "unfit",
    "whole",
]

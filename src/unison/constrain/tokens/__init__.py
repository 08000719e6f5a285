"""Which tokens may come next, and how many are left? Machines over bytes, read token by token."""

from unison.constrain.tokens.ending import UNREACHABLE
from unison.constrain.tokens.groups import Atoms
from unison.constrain.tokens.machine import Edges, Tables, TokenMachine

__all__ = ["UNREACHABLE", "Atoms", "Edges", "Tables", "TokenMachine"]

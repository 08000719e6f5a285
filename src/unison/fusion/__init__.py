"""What can one model tell another without words? Its keys and values (Cache-to-Cache)."""

from unison.fusion.alignment import Pick, alignment
from unison.fusion.fuser import Annealing, Fuser, Fusing, paired
from unison.fusion.lesson import Pair, lesson
from unison.fusion.saving import load_fused, pair_of, save_fuser
from unison.fusion.target import FusedReading, FusedTarget

__all__ = [
    "Annealing",
    "FusedReading",
    "FusedTarget",
    "Fuser",
    "Fusing",
    "Pair",
    "Pick",
    "alignment",
    "lesson",
    "load_fused",
    "pair_of",
    "paired",
    "save_fuser",
]

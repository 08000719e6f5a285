"""What does a model think before it speaks? Latent thoughts after every token (Quiet-STaR)."""

from unison.thoughts.lesson import Schooling, Told, school, tell
from unison.thoughts.mind import Mind, Thinking
from unison.thoughts.parallel import Aftermath, ponder, think
from unison.thoughts.policy import QuietStar
from unison.thoughts.saving import load_mind, save_mind

__all__ = [
    "Aftermath",
    "Mind",
    "QuietStar",
    "Schooling",
    "Thinking",
    "Told",
    "load_mind",
    "ponder",
    "save_mind",
    "school",
    "tell",
    "think",
]

"""What predicts? One configurable transformer and its named sizes."""

from unison.models.config import MixtureConfig, RopeScaling, TransformerConfig
from unison.models.network import Network
from unison.models.presets import PRESETS
from unison.models.transformer import Transformer
from unison.models.view import KeyValues, View, remember

__all__ = [
    "PRESETS",
    "KeyValues",
    "MixtureConfig",
    "Network",
    "RopeScaling",
    "Transformer",
    "TransformerConfig",
    "View",
    "remember",
]

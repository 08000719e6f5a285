"""What predicts? One configurable transformer and its named sizes."""

from unison.models.config import TransformerConfig
from unison.models.presets import PRESETS
from unison.models.transformer import Transformer

__all__ = ["PRESETS", "Transformer", "TransformerConfig"]

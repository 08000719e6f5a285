"""Which sizes have a name? Widths and depths; vocabulary and length come from the run."""

from unison.models.config import TransformerConfig

PRESETS: dict[str, TransformerConfig] = {
    "nano": TransformerConfig(hidden=64, depth=2, heads=2, max_length=64, cond_dim=32),
    "micro": TransformerConfig(hidden=128, depth=4, heads=4, max_length=128, cond_dim=64),
    "tiny": TransformerConfig(hidden=256, depth=8, heads=8, max_length=256),
    "small": TransformerConfig(hidden=768, depth=12, heads=12, max_length=1024, dropout=0.1),
    "medium": TransformerConfig(hidden=1024, depth=24, heads=16, max_length=1024, dropout=0.1),
}

"""What shape is the transformer? One frozen configuration, validated whole."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of one transformer.

    Attributes:
        vocab_size: V, the tokens it may predict. 0 means "taken from the tokenizer".
        num_states: Rows of the input embedding: V, plus one where there is a mask or a
            beginning-of-sequence symbol. 0 means "taken from the process".
        hidden: Width D.
        depth: Blocks.
        heads: Query heads.
        kv_heads: Key and value heads; fewer than ``heads`` gives grouped-query attention.
            ``None`` means as many as ``heads``.
        max_length: Longest canvas, in tokens.
        attention: Who sees whom.
        block_length: Tokens per block where attention is ``block_causal``.
        time: ``adaln`` conditions every block on the noise level, ``none`` ignores it.
        cond_dim: Width of the noise-level embedding.
        norm: LayerNorm without bias, or RMSNorm.
        mlp: GELU (tanh form) with biases, or SwiGLU without.
        mlp_ratio: MLP width over hidden width.
        rope_base: Base of the rotary position embedding.
        tied: Share the input embedding with the output head.
        dropout: On both residual branches, while training.
        self_conditioning: Add an input for an earlier belief about the clean text.
    """

    vocab_size: int = 0
    num_states: int = 0
    hidden: int = 256
    depth: int = 8
    heads: int = 8
    kv_heads: int | None = None
    max_length: int = 256
    attention: Literal["bidirectional", "causal", "block_causal"] = "bidirectional"
    block_length: int | None = None
    time: Literal["adaln", "none"] = "adaln"
    cond_dim: int = 128
    norm: Literal["layer", "rms"] = "layer"
    mlp: Literal["gelu", "swiglu"] = "gelu"
    mlp_ratio: float = 4.0
    rope_base: float = 10_000.0
    tied: bool = False
    dropout: float = 0.0
    self_conditioning: bool = False

    def __post_init__(self) -> None:
        for name in ("hidden", "depth", "heads", "max_length", "cond_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be at least 1, got {getattr(self, name)}.")
        if self.hidden % self.heads or self.head_dim % 2:
            raise ValueError(
                f"model.hidden must be heads times an even head width, got hidden={self.hidden} "
                f"and heads={self.heads}."
            )
        if self.num_kv_heads < 1 or self.heads % self.num_kv_heads:
            raise ValueError(
                f"model.heads={self.heads} must be a multiple of kv_heads={self.kv_heads}."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout must be in [0, 1), got {self.dropout}.")
        if self.block_length is not None and self.block_length < 1:
            raise ValueError(f"model.block_length must be at least 1, got {self.block_length}.")
        if (self.attention == "block_causal") != (self.block_length is not None):
            raise ValueError(
                "model.block_length goes with attention='block_causal' and only with it, got "
                f"attention={self.attention!r} and block_length={self.block_length}."
            )

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads

    @property
    def num_kv_heads(self) -> int:
        """Key and value heads."""
        return self.heads if self.kv_heads is None else self.kv_heads

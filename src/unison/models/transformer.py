"""What predicts? One transformer from noisy tokens and a noise level to logits.

The backbone of DiT (Peebles & Xie, 2022, arXiv:2212.09748) as used for text by MDLM and Duo.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models import layers
from unison.models.config import TransformerConfig
from unison.models.layers import AttentionMask, Hidden
from unison.models.view import View
from unison.types import Mask, SoftTokens, Time, Tokens


class Transformer(nn.Module):
    """Noisy tokens and noise level in, logits over the clean vocabulary out.

    Every modulation and the head, unless tied, start at zero: the first prediction is then
    exactly uniform.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.vocab_size < 1 or config.num_states < config.vocab_size:
            raise ValueError(
                "model.vocab_size must be at least 1 and num_states at least as large, got "
                f"{config.vocab_size} and {config.num_states}."
            )
        self.config = config
        self.embed = nn.Embedding(config.num_states, config.hidden)
        nn.init.uniform_(self.embed.weight, -(config.hidden**-0.5), config.hidden**-0.5)
        self.time = layers.TimeEmbedding(config.cond_dim) if config.time == "adaln" else None
        self.blocks = nn.ModuleList(layers.Block(config) for _ in range(config.depth))
        self.norm = layers.make_norm(config)
        self.modulation = None
        if config.time == "adaln":
            self.modulation = _zeroed(nn.Linear(config.cond_dim, 2 * config.hidden))
        self.head = None if config.tied else _zeroed(nn.Linear(config.hidden, config.vocab_size))
        self.earlier = None
        if config.self_conditioning:
            self.earlier = nn.Linear(config.hidden, config.hidden, bias=False)
            nn.init.zeros_(self.earlier.weight)

    def forward(
        self,
        inputs: Tokens | SoftTokens,
        sigma: Time,
        valid: Mask | None = None,
        earlier: Float[Tensor, "B F V"] | None = None,
        view: View | None = None,
    ) -> Float[Tensor, "B F V"]:
        """Return logits [batch, length, vocab], or [batch, read, vocab].

        Args:
            inputs: Noisy tokens, or mixtures of tokens.
            sigma: -log(alpha) per row; ignored where the model takes no time.
            valid: False at padding, which no valid position sees; ``None`` if there is none.
            earlier: An earlier belief, as probabilities, for a self-conditioned model; at
                ``view.known``, or everywhere.
            view: What is computed, seen and read; ``None`` for the whole canvas.
        """
        h = self._embed(inputs)
        if self.earlier is not None and earlier is not None:
            h = h + self.earlier(earlier @ self.embed.weight[: self.config.vocab_size])
        length = h.shape[1]
        angles = layers.angles(length, self.config.head_dim, self.config.rope_base, h.device)
        mask = self._mask(length, valid, h.device)
        cond = None if self.time is None else self.time(sigma)
        for block in self.blocks:
            h = block(h, cond, angles, mask)
        if view is not None and view.read is not None:
            h = h.gather(1, view.read[..., None].expand(-1, -1, h.shape[-1]))
        h = self.norm(h)
        if self.modulation is not None and cond is not None:
            h = layers.modulate(h, *self.modulation(cond).chunk(2, dim=-1))
        if self.head is None:
            return h @ self.embed.weight[: self.config.vocab_size].T
        return self.head(h)

    def _embed(self, inputs: Tokens | SoftTokens) -> Hidden:
        if not isinstance(inputs, SoftTokens):
            return self.embed(inputs)
        if inputs.ids is None:
            table = self.embed.weight[: inputs.weights.shape[-1]]
            return inputs.weights.to(table.dtype) @ table
        rows, length, kept = inputs.ids.shape
        weights = inputs.weights.to(self.embed.weight.dtype).reshape(-1, kept)
        bags = F.embedding_bag(
            inputs.ids.reshape(-1, kept), self.embed.weight, per_sample_weights=weights, mode="sum"
        )
        return bags.unflatten(0, (rows, length))

    def _mask(self, length: int, valid: Mask | None, device: torch.device) -> AttentionMask | None:
        """Return who may look at whom, or None where attention needs no explicit mask."""
        kind = self.config.attention
        if valid is None and kind != "block_causal":
            return None
        position = torch.arange(length, device=device)
        mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=device)
        if kind == "causal":
            mask = (position[:, None] >= position)[None, None]
        if kind == "block_causal":
            block = position // (self.config.block_length or length)
            mask = (block[:, None] >= block)[None, None]
        if valid is None:
            return mask
        # A padded query would have no key at all and answer NaN: let it see itself.
        return (mask & valid[:, None, None, :]) | torch.eye(length, dtype=torch.bool, device=device)


def _zeroed(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear

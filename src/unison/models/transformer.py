"""What predicts? One transformer from noisy tokens and a noise level to logits.

The backbone of DiT (Peebles & Xie, 2022, arXiv:2212.09748) as used for text by MDLM and Duo; with
other settings that of Llama, Qwen and GPT-2 and of the diffusion models grown from them.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models import layers, sight
from unison.models.config import TransformerConfig
from unison.models.layers import Cond, Hidden, Seen
from unison.models.view import View
from unison.types import Logits, Mask, SoftTokens, Time, Tokens


class Transformer(nn.Module):
    """Noisy tokens and noise level in, logits over the clean vocabulary out.

    Every modulation and the head, unless tied, start at zero: the first prediction is then
    exactly uniform.

    Attributes:
        remembers: Whether part of a canvas may come from a memory.
        masks: Who may look at whom, as attention takes it; ``flex.mask`` for blocks of a GPU.
    """

    remembers = True
    masks: Callable[..., Seen] = staticmethod(sight.mask)

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
        self.places = None
        if config.positions == "learned":
            self.places = nn.Embedding(config.max_length, config.hidden)
            nn.init.uniform_(self.places.weight, -(config.hidden**-0.5), config.hidden**-0.5)
        self.time = layers.TimeEmbedding(config.cond_dim) if config.time == "adaln" else None
        self.blocks = nn.ModuleList(layers.Block(config, i) for i in range(config.depth))
        self.norm = layers.make_norm(config)
        self.modulation = None
        if config.time == "adaln":
            self.modulation = _zeroed(nn.Linear(config.cond_dim, 2 * config.hidden))
        self.head = None
        if not config.tied:
            self.head = _zeroed(nn.Linear(config.hidden, config.vocab_size, config.head_bias))
        self.earlier = None
        if config.self_conditioning:
            self.earlier = nn.Linear(config.hidden, config.hidden, bias=False)
            nn.init.zeros_(self.earlier.weight)
        self.pooled = layers.ScalarHead(config.hidden) if config.scalar else None

    def forward(
        self,
        inputs: Tokens | SoftTokens,
        sigma: Time,
        valid: Mask | None = None,
        earlier: Float[Tensor, "B K V"] | Tokens | None = None,
        view: View | None = None,
    ) -> Float[Tensor, "B F V"]:
        """Return logits [batch, length, vocab], or [batch, read, vocab]; see ``features``."""
        return self.logits(self.features(inputs, sigma, valid, earlier, view))

    def scalar(
        self,
        inputs: Tokens,
        sigma: Time,
        valid: Mask | None = None,
        earlier: Float[Tensor, "B K V"] | Tokens | None = None,
        *,
        frozen: bool = False,
    ) -> Float[Tensor, " B"]:
        """Return one number per row, from the mean of the hidden states of its real text.

        With ``frozen`` no gradient reaches the hidden states.

        Raises:
            ValueError: The model was made without ``scalar``.
        """
        return self._pool(self._features(frozen, inputs, sigma, valid, earlier), valid)

    def both(
        self, inputs: Tokens, sigma: Time, valid: Mask | None = None, *, frozen: bool = False
    ) -> tuple[Logits, Float[Tensor, " B"]]:
        """Return the logits and the number per row, in one evaluation.

        With ``frozen`` no gradient reaches anything but the layers that make the number.

        Raises:
            ValueError: The model was made without ``scalar``.
        """
        h = self._features(frozen, inputs, sigma, valid)
        logits = self.logits(h)
        return logits.detach() if frozen else logits, self._pool(h, valid)

    def features(
        self,
        inputs: Tokens | SoftTokens,
        sigma: Time,
        valid: Mask | None = None,
        earlier: Float[Tensor, "B K V"] | Tokens | None = None,
        view: View | None = None,
    ) -> Float[Tensor, "B F D"]:
        """Return what the output layer reads: [batch, length or read, width].

        Args:
            inputs: Noisy tokens, or mixtures of tokens.
            sigma: -log(alpha) per row; ignored where the model takes no time.
            valid: False at padding, which no valid position sees; ``None`` if there is none.
            earlier: An earlier belief, as probabilities or as tokens believed with certainty,
                for a self-conditioned model; at ``view.known``, or everywhere.
            view: What is computed, seen and read; ``None`` for the whole canvas.

        Raises:
            ValueError: The canvas is longer than the learned places, or ``view.compute`` comes
                without a memory.
        """
        view = View() if view is None else view
        length = inputs.weights.shape[1] if isinstance(inputs, SoftTokens) else inputs.shape[1]
        return self.read(*self.stream(inputs, sigma, valid, earlier, view), length, view)

    def stream(
        self,
        inputs: Tokens | SoftTokens,
        sigma: Time,
        valid: Mask | None,
        earlier: Float[Tensor, "B K V"] | Tokens | None,
        view: View,
    ) -> tuple[Float[Tensor, "B N D"], Cond | None]:
        """Return the residual stream of what is computed, and the noise level embedded."""
        h = self._embed(inputs)
        length = h.shape[1]
        place = torch.arange(length, device=h.device) if view.positions is None else view.positions
        if self.places is not None:
            h = h + self.placed(place)
        if self.earlier is not None and earlier is not None:
            h = h + self.told(earlier, h, view.known)
        mask = self.masks(self.config, place, valid, view)
        if view.compute is not None:
            h, place = sight.at(h, view.compute), sight.at(place, view.compute)
        cond = None if self.time is None else self.time(self.level(sigma))
        angles = layers.angles(place, self.config) if self.places is None else None
        for layer, block in enumerate(self.blocks):
            h = block(h, cond, angles, mask, sight.memory(view, layer, length))
        return h, cond

    def read(self, h: Hidden, cond: Cond | None, length: int, view: View) -> Float[Tensor, "B F D"]:
        """Return what the output layer reads, of a stream over a canvas of so many positions."""
        h = self.norm(sight.outputs(h, length, self.config.shifted, view))
        if self.modulation is not None and cond is not None:
            h = layers.modulate(h, *layers.steady(self.modulation, cond).chunk(2, dim=-1))
        return h

    def _features(self, frozen: bool, *inputs: Any) -> Hidden:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            return self.features(*inputs)

    def _pool(self, h: Hidden, valid: Mask | None) -> Float[Tensor, " B"]:
        if self.pooled is None:
            raise ValueError("this model answers no number per row; it was made without scalar.")
        weights = next(self.pooled.parameters())
        with torch.autocast(h.device.type, enabled=False):  # sums over a text: 8 bits are too few
            return self.pooled(h.to(weights.dtype), valid)

    def level(self, sigma: Time) -> Time:
        """Return the noise level that the time embedding reads."""
        return torch.zeros_like(sigma) if self.config.time_zeroed else sigma

    def logits(self, h: Hidden) -> Float[Tensor, "B L V"]:
        """Return what the output layer answers to what ``features`` returns."""
        return layers.steady(self._unembed if self.head is None else self.head, h)

    def _unembed(self, h: Hidden) -> Tensor:
        return h @ self.embed.weight[: self.config.vocab_size].T

    def told(self, earlier: Tensor, h: Hidden, known: Tensor | None) -> Hidden:
        """Return what an earlier belief adds to the inputs it speaks of."""
        if earlier.is_floating_point():
            said = earlier @ self.embed.weight[: self.config.vocab_size]
        else:
            said = self.embed(earlier)
        told = layers.steady(self.earlier, said)  # pyright: ignore[reportArgumentType]
        if known is None:
            return told
        where = known[..., None].expand(-1, -1, h.shape[-1])
        return torch.zeros_like(h).scatter(1, where, told.to(h.dtype))

    def placed(self, place: Tensor) -> Tensor:
        """Return the learned embedding of places.

        Raises:
            ValueError: There are more than were learned.
        """
        if place.ndim == 1 and len(place) > self.config.max_length:
            raise ValueError(
                f"the canvas has {len(place)} positions and this model learned "
                f"{self.config.max_length}; use a shorter one."
            )
        return self.places(place)  # pyright: ignore[reportOptionalCall]

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


def _zeroed(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear

"""How are BERT and its kin, trained to fill in masks, used as absorbing diffusion models?

A masked language model is the denoiser of masked diffusion at every level at once (Sahoo et al.,
2024, arXiv:2406.07524, Sec. 3): bidirectional, without time, position i speaking of i.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unison.models.config import TransformerConfig
from unison.models.formats import wrapped
from unison.models.formats.blueprint import Blueprint, CheckpointError, Source
from unison.models.network import Network
from unison.models.view import View
from unison.types import Mask, SoftTokens, Time, Tokens

# From hidden states to logits, so that only the positions read pass through the vocabulary.
_HEADS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "AlbertForMaskedLM": lambda model, h: model.predictions(h),
    "BertForMaskedLM": lambda model, h: model.cls(h),
    "CamembertForMaskedLM": lambda model, h: model.lm_head(h),
    "DistilBertForMaskedLM": lambda model, h: model.vocab_projector(
        model.vocab_layer_norm(model.activation(model.vocab_transform(h)))
    ),
    "ElectraForMaskedLM": lambda model, h: model.generator_lm_head(model.generator_predictions(h)),
    "ModernBertForMaskedLM": lambda model, h: model.decoder(model.head(h)),
    "RobertaForMaskedLM": lambda model, h: model.lm_head(h),
    "XLMRobertaForMaskedLM": lambda model, h: model.lm_head(h),
}
ARCHITECTURES = tuple(_HEADS)

# Their table of positions starts after the padding token's: 514 rows hold 512 positions.
_COUNT_FROM_PADDING = ("CamembertForMaskedLM", "RobertaForMaskedLM", "XLMRobertaForMaskedLM")

# What pre-training needed beside the masked words, and buffers of old versions.
_IGNORED = ("*.pooler.*", "*position_ids", "cls.seq_relationship.*", "sop_classifier.*")


class EncoderNetwork(nn.Module):
    """A masked language model of transformers behind the contract of ``Network``.

    Text stands between the tokens the encoder was trained with ([CLS] and [SEP], or their like);
    they are given positions of the canvas like any other.
    """

    def __init__(self, model: Any, config: TransformerConfig) -> None:
        """Wrap a model.

        Args:
            model: The transformers model, of a class in ``ARCHITECTURES``.
            config: What it is in unison's terms.
        """
        super().__init__()
        self.model = model
        self.config = config
        self._name = type(model).__name__
        self._first = _first_position(self._name, model.config)

    def forward(
        self,
        inputs: Tokens | SoftTokens,
        sigma: Time,
        valid: Mask | None = None,
        earlier: Float[Tensor, "B K V"] | None = None,
        view: View | None = None,
    ) -> Float[Tensor, "B F V"]:
        """Return logits [batch, length, vocab], or [batch, read, vocab].

        Args:
            inputs: Noisy tokens.
            sigma: Ignored: the encoder takes no time.
            valid: False at padding, which no position sees.
            earlier: Ignored: the encoder is not self-conditioned.
            view: Its ``read`` alone; ``block`` and ``known`` make no difference here.

        Raises:
            ValueError: Mixtures of tokens, a view that needs a cache, or rows that are too long.
        """
        tokens = wrapped.check_inputs(self._name, inputs, view)
        length = tokens.shape[1]
        if length > self.config.max_length:
            raise ValueError(
                f"{self._name} has {self.config.max_length} positions, got rows of {length} "
                "tokens; shorten the canvas."
            )
        places = {}
        if self._first:
            # Counted here: left alone, the class would give every padding token that stands in a
            # text the same place and move all after it.
            count = torch.arange(length, device=tokens.device) + self._first
            places = {"position_ids": count.expand_as(tokens)}
        seen = None if valid is None else valid.long()
        hidden = self.model.base_model(tokens, attention_mask=seen, **places).last_hidden_state
        if view is not None and view.read is not None:
            hidden = hidden.gather(1, view.read[..., None].expand(-1, -1, hidden.shape[-1]))
        return _HEADS[self._name](self.model, hidden)


def recognises(source: Source) -> bool:
    """Return False: an encoder's settings do not say whether it has a head that fills masks."""
    return False


def build(source: Source, dtype: torch.dtype) -> tuple[Network, Blueprint]:
    """Return the network, with its weights, and what it is.

    Raises:
        CheckpointError: It is a decoder, its mask token is not to be found, or tensors are
            missing or unknown.
    """
    name = _architecture(source)
    if source.config.get("is_decoder"):
        raise CheckpointError(
            f"{source.path}: is_decoder is true, so its attention is causal; masked diffusion "
            "needs an encoder (is_decoder false)."
        )
    mask = _token(source, "mask_token_id", ("[MASK]", "<mask>"))
    if mask is None:
        raise CheckpointError(
            f"{source.path} names no mask token: neither mask_token_id in config.json nor [MASK] "
            "or <mask> in a tokenizer file; copy tokenizer.json and tokenizer_config.json of the "
            "encoder into the folder."
        )
    model = wrapped.load(name, source, dtype, _IGNORED)
    config = _config(name, model.config)
    if mask >= config.vocab_size:
        raise CheckpointError(
            f"{source.path}: the mask token {mask} is not among the model's {config.vocab_size} "
            "tokens; the tokenizer belongs to another model."
        )
    return EncoderNetwork(model, config), _blueprint(source, config, mask, model.config)


def save(network: Network, blueprint: Blueprint, path: Path) -> None:
    """Write settings and weights into an existing folder; ``build`` undoes it."""
    if not isinstance(network, EncoderNetwork):
        raise CheckpointError(f"only an EncoderNetwork is saved here, got {type(network)}.")
    wrapped.save(network.model, path)


def _architecture(source: Source) -> str:
    named = [name for name in source.config.get("architectures") or () if name in _HEADS]
    if not named:
        raise CheckpointError(
            f"{source.path}: architectures is {source.config.get('architectures')}, expected one "
            f"of {', '.join(ARCHITECTURES)}."
        )
    return named[0]


def _token(source: Source, setting: str, names: tuple[str, ...]) -> int | None:
    """Return a special token's id, as config.json states it or the tokenizer names it."""
    stated = source.config.get(setting)
    if stated is not None:
        return int(stated)
    return next((source.tokens[name] for name in names if name in source.tokens), None)


def _first_position(name: str, config: Any) -> int:
    return config.pad_token_id + 1 if name in _COUNT_FROM_PADDING else 0


def _config(name: str, config: Any) -> TransformerConfig:
    """Return what decoding reads of it; norms and MLP are transformers' affair."""
    return TransformerConfig(
        vocab_size=config.vocab_size,
        num_states=config.vocab_size,
        hidden=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        max_length=config.max_position_embeddings - _first_position(name, config),
        attention="bidirectional",
        time="none",
        tied=bool(config.tie_word_embeddings),
    )


def _blueprint(source: Source, config: TransformerConfig, mask: int, settings: Any) -> Blueprint:
    opening = _token(source, "cls_token_id", ("[CLS]", "<s>"))
    closing = _token(source, "sep_token_id", ("[SEP]", "</s>"))
    before = () if opening is None else (opening,)
    after = () if closing is None else (closing,)
    return Blueprint(
        config=config,
        pieces=(),
        process="absorbing",
        mask_id=mask,
        eos_ids=after,
        pad_id=settings.pad_token_id,
        ignored=_IGNORED,
        inferred=(
            f"text stands between the tokens {list(before)} and {list(after)}, as encoders of "
            "this family were trained; the canvas must hold them as given tokens.",
        ),
        extra={"frame": (before, after)},
    )

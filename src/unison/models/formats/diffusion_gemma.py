"""How is DiffusionGemma, which denoises one block after a causally encoded prefix, served?

The encoder reads everything left of the active block once; the decoder, with the same weights,
looks at that and at the whole block. The noise is uniform over the vocabulary and the earlier
belief comes back as a mean embedding (transformers' ``DiffusionGemmaForBlockDiffusion``).
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models.config import TransformerConfig
from unison.models.formats import wrapped
from unison.models.formats.blueprint import Blueprint, CheckpointError, Source
from unison.models.network import Network
from unison.models.view import View
from unison.types import Mask, SoftTokens, Time, Tokens

_NAME = "DiffusionGemmaForBlockDiffusion"
ARCHITECTURES = (_NAME,)


class Prefixes:
    """What the encoder said of the prefixes seen last, so that a block costs one encoding.

    A prefix is always encoded whole, never as an older one continued: what is kept then changes
    no number, and a row does not depend on its batch.

    Attributes:
        room: Prefixes kept at most; the one unused for longest goes first.
    """

    def __init__(self, room: int = 64) -> None:
        self.room = room
        self._kept: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._state: tuple = ()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, prefix: tuple[int, ...], state: tuple) -> Any | None:
        """Return what was kept of the prefix.

        Args:
            prefix: Its tokens.
            state: Which weights, in which precision; when it changes all is forgotten.
        """
        if state != self._state:
            self._kept.clear()
            self._state = state
        if prefix in self._kept:
            self._kept.move_to_end(prefix)
        return self._kept.get(prefix)

    def keep(self, prefix: tuple[int, ...], said: Any) -> None:
        """Keep what the encoder said of the prefix."""
        self._kept[prefix] = said
        while len(self._kept) > self.room:
            self._kept.popitem(last=False)


class DiffusionGemmaNetwork(nn.Module):
    """transformers' DiffusionGemma behind the contract of ``Network``.

    Rows pass one by one: their prefixes differ in length, and a mixture of experts rounds
    differently for other numbers of tokens, which would let a row see its batch.
    """

    def __init__(self, model: Any, config: TransformerConfig, room: int = 64) -> None:
        """Wrap a model.

        Args:
            model: The transformers model.
            config: What it is in unison's terms.
            room: Encoded prefixes kept; at least the number of rows decoded together.
        """
        super().__init__()
        self.model = model
        self.config = config
        self.prefixes = Prefixes(room)

    def forward(
        self,
        inputs: Tokens | SoftTokens,
        sigma: Time,
        valid: Mask | None = None,
        earlier: Float[Tensor, "B K V"] | None = None,
        view: View | None = None,
    ) -> Float[Tensor, "B F V"]:
        """Return logits [batch, length, vocab], or [batch, read, vocab].

        Outside the active block, of which nothing is said, logits are 0.

        Args:
            inputs: Noisy tokens; left of the block, decided ones.
            sigma: Ignored: the model takes no time.
            valid: False at padding, which must be at the right.
            earlier: The belief of the step before, tempered as it was, as probabilities at
                ``view.known``; rows of the batch that are 0 throughout have none. In a row that
                has one, a position it does not speak of is believed to hold the token it holds.
            view: ``block`` is the active block; without it the row is one block with nothing
                before. What stands right of the block is not seen.

        Raises:
            ValueError: A block is longer than the model's canvas or not inside its row, or a
                position outside it is read; mixtures of tokens; a view that needs a cache.
        """
        tokens = wrapped.check_inputs(_NAME, inputs, view)
        bounds = self._bounds(tokens, valid, view)
        answers = [
            self._block(row, block, _belief(number, row, block, earlier, view))
            for number, (row, block) in enumerate(zip(tokens, bounds, strict=True))
        ]
        if view is not None and view.read is not None:
            return torch.stack(
                [
                    _read(said, _inside(read, block))
                    for said, read, block in zip(answers, view.read, bounds, strict=True)
                ]
            )
        length = tokens.shape[1]
        return torch.stack(
            [
                F.pad(said, (0, 0, first, length - past))
                for said, (first, past) in zip(answers, bounds, strict=True)
            ]
        )

    def _bounds(
        self, tokens: Tokens, valid: Mask | None, view: View | None
    ) -> list[tuple[int, int]]:
        """Return the first position of each row's block and one past its last.

        A block that runs on into padding ends with its row.
        """
        rows, length = tokens.shape
        lengths = [length] * rows if valid is None else valid.sum(1).tolist()
        if view is None or view.block is None:
            bounds = [(0, own) for own in lengths]
        else:
            stated = zip(view.block.tolist(), lengths, strict=True)
            bounds = [(first, min(past, own)) for (first, past), own in stated]
        for (first, past), own in zip(bounds, lengths, strict=True):
            if not 0 <= first < past:
                raise ValueError(
                    f"the active block must lie inside its row of {own} tokens, got positions "
                    f"{first} to {past}."
                )
            if past - first > (self.config.block_length or own):
                raise ValueError(
                    f"{_NAME} denoises at most {self.config.block_length} tokens at once, got a "
                    f"block of {past - first}; name a shorter one in view.block (without it the "
                    "whole row is one block)."
                )
        return bounds

    def _block(
        self, row: Int[Tensor, " L"], block: tuple[int, int], belief: tuple[Tensor, Tensor] | None
    ) -> Float[Tensor, "C V"]:
        """Return the logits of one row's block."""
        first, past = block
        logits, spoken = (None, None) if belief is None else belief
        return self.model(
            past_key_values=self._encoded(row[:first]),
            decoder_input_ids=row[None, first:past],
            decoder_position_ids=torch.arange(first, past, device=row.device)[None],
            self_conditioning_logits=logits,
            self_conditioning_mask=spoken,
        ).logits[0]

    def _encoded(self, prefix: Int[Tensor, " P"]) -> Any:
        """Return what the encoder says of a prefix; the decoder only reads it."""
        if torch.is_grad_enabled():  # a graph serves one backward pass
            return self._encode(prefix)
        ids = tuple(prefix.tolist())
        said = self.prefixes.find(ids, self._state())
        if said is None:
            said = self._encode(prefix)
            self.prefixes.keep(ids, said)
        return said

    def _encode(self, prefix: Int[Tensor, " P"]) -> Any:
        cache = wrapped.transformers_class("DynamicCache")(config=self.model.config.text_config)
        if len(prefix):
            self.model.model.encoder(input_ids=prefix[None], past_key_values=cache)
            return cache
        nothing = self.model.lm_head.weight[:0]
        for layer in cache.layers:  # the encoder itself cannot read an empty text
            layer.lazy_initialization(nothing, nothing)
        return cache

    def _state(self) -> tuple:
        """Return what changes when weights are written, moved or cast."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        device = tensors[0].device
        written = sum(tensor._version for tensor in tensors)
        return written, device, tensors[0].dtype, torch.is_autocast_enabled(device.type)


def _belief(
    number: int,
    row: Int[Tensor, " L"],
    block: tuple[int, int],
    earlier: Float[Tensor, "B K V"] | None,
    view: View | None,
) -> tuple[Float[Tensor, "1 C V"], Tensor] | None:
    """Return the log-probabilities a row's block is conditioned on, and whether there are any.

    The model wants all positions of the block or none: one that the belief leaves out, such as a
    given token, holds what stands there. Logits are enough, the model takes their softmax.
    """
    if earlier is None:
        return None
    first, past = block
    said = earlier[number]
    if view is None or view.known is None:
        known = torch.arange(len(said), device=row.device)
    else:
        known = view.known[number]
    spoken = (known >= first) & (known < past) & said.any(-1)
    if bool(spoken.all()) and torch.equal(known, torch.arange(first, past, device=row.device)):
        return said.log()[None], spoken.any()[None]
    standing = F.one_hot(row[first:past], said.shape[-1]).to(said.dtype)
    whole = standing.index_put((known[spoken] - first,), said[spoken])
    return whole.log()[None], spoken.any()[None]


def _read(said: Float[Tensor, "C V"], at: Int[Tensor, " F"]) -> Float[Tensor, "F V"]:
    """Return the answers at some positions; all of them, as decoding asks, without a copy."""
    whole = torch.arange(len(said), device=at.device)
    return said if torch.equal(at, whole) else said[at]


def _inside(read: Int[Tensor, " F"], block: tuple[int, int]) -> Int[Tensor, " F"]:
    """Return positions counted from the block's first."""
    first, past = block
    outside = (read < first) | (read >= past)
    if outside.any():
        raise ValueError(
            f"{_NAME} speaks of its active block alone, positions {first} to {past - 1}; asked "
            f"for {sorted(set(read[outside].tolist()))}."
        )
    return read - first


def recognises(source: Source) -> bool:
    """Return whether a checkpoint without a known architecture is of this family."""
    return source.config.get("model_type") == "diffusion_gemma"


def build(source: Source, dtype: torch.dtype) -> tuple[Network, Blueprint]:
    """Return the network, with its weights, and what it is.

    Raises:
        CheckpointError: Its encoder is not causal, a setting is missing, or tensors are missing
            (each layer's ``layer_scalar`` among them) or unknown.
    """
    text = source.config.get("text_config")
    if not isinstance(text, Mapping):
        raise CheckpointError(f"{source.path}: config.json lacks text_config; it is damaged.")
    if text.get("use_bidirectional_attention") == "all":
        raise CheckpointError(
            f"{source.path}: use_bidirectional_attention is 'all', so what the encoder says of a "
            "prefix would change with every block; only causal encoders are supported."
        )
    model = wrapped.load(_NAME, source, dtype)
    config = _config(model.config)
    return DiffusionGemmaNetwork(model, config), _blueprint(source, config, model)


def save(network: Network, blueprint: Blueprint, path: Path) -> None:
    """Write settings and weights into an existing folder; ``build`` undoes it."""
    if not isinstance(network, DiffusionGemmaNetwork):
        raise CheckpointError(f"only a DiffusionGemmaNetwork is saved here, got {type(network)}.")
    wrapped.save(network.model, path)


def _config(config: Any) -> TransformerConfig:
    """Return what decoding reads of it; norms, MLP and experts are transformers' affair."""
    text = config.text_config
    first = text.per_layer_config[0]  # heads of the full layers differ
    return TransformerConfig(
        vocab_size=text.vocab_size,
        num_states=text.vocab_size,
        hidden=text.hidden_size,
        depth=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=first.num_key_value_heads,
        head_width=first.head_dim,
        max_length=text.max_position_embeddings,
        attention="block_causal",
        block_length=config.canvas_length,
        time="none",
        norm="rms",
        norm_eps=text.rms_norm_eps,
        tied=bool(config.tie_word_embeddings),
        self_conditioning=True,
    )


def _blueprint(source: Source, config: TransformerConfig, model: Any) -> Blueprint:
    text = model.config.text_config
    inferred = [
        "blocks begin where the prompt ends, not at multiples of the block length.",
    ]
    ids = {}
    for name in ("eos_token_id", "pad_token_id", "bos_token_id"):
        ids[name] = source.generation.get(name)
        if ids[name] is None:
            ids[name] = getattr(text, name)
            inferred.append(f"{name} {ids[name]} is text_config's: generation_config has none.")
    ends = ids["eos_token_id"]
    steps, settings = _sampling(source.generation)
    return Blueprint(
        config=config,
        pieces=(),
        process="uniform",
        bos_id=ids["bos_token_id"],
        eos_ids=tuple(ends)
        if isinstance(ends, list | tuple)
        else (() if ends is None else (ends,)),
        pad_id=ids["pad_token_id"],
        defaults={
            "strategy": "diffusion-gemma",
            "steps": steps,
            "length": min(source.generation.get("max_new_tokens") or 256, config.max_length),
            "block_length": config.block_length,
            "settings": settings,
        },
        inferred=tuple(inferred),
    )


def _sampling(generation: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    """Return the steps of a block, and the settings of its entropy-bounded sampler.

    What a checkpoint leaves open is as in transformers' own defaults.
    """
    sampler = generation.get("sampler_config") or {}
    stated = {**generation, "entropy_bound": sampler.get("entropy_bound")}
    usual = {
        "select.bound": ("entropy_bound", 0.1),  # nats
        "temper.temperature": ("t_max", 0.8),  # of a block's first step
        "temper.final": ("t_min", 0.4),  # what it falls towards
        "stop.patience": ("stability_threshold", 1),  # steps the likeliest canvas has stood
        "stop.entropy": ("confidence_threshold", 0.005),  # nats per token
    }
    filled = {
        ours: value if stated.get(theirs) is None else stated[theirs]
        for ours, (theirs, value) in usual.items()
    }
    return stated.get("max_denoising_steps") or 48, filled

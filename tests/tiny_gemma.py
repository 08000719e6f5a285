"""A DiffusionGemma of a few thousand random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from unison.models.formats.blueprint import Source

CANVAS, V = 8, 40
TEXT = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "global_head_dim": 16,
    "num_global_key_value_heads": 2,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"],
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
VISION = {
    "model_type": "gemma4_vision",
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "patch_size": 4,
    "position_embedding_size": 16,
}


def made() -> Any:
    """Every part matters, each layer's scalar is its own, and rounding errors do not grow.

    With a stronger answer to its earlier belief a random model is a chaotic map: it multiplies
    them by fifty at each step.
    """
    import transformers

    config = transformers.DiffusionGemmaConfig(
        text_config=TEXT,
        vision_config=VISION,
        canvas_length=CANVAS,
        image_token_id=39,
        boi_token_id=38,
        eoi_token_id=37,
    )
    model = transformers.DiffusionGemmaForBlockDiffusion(config).eval()
    generator = torch.Generator().manual_seed(3)
    tensors = [*model.named_parameters()]
    tensors += [named for named in model.named_buffers() if named[0].endswith("layer_scalar")]
    for name, tensor in tensors:
        noise = torch.randn(tensor.shape, generator=generator)
        tensor.data.copy_(0.4 * noise if tensor.dim() > 1 else 1 + 0.3 * noise)
        if "self_conditioning.down_proj" in name or "layernorm" in name:
            tensor.data.mul_(0.4)
    return model


def source_of(path: Path) -> Source:
    with safe_open(path / "model.safetensors", "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    config = json.loads((path / "config.json").read_text())
    generation = json.loads((path / "generation_config.json").read_text())
    return Source(path, config, generation, shapes, {})

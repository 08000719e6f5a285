"""What does DiffusionGemma cost here, next to transformers' own ``generate`` on the same object?

Random weights in a shape that a CPU can run. Prompts of different lengths are padded at the left
for ``generate``, as its users do; here rows are ragged. Both sides take all their steps: such
weights are never sure. Times are at the published temperatures; tokens are compared, from the same
first canvas, where the temperature falls to 0 and nothing else is random.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import measure
from unison.decode import Canvas, decode
from unison.decode.presets import diffusion_gemma
from unison.decode.temper import Temper
from unison.denoising import RowDenoiser
from unison.models import TransformerConfig
from unison.models.formats.diffusion_gemma import DiffusionGemmaNetwork
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Uniform

VOCAB, CANVAS, STEPS = 50257, 128, 4
TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "global_head_dim": 64,
    "num_global_key_value_heads": 4,
    "sliding_window": 512,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 256,
    "max_position_embeddings": 512,
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


class Task(NamedTuple):
    """Prompts, and the first canvas of each row.

    Attributes:
        model: transformers'.
        prompts: One row each.
        first: Noise, [rows, CANVAS].
    """

    model: Any
    prompts: tuple[Tensor, ...]
    first: Tensor


def made() -> Any:
    """Return a model of random weights whose answer to its own earlier belief is mild."""
    import transformers

    config = transformers.DiffusionGemmaConfig(
        text_config=TEXT, vision_config=VISION, canvas_length=CANVAS,
        image_token_id=VOCAB - 1, boi_token_id=VOCAB - 2, eoi_token_id=VOCAB - 3,
    )  # fmt: skip
    model = transformers.DiffusionGemmaForBlockDiffusion(config).eval()
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            weak = 0.1 if "self_conditioning" in name else 1.0
            torch.nn.init.normal_(weight, std=weak * weight.shape[-1] ** -0.5)
    model.generation_config.eos_token_id = None
    return model


def by_transformers(task: Task, **settings: Any) -> Tensor:
    """Return what ``generate`` writes, [rows, CANVAS]."""
    longest = max(map(len, task.prompts))
    tokens = torch.zeros(len(task.prompts), longest, dtype=torch.long)
    seen = torch.zeros_like(tokens)
    for number, prompt in enumerate(task.prompts):
        tokens[number, longest - len(prompt) :] = prompt
        seen[number, longest - len(prompt) :] = 1
    out = task.model.generate(
        tokens,
        attention_mask=seen,
        max_new_tokens=CANVAS,
        max_denoising_steps=STEPS,
        decoder_input_ids=task.first,
        **settings,
    )
    return out.sequences[:, longest:]


def by_preset(task: Task, temper: Temper) -> Tensor:
    """Return what the preset writes, [rows, CANVAS]."""
    shape = TransformerConfig(
        vocab_size=VOCAB, num_states=VOCAB, hidden=512, heads=8, max_length=512,
        attention="block_causal", block_length=CANVAS, time="none", self_conditioning=True,
    )  # fmt: skip
    longest = max(map(len, task.prompts)) + CANVAS
    tokens = torch.zeros(len(task.prompts), longest, dtype=torch.long)
    given, valid = torch.ones_like(tokens).bool(), torch.zeros_like(tokens).bool()
    for number, prompt in enumerate(task.prompts):
        end = len(prompt) + CANVAS
        tokens[number, :end] = torch.cat([prompt, task.first[number]])
        given[number, len(prompt) : end], valid[number, :end] = False, True
    process = Uniform(VOCAB)
    denoise = RowDenoiser(DiffusionGemmaNetwork(task.model, shape), process, valid)
    strategy = dataclasses.replace(
        diffusion_gemma(), steps=STEPS, block_length=CANVAS, temper=temper
    )
    key = Key(rng.rows(0, 0, len(tokens)))
    done = decode(strategy, process, denoise, Canvas(tokens, given, valid=valid), key).tokens
    rows = zip(done, task.prompts, strict=True)
    return torch.stack([row[len(p) : len(p) + CANVAS] for row, p in rows])


def ratios(
    batches: dict[int, str], lengths: tuple[int, int], rounds: int
) -> Iterator[tuple[measure.Ratio, dict[str, list[float]], str]]:
    """Yield, for each batch size, the ratio of costs, the seconds, and how many tokens agree.

    Args:
        batches: Numbers of rows, and what is hoped for.
        lengths: Shortest and longest prompt; one alone is of the longest.
        rounds: Of measuring.
    """
    model = made()
    for rows, target in batches.items():
        sizes = torch.linspace(*lengths, rows).long().tolist() if rows > 1 else lengths[1:]
        prompts = tuple(torch.randint(3, VOCAB - 3, (size,)) for size in sizes)
        task = Task(model, prompts, torch.randint(VOCAB, (rows, CANVAS)))
        cold = by_transformers(task, t_min=0.0, t_max=1e-7) == by_preset(task, Temper())
        work: dict[str, measure.Work] = {
            "transformers": lambda task=task: by_transformers(task),
            "preset": lambda task=task: by_preset(task, diffusion_gemma().temper),
        }
        spent = measure.take_turns(work, rounds, warm=0)
        name = f"diffusion-gemma, V = {VOCAB}, batch {rows}"
        found = measure.ratio(
            f"{name}: transformers / preset", spent["transformers"], spent["preset"], target
        )
        seconds = {f"{name}, {side}": s for side, s in spent.items()}
        yield found, seconds, f"{int(cold.sum())} of {cold.numel()}"

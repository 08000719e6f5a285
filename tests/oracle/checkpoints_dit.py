"""The text diffusion transformer of MDLM, BD3-LM and Duo, on a dictionary of its own tensors.

Written from the papers (arXiv:2212.09748, 2406.07524, 2503.09573): one head, one position pair and
one chunk at a time, with nothing fused.
"""

import math

import torch
from torch.nn import functional as F


def tensors(
    vocab: int,
    hidden: int,
    depth: int,
    heads: int,
    seed: int = 0,
    cond: int = 6,
    prefix: str = "backbone.",
    adaln: bool = True,
) -> dict[str, torch.Tensor]:
    """Return a random checkpoint, in the order in which the network registers its parameters."""
    random = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=random) / math.sqrt(size[-1])

    linear = {"weight": lambda o, i: draw(o, i), "bias": lambda o, i: draw(1, o)[0]}
    out = {"vocab_embed.embedding": draw(vocab, hidden)}

    def add(name: str, o: int, i: int, kinds: tuple[str, ...] = ("weight", "bias")) -> None:
        for kind in kinds:
            out[f"{name}.{kind}"] = linear[kind](o, i)

    if adaln:
        add("sigma_map.mlp.0", cond, 256)
        add("sigma_map.mlp.2", cond, cond)
    pairs = torch.arange(0, hidden // heads, 2)
    out["rotary_emb.inv_freq"] = 10000.0 ** -(pairs / (hidden // heads))
    for block in range(depth):
        name = f"blocks.{block}"
        out[f"{name}.norm1.weight"] = 1 + draw(hidden)
        add(f"{name}.attn_qkv", 3 * hidden, hidden, ("weight",))
        add(f"{name}.attn_out", hidden, hidden, ("weight",))
        out[f"{name}.norm2.weight"] = 1 + draw(hidden)
        add(f"{name}.mlp.0", 4 * hidden, hidden)
        add(f"{name}.mlp.2", hidden, 4 * hidden)
        if adaln:
            add(f"{name}.adaLN_modulation", 6 * hidden, cond)
    out["output_layer.norm_final.weight"] = 1 + draw(hidden)
    add("output_layer.linear", vocab, hidden)
    if adaln:
        add("output_layer.adaLN_modulation", 2 * hidden, cond)
    return {prefix + name: value for name, value in out.items()}


def embed_level(w: dict[str, torch.Tensor], sigma: float) -> torch.Tensor:
    """Return c = silu(W2 silu(W0 [cos(sigma f_k), sin(sigma f_k)])), f_k = 10000^(-k/128)."""
    angle = torch.tensor([sigma * 10000 ** (-k / 128) for k in range(128)])
    waves = torch.cat([angle.cos(), angle.sin()])
    inner = F.silu(w["sigma_map.mlp.0.weight"] @ waves + w["sigma_map.mlp.0.bias"])
    return F.silu(w["sigma_map.mlp.2.weight"] @ inner + w["sigma_map.mlp.2.bias"])


def rotated(x: torch.Tensor) -> torch.Tensor:
    """Turn entries i and i + E/2 of position p by the angle p 10000^(-2i/E)."""
    length, width = x.shape
    out = x.clone()
    for i in range(width // 2):
        angle = torch.arange(length) * 10000.0 ** (-2 * i / width)
        a, b = x[:, i], x[:, i + width // 2]
        out[:, i] = a * angle.cos() - b * angle.sin()
        out[:, i + width // 2] = b * angle.cos() + a * angle.sin()
    return out


def attend(x: torch.Tensor, qkv: torch.Tensor, heads: int, sees: torch.Tensor) -> torch.Tensor:
    """Return attention of one row; the projection's rows are (three, heads, width)."""
    hidden = x.shape[1]
    width = hidden // heads
    parts = qkv.view(3, heads, width, hidden)
    out = []
    for head in range(heads):
        q, k, v = (x @ parts[part, head].T for part in range(3))
        scores = rotated(q) @ rotated(k).T / math.sqrt(width)
        out.append(scores.masked_fill(~sees, -torch.inf).softmax(-1) @ v)
    return torch.cat(out, dim=1)


def logits(
    checkpoint: dict[str, torch.Tensor],
    tokens: torch.Tensor,
    sigma: float,
    heads: int,
    prefix: str = "backbone.",
    block: int | None = None,
) -> torch.Tensor:
    """Return the logits [L, V] of one row of tokens.

    Args:
        checkpoint: Tensors by their published names.
        tokens: One row.
        sigma: The level the network reads.
        heads: Attention heads.
        prefix: What stands before every name.
        block: Tokens of a block that sees itself and those before it; None: all see all.
    """
    w = {name.removeprefix(prefix): value for name, value in checkpoint.items()}
    place = torch.arange(len(tokens))
    sees = torch.ones(len(tokens), len(tokens), dtype=torch.bool)
    if block is not None:
        sees = (place // block)[:, None] >= (place // block)[None]
    hidden = w["vocab_embed.embedding"].shape[1]
    adaln = "sigma_map.mlp.0.weight" in w
    c = embed_level(w, sigma) if adaln else None

    def modulation(name: str, parts: int) -> list[torch.Tensor]:
        if c is None:
            return [torch.zeros(hidden), torch.zeros(hidden), torch.ones(hidden)] * 2
        whole = w[f"{name}.adaLN_modulation.weight"] @ c + w[f"{name}.adaLN_modulation.bias"]
        return [whole[i * hidden : (i + 1) * hidden] for i in range(parts)]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * w[name]

    h = w["vocab_embed.embedding"][tokens]
    depth = len({name.split(".")[1] for name in w if name.startswith("blocks.")})
    for i in range(depth):
        name = f"blocks.{i}"
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation(name, 6)
        x = norm(h, f"{name}.norm1.weight") * (1 + scale_a) + shift_a
        x = attend(x, w[f"{name}.attn_qkv.weight"], heads, sees)
        h = h + gate_a * (x @ w[f"{name}.attn_out.weight"].T)
        x = norm(h, f"{name}.norm2.weight") * (1 + scale_m) + shift_m
        x = F.gelu(x @ w[f"{name}.mlp.0.weight"].T + w[f"{name}.mlp.0.bias"], approximate="tanh")
        h = h + gate_m * (x @ w[f"{name}.mlp.2.weight"].T + w[f"{name}.mlp.2.bias"])
    shift, scale = modulation("output_layer", 2)[:2]
    x = norm(h, "output_layer.norm_final.weight") * (1 + scale) + shift
    return x @ w["output_layer.linear.weight"].T + w["output_layer.linear.bias"]

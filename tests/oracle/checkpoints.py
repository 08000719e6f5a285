"""Networks of published families, written from their papers and code one operation at a time."""

import math

import torch


def llada(config, weights, tokens):
    """Logits of LLaDA-8B's network (arXiv:2502.09992): Llama without a causal mask.

    Weights by the checkpoint's own names; tokens [B, L].
    """
    start = "model.transformer"
    h = weights[f"{start}.wte.weight"][tokens]
    for layer in range(config["n_layers"]):
        named = {
            name.removeprefix(f"{start}.blocks.{layer}.").removesuffix(".weight"): w
            for name, w in weights.items()
            if name.startswith(f"{start}.blocks.{layer}.")
        }
        x = _rms(h, named["attn_norm"], config["rms_norm_eps"])
        h = h + _attention(config, named, x) @ named["attn_out"].T
        x = _rms(h, named["ff_norm"], config["rms_norm_eps"])
        gate = x @ named["ff_proj"].T
        h = h + (gate / (1 + torch.exp(-gate)) * (x @ named["up_proj"].T)) @ named["ff_out"].T
    h = _rms(h, weights[f"{start}.ln_f.weight"], config["rms_norm_eps"])
    out = f"{start}.wte.weight" if config["weight_tying"] else f"{start}.ff_out.weight"
    return h @ weights[out].T


def _rms(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def _attention(config, named, x):
    heads, width = config["n_heads"], config["d_model"] // config["n_heads"]
    group = heads // (config["n_kv_heads"] or heads)
    mixed = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        shared = slice((head // group) * width, (head // group + 1) * width)
        q = _rotated(x @ named["q_proj"][own].T, config["rope_theta"])
        k = _rotated(x @ named["k_proj"][shared].T, config["rope_theta"])
        scores = torch.einsum("bqe,bke->bqk", q, k) / math.sqrt(width)
        mixed.append(scores.softmax(-1) @ (x @ named["v_proj"][shared].T))
    return torch.cat(mixed, dim=-1)


def _rotated(x, base):
    """Pair i of the first half with i of the second, turned by position * base^(-2i/width)."""
    length, width = x.shape[-2:]
    half = width // 2
    out = x.clone()
    for pair in range(half):
        angle = torch.arange(length) * base ** (-2 * pair / width)
        a, b = x[..., pair], x[..., pair + half]
        out[..., pair] = a * angle.cos() - b * angle.sin()
        out[..., pair + half] = b * angle.cos() + a * angle.sin()
    return out

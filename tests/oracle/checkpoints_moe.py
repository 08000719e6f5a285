"""Gated transformers with experts, as LLaDA-MoE and LLaDA2 store them, one token at a time.

Written from the papers (arXiv:2104.09864, 2002.05202, 1701.06538, 2412.19437) with the published
tensor names; nothing is fused, sorted or batched.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """The network."""

    vocab: int = 40
    hidden: int = 16
    depth: int = 3
    heads: int = 4
    kv_heads: int = 2
    width: int = 4
    mlp: int = 12
    experts: int = 8
    chosen: int = 3
    expert: int = 6
    shared: int = 0
    dense: int = 1
    score: str = "softmax"
    normalised: bool = False
    scale: float = 1.0
    groups: int = 1
    chosen_groups: int = 1
    bias: bool = False
    rotating: int = 4
    base: float = 50_000.0
    eps: float = 1e-5
    block: int | None = None


def llada_moe(shape: Shape, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a random checkpoint under LLaDA-MoE's names."""
    draw = _Draw(seed)
    out = _ends(shape, draw, "embed_tokens")
    for i in range(shape.depth):
        name = f"model.layers.{i}"
        for part, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads)):
            out[f"{name}.self_attn.{part}_proj.weight"] = draw(heads * shape.width, shape.hidden)
        out[f"{name}.self_attn.o_proj.weight"] = draw(shape.hidden, shape.heads * shape.width)
        for part in "qk":
            out[f"{name}.self_attn.{part}_norm.weight"] = 1 + draw(shape.width)
        out |= _mlp(shape, draw, f"{name}.mlp", i)
        if shape.shared and i >= shape.dense:
            out |= _gated(draw, f"{name}.shared_expert", shape.shared, shape.hidden)
    return out


def llada2(shape: Shape, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a random checkpoint under LLaDA2's names."""
    draw = _Draw(seed)
    out = _ends(shape, draw, "word_embeddings")
    rows = (shape.heads + 2 * shape.kv_heads) * shape.width
    for i in range(shape.depth):
        name = f"model.layers.{i}"
        out[f"{name}.attention.query_key_value.weight"] = draw(rows, shape.hidden)
        out[f"{name}.attention.dense.weight"] = draw(shape.hidden, shape.heads * shape.width)
        out[f"{name}.attention.query_layernorm.weight"] = 1 + draw(shape.width)
        out[f"{name}.attention.key_layernorm.weight"] = 1 + draw(shape.width)
        out |= _mlp(shape, draw, f"{name}.mlp", i)
        if i < shape.dense:
            continue
        out[f"{name}.mlp.gate.expert_bias"] = draw(shape.experts)
        if shape.shared:
            out |= _gated(draw, f"{name}.mlp.shared_experts", shape.shared, shape.hidden)
    return out


class _Draw:
    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, *size: int) -> torch.Tensor:
        return torch.randn(*size, generator=self.random) / math.sqrt(size[-1])


def _ends(shape: Shape, draw: _Draw, embedding: str) -> dict[str, torch.Tensor]:
    out = {
        f"model.{embedding}.weight": draw(shape.vocab, shape.hidden) * 2,
        "model.norm.weight": 1 + draw(shape.hidden),
        "lm_head.weight": draw(shape.vocab, shape.hidden),
    }
    for i in range(shape.depth):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out[f"model.layers.{i}.{norm}.weight"] = 1 + draw(shape.hidden)
    return out


def _gated(draw: _Draw, name: str, inner: int, hidden: int) -> dict[str, torch.Tensor]:
    return {
        f"{name}.gate_proj.weight": draw(inner, hidden),
        f"{name}.up_proj.weight": draw(inner, hidden),
        f"{name}.down_proj.weight": draw(hidden, inner),
    }


def _mlp(shape: Shape, draw: _Draw, name: str, layer: int) -> dict[str, torch.Tensor]:
    if layer < shape.dense:
        return _gated(draw, name, shape.mlp, shape.hidden)
    out = {f"{name}.gate.weight": draw(shape.experts, shape.hidden) * 2}
    for expert in range(shape.experts):
        out |= _gated(draw, f"{name}.experts.{expert}", shape.expert, shape.hidden)
    return out


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return x over its root mean square, weighted."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def gated(w: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    """Return W_down (silu(W_gate x) * W_up x)."""
    inner = F.silu(w[f"{name}.gate_proj.weight"] @ x) * (w[f"{name}.up_proj.weight"] @ x)
    return w[f"{name}.down_proj.weight"] @ inner


def routed(shape: Shape, w: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    """Return the answer of the experts one token visits."""
    logits = w[f"{name}.gate.weight"] @ x
    scores = logits.softmax(0) if shape.score == "softmax" else 1 / (1 + (-logits).exp())
    wanted = (scores + w.get(f"{name}.gate.expert_bias", 0)).tolist()
    size = shape.experts // shape.groups
    group = [sum(sorted(wanted[g * size : (g + 1) * size])[-2:]) for g in range(shape.groups)]
    best = sorted(range(shape.groups), key=lambda g: -group[g])[: shape.chosen_groups]
    allowed = [e for e in range(shape.experts) if e // size in best]
    visited = sorted(allowed, key=lambda e: -wanted[e])[: shape.chosen]
    weights = {e: float(scores[e]) for e in visited}
    if shape.normalised:
        weights = {e: weight / sum(weights.values()) for e, weight in weights.items()}
    answers = [
        shape.scale * weight * gated(w, f"{name}.experts.{e}", x) for e, weight in weights.items()
    ]
    return torch.stack(answers).sum(0)


def turned(x: torch.Tensor, place: int, rotating: int, base: float) -> torch.Tensor:
    """Turn the first ``rotating`` entries of one head at one place, in halves; keep the rest."""
    out, half = x.clone(), rotating // 2
    for i in range(half):
        angle = place * base ** (-2 * i / rotating)
        a, b = x[i], x[i + half]
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def heads_of(
    shape: Shape, w: dict[str, torch.Tensor], name: str, x: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """Return the queries, keys and values of one layer, [L, width] each, before they turn."""
    joint = w.get(f"{name}.attention.query_key_value.weight")
    if joint is None:
        q, k, v = (x @ w[f"{name}.self_attn.{part}_proj.weight"].T for part in "qkv")
    else:
        sizes = [n * shape.width for n in (shape.heads, shape.kv_heads, shape.kv_heads)]
        q, k, v = (x @ joint.T).split(sizes, dim=1)
    return tuple(list(part.split(shape.width, dim=1)) for part in (q, k, v))


def attention(shape: Shape, w: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    """Return grouped attention of one row, queries and keys normalised head by head."""
    two = f"{name}.attention.query_layernorm.weight" in w
    q_name, k_name = ("query_layernorm", "key_layernorm") if two else ("q_norm", "k_norm")
    room = f"{name}.attention" if two else f"{name}.self_attn"
    queries, keys, values = heads_of(shape, w, name, x)
    length = len(x)
    out = []
    for head, query in enumerate(queries):
        group = head // (shape.heads // shape.kv_heads)
        q = norm(query, w[f"{room}.{q_name}.weight"], shape.eps)
        k = norm(keys[group], w[f"{room}.{k_name}.weight"], shape.eps)
        q = torch.stack([turned(q[p], p, shape.rotating, shape.base) for p in range(length)])
        k = torch.stack([turned(k[p], p, shape.rotating, shape.base) for p in range(length)])
        mixed = torch.empty(length, shape.width)
        for p in range(length):
            end = length if shape.block is None else (p // shape.block + 1) * shape.block
            mixed[p] = (k[:end] @ q[p] / math.sqrt(shape.width)).softmax(0) @ values[group][:end]
        out.append(mixed)
    last = "dense" if two else "o_proj"
    return torch.cat(out, dim=1) @ w[f"{room}.{last}.weight"].T


def logits(shape: Shape, w: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Return the logits [L, V] of one row of tokens."""
    embedding = "embed_tokens" if "model.embed_tokens.weight" in w else "word_embeddings"
    h = w[f"model.{embedding}.weight"][tokens]
    for i in range(shape.depth):
        name = f"model.layers.{i}"
        h = h + attention(shape, w, name, norm(h, w[f"{name}.input_layernorm.weight"], shape.eps))
        x = norm(h, w[f"{name}.post_attention_layernorm.weight"], shape.eps)
        h = h + torch.stack([_inner(shape, w, name, i, row) for row in x])
    return norm(h, w["model.norm.weight"], shape.eps) @ w["lm_head.weight"].T


def _inner(
    shape: Shape, w: dict[str, torch.Tensor], name: str, layer: int, x: torch.Tensor
) -> torch.Tensor:
    if layer < shape.dense:
        return gated(w, f"{name}.mlp", x)
    out = routed(shape, w, f"{name}.mlp", x)
    for shared in (f"{name}.mlp.shared_experts", f"{name}.shared_expert"):
        if f"{shared}.up_proj.weight" in w:
            out = out + gated(w, shared, x)
    return out

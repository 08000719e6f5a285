"""Small networks, ragged canvases and watchful denoisers to try caches on."""

import dataclasses
from typing import Any

import tiny
import torch

from unison.decode import Canvas, Decoded, Strategy, decode, start
from unison.decode.diffusion.composed import Composed
from unison.decode.order import Random
from unison.engine import CACHES, Policy, cached
from unison.models import Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Process
from unison.types import Belief, Denoiser, Focus, Time, Tokens

VOCAB, LENGTH, BLOCK = 11, 16, 4
SHAPE = TransformerConfig(
    vocab_size=VOCAB,
    num_states=VOCAB + 1,
    hidden=16,
    depth=2,
    heads=4,
    max_length=LENGTH,
    cond_dim=8,
    time="none",
)
NETWORKS: dict[str, dict[str, Any]] = {
    "bidirectional": {},
    "block_causal": {"attention": "block_causal", "block_length": BLOCK},
    "causal": {"attention": "causal"},
    "shifted": {"shifted": True},
    "grouped": {"kv_heads": 2, "qk_norm": True, "norm": "rms", "mlp": "swiglu"},
    "learned": {"positions": "learned", "tied": True},
    "timed": {"time": "adaln"},
}
APPROXIMATE = [name for name, kind in CACHES.items() if not kind.exact]


def network(seed: int = 0, **changes: Any) -> Transformer:
    """A network whose every weight is random and which hears every neighbour."""
    made = Transformer(dataclasses.replace(SHAPE, **changes)).eval()
    tiny.randomise(made, 1.5, seed)
    return made


def canvas(process: Process, seed: int = 0, even: bool = False) -> tuple[Canvas, Key]:
    """Three rows with prompts, ragged unless ``even``; the last has a given token in its text."""
    rows = 3
    prompts = torch.tensor([[4], [4], [4]]) if even else torch.tensor([[3], [1], [5]])
    lengths = torch.tensor([[16], [16], [16]]) if even else torch.tensor([[16], [13], [10]])
    place = torch.arange(LENGTH)
    valid = place < lengths
    given = (place < prompts) | ~valid
    if not even:
        given[2, 8] = True
    key = Key(rng.rows(seed, 0, rows))
    text = (rng.uniform(key, 99, LENGTH) * VOCAB).long()
    return start(process, text, given, key, None if even else valid), key


def strategy(policy: Policy, **changes: Any) -> Strategy:
    """Blocks of four, one or two tokens a step."""
    order = {"order": Random()} if policy == CACHES["dkv_greedy"](refresh=policy.refresh) else {}
    return Composed(**{"block_length": BLOCK, **order, **changes})


class Watched:
    """A denoiser whose every question and answer is kept."""

    def __init__(self, denoise: Denoiser, log: list | None = None) -> None:
        self.denoise = denoise
        self.log: list[tuple[Tokens, Focus | None, Belief]] = [] if log is None else log

    def keep(self, rows: torch.Tensor) -> "Watched":
        return Watched(self.denoise.keep(rows), self.log)  # pyright: ignore

    def __call__(
        self, xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
    ) -> Belief:
        said = self.denoise(xt, t, focus, earlier)
        self.log.append((xt.clone(), focus, said))
        return said


def run(
    net: Transformer,
    policy: Policy,
    how: Strategy,
    begin: tuple[Canvas, Key],
    process: Process | None = None,
) -> tuple[Decoded, Watched]:
    """Decode, and return what was asked and answered."""
    process = Absorbing(VOCAB) if process is None else process
    watched = Watched(cached(net, process, policy, begin[0].valid))
    return decode(how, process, watched, *begin), watched


def apart(one: Watched, other: Watched) -> float:
    """The largest difference of two runs' beliefs, as probabilities; the same canvases asked."""
    assert len(one.log) == len(other.log) > 0
    largest = 0.0
    for (asked, _, said), (again, _, heard) in zip(one.log, other.log, strict=True):
        assert torch.equal(asked, again)
        largest = max(largest, float((said.exp() - heard.exp()).abs().max()))
    return largest

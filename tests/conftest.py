"""Fixtures every room may use."""

import os
from collections.abc import Callable

import pytest
import torch
from oracle.decoding import Tables

from unison.decode import Canvas, Decoded, Strategy, decode, start
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Process
from unison.types import Denoiser, LogProbs, Time, Tokens

torch.set_num_threads(1)  # toy tensors: a second thread only waits


@pytest.fixture
def seed() -> int:
    """Fixed in CI, fresh in the nightly run: ``UNISON_TEST_SEED=$RANDOM pytest``."""
    return int(os.environ.get("UNISON_TEST_SEED", "0"))


@pytest.fixture
def as_denoiser() -> Callable[[Tables], Denoiser]:
    """Turn the oracle's tables into the callable strategies see."""

    def build(tables: Tables) -> Denoiser:
        clean, noisy = torch.from_numpy(tables.clean), torch.from_numpy(tables.noisy)

        def denoise(xt: Tokens, t: Time) -> LogProbs:
            state, time = tuple(xt.unbind(1)), t[:, None, None]
            return ((1 - time) * clean[state] + time * noisy[state]).log().float()

        return denoise

    return build


@pytest.fixture
def write(seed: int) -> Callable[..., Decoded]:
    """Decode many rows from one canvas: given tokens by position, noise elsewhere."""

    def run(
        strategy: Strategy,
        process: Process,
        denoise: Denoiser,
        given: dict[int, int],
        length: int,
        rows: int = 20_000,
    ) -> Decoded:
        key = Key(rng.rows(seed, 0, rows))
        tokens = torch.tensor([given.get(i, 0) for i in range(length)]).expand(rows, -1)
        fixed = torch.tensor([i in given for i in range(length)]).expand(rows, -1)
        canvas: Canvas = start(process, tokens, fixed, key)
        return decode(strategy, process, denoise, canvas, key)

    return run

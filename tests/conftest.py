"""Fixtures every room may use; the package is imported by who uses it, not by who deals out."""

from __future__ import annotations

import gc
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from oracle.decoding import Tables

    from unison.decode import Canvas, Decoded, Strategy
    from unison.process import Process
    from unison.types import Belief, Denoiser, Focus, Time, Tokens


def pytest_sessionstart(session: pytest.Session) -> None:
    """Prepare whoever runs tests; who deals them out to several workers does not."""
    if getattr(session.config.option, "dist", "no") != "no":
        return
    import checked_once
    import torch

    checked_once.install()
    torch.set_num_threads(1)  # toy tensors: a second thread only waits


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """All tests and their modules stay to the end: no pass for garbage looks at them again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test writes to the cache in someone's home."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISON_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Only a power cut needs what fsync does; a kill does not, and the tests' files are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def shapes_by_greenlet() -> Iterator[None]:
    """Computations that take turns in a thread each check their own shapes."""
    if find_spec("greenlet") is None:
        yield
        return
    from apart import own_shapes

    with own_shapes():
        yield


@pytest.fixture
def seed() -> int:
    """Fixed in CI, fresh in the nightly run: ``UNISON_TEST_SEED=$RANDOM pytest``."""
    return int(os.environ.get("UNISON_TEST_SEED", "0"))


@pytest.fixture
def as_denoiser() -> Callable[[Tables], Denoiser]:
    """Turn the oracle's tables into the callable strategies see."""
    import torch

    def build(tables: Tables) -> Denoiser:
        clean, noisy = torch.from_numpy(tables.clean), torch.from_numpy(tables.noisy)

        def denoise(
            xt: Tokens, t: Time, focus: Focus | None = None, earlier: Belief | None = None
        ) -> Belief:
            state, time = tuple(xt.unbind(1)), t[:, None, None]
            log_x0 = ((1 - time) * clean[state] + time * noisy[state]).log().float()
            if focus is None:
                return log_x0
            return log_x0.gather(1, focus.positions[..., None].expand(-1, -1, log_x0.shape[-1]))

        return denoise

    return build


@pytest.fixture
def write(seed: int) -> Callable[..., Decoded]:
    """Decode many rows from one canvas: given tokens by position, noise elsewhere."""
    import torch

    from unison.decode import decode, start
    from unison.prob import rng
    from unison.prob.rng import Key

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


@pytest.fixture
def move(seed: int) -> Callable[..., Canvas]:
    """Take one step from one canvas, many rows: shows rates that a whole run would blur."""
    import torch

    from unison.decode import Canvas
    from unison.prob import rng
    from unison.prob.rng import Key

    def run(
        strategy: Strategy,
        process: Process,
        denoise: Denoiser,
        canvas: tuple[list, ...],
        step: int,
        rows: int = 20_000,
    ) -> Canvas:
        parts = [torch.tensor(part) for part in canvas]  # one row each
        tokens, given, *memory = (part.expand(rows, *part.shape[1:]) for part in parts)
        key = Key(rng.rows(seed, 0, rows), step)
        state = Canvas(tokens, given, memory[0].double() if memory else None)
        return strategy.step(process, denoise, state, key)[0]

    return run

"""Under random load nothing is lost, nothing is wrong, nothing stays behind."""

import asyncio

import pytest
import tiny

pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from benchmarks.serving import Load, drift
from unison.serve.running import Server, hosting
from unison.serve.service import Hosted
from unison.serve.settings import Settings


def under_load(seconds, workers):
    models = {family: tiny.model(family, length=40) for family in ("mdlm", "ar")}
    hosted = {name: Hosted(name, model) for name, model in models.items()}
    service = hosting(hosted, Settings(port=0, rows=8, waiting=64))
    load = Load(models, seed=1, prompts=["the ", "quick brown", "lazy "])
    lines = []
    with Server(service, log=lines.append) as server:
        asyncio.run(load.run(server.url, seconds, workers))
        for _ in range(100):
            stats = server.service.engine.stats()
            if not stats.rows + stats.waiting + stats.running:
                break
            asyncio.run(asyncio.sleep(0.05))
    return load, stats


def check(load, stats):
    assert not load.wrong
    assert set(load.statuses) <= {"200", "400", "404", "415"}
    assert load.statuses["200"] > 0
    assert load.statuses["400"] > 0
    assert load.cancelled > 0
    assert stats.rows + stats.waiting + stats.running == 0
    assert stats.memory == 0
    assert stats.failed == 0


def test_a_few_seconds_of_everything_at_once():
    check(*under_load(3, 8))


@pytest.mark.slow
def test_ten_minutes_at_saturation():
    load, stats = under_load(600, 24)
    check(load, stats)
    assert load.cancelled >= 2000
    assert load.statuses["400"] >= 500
    assert abs(drift(load.memory)) <= 0.05

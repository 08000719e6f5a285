"""Training on continuous data: it reaches the exact minimum, survives kills, refuses misfits."""

import dataclasses
import json
import math

import killed
import pytest
import torch
from laws import assert_count
from safetensors.torch import load_file

from unison import event_model
from unison.data.continuous import Events
from unison.data.continuous.degrading import LowResolution
from unison.models.continuous import PointsConfig, UNetConfig
from unison.objectives.continuous import (
    Denoising,
    LogNormal,
    Restoring,
)
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM
from unison.process.continuous.resshift import ResShift
from unison.train import Optimizer, TrainError
from unison.train.continuous import TrainEvents, prepare, score, train
from unison.train.continuous.setup import batch_of, held_out, held_out_key, rows_of

CPU = torch.device("cpu")
CENTRES = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double() * 0.6
WIDTH = 0.15


def exact(y, s):
    """E[x_0 | y] of four round components: Bayes' rule, row by row."""
    y, s = y.double(), s.double()[:, None]
    total = WIDTH**2 + s**2
    odds = -(y[:, None] - CENTRES).square().sum(-1) / (2 * total)
    means = CENTRES + (WIDTH**2 / total)[:, None] * (y[:, None] - CENTRES)
    return (odds.softmax(1)[..., None] * means).sum(1)


def cloud(rows=4096):
    key = Key(rng.rows(5, 0, rows))
    which = (4 * rng.uniform(key, 0, 1)[:, 0]).long()
    values = CENTRES[which] + WIDTH * rng.normal(key, 1, 2)
    return Events("cloud", values.float(), torch.arange(rows) % 4 == 0, labels=which)


def pictures(rows=24):
    key = Key(rng.rows(6, 0, rows))
    values = rng.normal(key, 0, 16).float().view(rows, 1, 4, 4) * 0.5
    return Events("pictures", values, torch.arange(rows) % 4 == 0, labels=torch.arange(rows) % 2)


def config(**changes):
    start = TrainEvents(
        network=PointsConfig(width=64, depth=2),
        objective=Denoising(LogNormal(-0.7, 1.0), dropout=0.0),
        labels=False,
        optimizer=Optimizer(lr=4e-3, warmup=20, schedule="cosine", final=0.02),
        steps=300,
        batch_size=256,
        ema=0.99,
        eval_every=300,
        eval_events=1024,
        save_every=300,
    )
    return dataclasses.replace(start, **changes)


def small(**changes):
    """Six steps of everything that moves: dropout, labels, degradations, averages, evaluation."""
    return config(
        network=UNetConfig(width=8, dropout=0.1),
        objective=Denoising(),
        degradation=LowResolution(2),
        labels=True,
        steps=6,
        batch_size=5,
        eval_every=2,
        eval_events=4,
        save_every=2,
        log_every=1,
        **changes,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, what it lost before its first step, and how it ended."""
    prepared = prepare(config(), cloud(), CPU)
    before = score(prepared).value
    return prepared, before, train(prepared, tmp_path_factory.mktemp("trained") / "run")


def test_the_loss_comes_down_to_the_least_there_is(trained):
    prepared, before, finished = trained
    way, key = prepared.objective, held_out_key(prepared, 1024)
    batch = held_out(prepared, 1024)
    squares = way(prepared.config.process, lambda label, beside: exact, batch, key)
    least = (squares.total / squares.count).item()
    after = finished.standing.evaluation.value
    assert before > 1.05 * least, "what a Gaussian of the data's spread would lose"
    assert -0.1 < (after - least) / (before - least) < 0.4


def test_a_trained_model_is_the_exact_mean_where_it_was_trained(trained):
    _, _, finished = trained
    model = event_model.load(finished.folder / "model")
    y, s = cloud(512).values.double(), torch.full((512,), 0.4, dtype=torch.float64)
    y = y + 0.4 * rng.normal(Key(rng.rows(9, 0, 512)), 0, 2)
    error = (model.denoiser()(y, s) - exact(y, s)).square().mean().sqrt()
    assert error < 0.08
    assert model.span == pytest.approx((0.002, 80.0))
    assert model.spread == pytest.approx(cloud().spread)
    assert model.notes["data"] == "cloud"


def test_the_best_model_by_held_out_loss_is_kept_beside_the_last(tmp_path):
    spoilt = config(
        network=PointsConfig(width=16, depth=1),
        optimizer=Optimizer(lr=1.0, warmup=0),
        steps=8,
        eval_every=1,
        ema=0.0,
        batch_size=16,
        eval_events=64,
    )
    prepared = prepare(spoilt, cloud(256), CPU)
    finished = train(prepared, tmp_path / "run")
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().split("\n")[:-1]
    ]
    losses = [line["held_out"]["value"] for line in lines]
    assert len(losses) == 8
    assert finished.standing.best == min(losses) < losses[-1]
    best = event_model.load(tmp_path / "run" / "checkpoints" / "best")
    assert score(prepared._replace(model=best)).value == pytest.approx(min(losses), rel=1e-6)


def job(folder):
    train(prepare(small(), pictures(), CPU), folder, resume=True)


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def test_a_run_that_is_killed_anywhere_ends_bit_for_bit_as_if_it_had_not_been(tmp_path):
    job(tmp_path / "whole")
    truth = weights(tmp_path / "whole")
    run = tmp_path / "run"
    for moment in (4, 25, 40):  # no folder yet, in an evaluation, in a checkpoint
        assert not killed.run(job, run, die_at=moment, below=run)
    assert killed.run(job, run, below=run)
    found = weights(run)
    assert found.keys() == truth.keys()
    assert all(torch.equal(found[name], truth[name]) for name in truth)
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "events_per_second"}
            for line in (folder / "log.jsonl").read_text().splitlines()
        ]
        for folder in (run, tmp_path / "whole")
    ]
    assert logs[0] == logs[1]
    assert (run / "run.json").exists()


def test_noisy_events_are_learnt_from_as_such_and_held_out_ones_stay_clean():
    noisy = config(noise_level=0.5, noise_share=0.7, steps=2, eval_every=9, batch_size=64)
    prepared = prepare(noisy, cloud(), CPU)
    learnt, kept = prepared.events.learnt, prepared.events.kept
    assert torch.equal(kept.values, cloud().kept.values)
    assert not kept.known.any()
    assert_count(int((learnt.known == 0.5).sum()), len(learnt.known), 0.7)
    off = (learnt.values - cloud().learnt.values).square().mean(1)
    assert off[learnt.known == 0].max() == 0
    assert off[learnt.known > 0].mean().item() == pytest.approx(0.25, rel=0.15)  # 5 errors
    batch, _ = batch_of(prepared, 0)
    assert {*batch.known.tolist()} == {0.0, 0.5}


def test_every_event_is_seen_once_in_each_pass_and_passes_differ():
    steps = torch.stack([rows_of(3, step, 4, 10) for step in range(5)]).flatten().view(2, 10)
    for order in steps:
        assert sorted(order.tolist()) == list(range(10))
    assert not torch.equal(*steps)


def test_a_run_goes_on_only_with_its_own_settings_and_data(tmp_path):
    run = tmp_path / "run"
    train(prepare(small(), pictures(), CPU), run)
    with pytest.raises(TrainError, match="not empty"):
        train(prepare(small(), pictures(), CPU), run)
    other = prepare(dataclasses.replace(small(), ema=0.5), pictures(), CPU)
    with pytest.raises(TrainError, match=r"other settings \(ema\)"):
        train(other, run, resume=True)
    changed = pictures()
    changed = dataclasses.replace(changed, values=changed.values + 1)
    with pytest.raises(TrainError, match="other data"):
        train(prepare(small(), changed, CPU), run, resume=True)
    longer = dataclasses.replace(small(), steps=7)
    assert train(prepare(longer, pictures(), CPU), run, resume=True).standing.step == 7


def test_gradients_that_stay_infinite_end_the_run(tmp_path):
    wild = dataclasses.replace(cloud(64), values=torch.full((64, 2), 1e30))
    prepared = prepare(config(max_skipped=3, steps=9), cloud(64), CPU)._replace(events=wild)
    with pytest.raises(TrainError, match="3 steps in a row"):
        train(prepared, tmp_path / "run")


def test_a_residual_process_learns_to_restore(tmp_path):
    restoring = config(
        network=UNetConfig(width=8),
        objective=Restoring(),
        process=ResShift(),
        degradation=LowResolution(2),
        steps=60,
        batch_size=16,
    )
    prepared = prepare(restoring, smooth(), CPU)
    before = score(prepared).value
    finished = train(prepared, tmp_path / "run")
    assert finished.standing.evaluation.value < 0.8 * before
    assert event_model.load(tmp_path / "run" / "model").process == ResShift()


def smooth(rows=256):
    """Pictures whose lost details follow from what is left: slopes."""
    key = Key(rng.rows(8, 0, rows))
    slope = rng.normal(key, 0, 2)[:, :, None] * torch.linspace(-1, 1, 8).double()
    values = (slope[:, 0, :, None] + slope[:, 1, None, :])[:, None].float() * 0.5
    return Events("slopes", values, torch.arange(rows) % 4 == 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"ema": 1.0}, "ema must be in"),
        ({"low": 2.0, "high": 1.0}, "low < high"),
        ({"seed": -1}, "seed must be"),
        ({"noise_share": 1.5}, "noise_share in"),
        ({"process": ResShift()}, "do not fit"),
        ({"objective": Restoring()}, "do not fit"),
        ({"process": ResShift(), "objective": Restoring()}, "name a degradation"),
    ],
)
def test_impossible_settings_are_refused_before_any_work(changes, said):
    with pytest.raises(ValueError, match=said):
        config(**changes)


def test_networks_that_do_not_fit_the_data_are_refused_before_the_run_exists():
    with pytest.raises(ValueError, match="choose points"):
        prepare(config(network=UNetConfig(width=8)), cloud(), CPU)
    odd = dataclasses.replace(pictures(), values=torch.linspace(-1, 1, 600).view(24, 1, 5, 5))
    with pytest.raises(ValueError, match=r"5"):
        prepare(config(network=UNetConfig(width=8, multipliers=(1, 2, 2))), odd, CPU)


def test_the_span_is_what_both_the_settings_and_the_process_allow():
    prepared = prepare(config(process=EDM(0.01, 20.0), low=0.05), cloud(64), CPU)
    assert prepared.model.span == pytest.approx((0.05, 20.0))
    assert math.isfinite(score(prepared).value)

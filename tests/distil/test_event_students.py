"""Whole models are made faster: what students know, and what they are told."""

from dataclasses import replace

import pytest
import torch

from unison import event_model
from unison.distil.continuous import (
    DISTILLATIONS,
    STUDENTS,
    Consistency,
    FDistil,
    MMDFinetune,
    OfEvents,
    consistency,
    distilled,
    within,
)
from unison.event_model import EventModel
from unison.exact.zoo import gmm5
from unison.models.continuous import PointsConfig, build
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM
from unison.train.config import Optimizer

QUICK = Optimizer(lr=3e-3, warmup=2)
FAST = {
    Consistency: {"steps": 4, "batch_size": 8},
    FDistil: {"steps": 2, "batch_size": 8, "fake_steps": 1},
    MMDFinetune: {"steps": 3, "batch_size": 8, "report": 8},
}


def key(seed, rows):
    return Key(rng.rows(seed, 0, rows))


def points(classes=0):
    network = build(PointsConfig(width=16, depth=1, classes=classes), seed=1)
    return EventModel(network, EDM(), (2,), 1.0, span=(0.002, 40.0), notes={"data": "x"})


def test_every_method_has_a_name_and_some_make_students():
    assert set(STUDENTS) < set(DISTILLATIONS.values())
    assert set(STUDENTS) == set(FAST)


@pytest.mark.parametrize("kind", FAST)
def test_a_student_of_a_model_is_a_model_that_knows_its_levels(kind, tmp_path):
    model, events = points(), gmm5().sample(key(1, 50)).float()
    before = {name: w.clone() for name, w in model.network.state_dict().items()}
    config = within(model, kind(optimizer=QUICK, **FAST[kind]))
    losses = []
    student = distilled(model, OfEvents(events), config, lambda done, loss: losses.append(loss))
    assert len(losses) == config.steps
    assert student.notes["distilled"]["method"] == kind.__name__
    assert model.span[0] <= student.span[0] < student.span[1] <= model.span[1]
    event_model.save(student, tmp_path / "model")
    again = event_model.load(tmp_path / "model", torch.device("cpu"))
    x, level = events[:5], torch.full((5,), 2.0)
    assert torch.equal(again.denoiser()(x, level), student.denoiser()(x, level))
    assert not torch.equal(model.denoiser()(x, level), student.denoiser()(x, level))
    assert all(torch.equal(w, before[name]) for name, w in model.network.state_dict().items())


def test_a_student_learns_which_class_it_is_told():
    """Two classes at -1 and 1; the noise it is shown says nothing of either."""
    labels = torch.arange(200) % 2
    events = 2.0 * labels[:, None] - 1 + 0.05 * rng.normal(key(3, 200), 1, 2).float()
    network = build(PointsConfig(width=32, depth=1, classes=2), seed=1)
    model = EventModel(network, EDM(), (2,), 1.0, span=(0.01, 20.0))
    config = Consistency(steps=120, last=20, batch_size=64, optimizer=QUICK)
    student = consistency(model.denoiser(), OfEvents(events, labels), config)
    noise, level = 20.0 * rng.normal(key(4, 100), 1, 2).float(), torch.full((100,), 20.0)
    low, high = (
        replace(student, label=torch.full((100,), kind))(noise, level).mean(0) for kind in (0, 1)
    )
    assert float((high - low).min()) > 1.0, (low, high)


def test_labels_follow_their_events_and_some_are_left_unsaid():
    events = torch.arange(7.0)[:, None].repeat(1, 2)
    draw = OfEvents(events, torch.arange(7), unsaid=0.25)
    streams = key(5, 4000)
    drawn, labels = draw(streams), draw.labels_of(streams)
    said = labels >= 0
    assert torch.equal(drawn[said, 0].long(), labels[said])
    share = float(said.double().mean())
    assert abs(share - 0.75) < 5 * (0.25 * 0.75 / 4000) ** 0.5
    counts = torch.bincount(drawn[:, 0].long(), minlength=7) / 4000
    assert float((counts - 1 / 7).abs().max()) < 5 * (6 / 49 / 4000) ** 0.5
    with pytest.raises(ValueError, match="7 events need as many labels, got 3"):
        OfEvents(events, torch.arange(3))
    with pytest.raises(ValueError, match="no events to draw from"):
        OfEvents(events[:0])


def test_levels_are_cut_to_those_the_teacher_knows():
    model = points()
    config = within(model, Consistency(low=0.001, high=90.0))
    assert (config.low, config.high) == model.span
    levels = within(model, MMDFinetune(levels=(90.0, 1.0, 0.1, 0.0))).levels
    assert levels == pytest.approx((40.0, 2.0, 0.1, 0.0))


def test_what_makes_no_student_is_refused():
    draw = OfEvents(torch.zeros(4, 2))
    network = build(PointsConfig(width=8, depth=1, beside_channels=2))
    with pytest.raises(ValueError, match="restore degraded events cannot be distilled"):
        distilled(EventModel(network, EDM(), (2,)), draw, Consistency())

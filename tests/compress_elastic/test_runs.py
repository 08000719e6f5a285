"""Elastic runs, from text and from a model: resumable, and what they leave can be cut and used."""

import json

import pytest
import tiny
import torch

from unison import checkpoints
from unison.compress.elastic import Choice, Elastic, best_within, cut, markdown, stated
from unison.evaluate import likelihood
from unison.models import Transformer
from unison.recipes.elastic import ElasticRun, train_elastic
from unison.recipes.run import Place
from unison.scale.private.config import Privacy
from unison.train import Train

SETTINGS = Elastic((0.5, 1.0), (0.5, 1.0), (0.5, 1.0), sampling="struggling", levels=3)


def _run(text, out, *, cut_at: int | None = None, train: Train | None = None, **changes):
    config = ElasticRun(train or tiny.config(model={"depth": 2}), SETTINGS)
    observe = () if cut_at is None else (tiny.cut_after(cut_at),)
    base = changes.pop("base", None)
    place = Place(out, device="cpu", **changes)
    return train_elastic(config, text, place, base=base, observe=observe)


def test_a_run_cut_off_anywhere_ends_bit_for_bit_as_if_never_cut(tmp_path):
    text, whole, pieces = [tiny.corpus(tmp_path)], tmp_path / "whole", tmp_path / "pieces"
    _run(text, whole)
    for step in (4, 7, 10):
        with pytest.raises(tiny.Cut):
            _run(text, pieces, cut_at=step, resume=True)
    _run(text, pieces, resume=True)
    tiny.assert_same(whole, pieces)


def test_what_a_run_leaves_says_what_it_holds_and_every_network_is_a_model(tmp_path):
    text = [tiny.corpus(tmp_path)]
    held = _run(text, tmp_path / "large")
    model = checkpoints.load(tmp_path / "large")
    space = stated(model)
    assert [row.choice for row in held.rows] == list(space.choices)
    assert len(held.rows) == 8
    assert held.rows[-1].above.value == 0
    for row in held.rows[::3]:
        small = cut(model, row.choice)
        checkpoints.save(small, tmp_path / "small")
        loaded = checkpoints.load(tmp_path / "small")
        assert isinstance(loaded.network, Transformer)
        assert sum(w.numel() for w in loaded.network.parameters()) == row.parameters
    written = json.loads((tmp_path / "large" / "elastic.json").read_text())
    assert [tuple(Choice(r["depth"], r["heads"], r["mlp"])) for r in written] == [
        tuple(row.choice) for row in held.rows
    ]
    assert (tmp_path / "large" / "elastic.md").read_text() == markdown(held.rows)


def test_a_table_scores_each_network_as_it_would_be_scored_alone(tmp_path):
    held = _run([tiny.corpus(tmp_path)], tmp_path / "large")
    model = checkpoints.load(tmp_path / "large")
    config = tiny.config(model={"depth": 2})
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.process.vocab_size, (6, 16), generator=generator)
    text = (tokens, torch.ones_like(tokens, dtype=torch.bool))
    from unison.compress import elastic

    rows = elastic.table(model, stated(model), text, seed=3, batch_size=config.batch_size)
    small = cut(model, rows[2].choice)
    alone = likelihood.per_token(
        likelihood.score(small.process, small.network, text, seed=3, batch_size=6)
    )
    assert rows[2].loss.value == pytest.approx(alone.value, rel=1e-5)
    whole = rows[-1].loss.value
    assert rows[2].above.value == pytest.approx(alone.value - whole, rel=1e-3, abs=1e-6)
    assert best_within(rows, rows[3].flops) == min(rows[:4], key=lambda row: row.loss.value)
    with pytest.raises(ValueError, match="no network takes 1 operations"):
        best_within(rows, 1.0)
    assert len(held.rows) == len(rows)


def test_a_trained_model_becomes_elastic_and_keeps_its_shape_and_tokens(tmp_path):
    text = tiny.corpus(tmp_path)
    tiny.run(tiny.config(model={"depth": 2}), text, tmp_path / "base")
    held = _run([], tmp_path / "large", base=tmp_path / "base", train=tiny.config(steps=3))
    before, after = (checkpoints.load(tmp_path / name) for name in ("base", "large"))
    assert after.network.config == before.network.config
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint
    assert after.notes["train"] == before.notes["train"]
    assert held.finished.steps == 3
    assert len(stated(after).choices) == len(held.rows)


@pytest.mark.parametrize(
    ("train", "match"),
    [
        (tiny.config("mdlm", model={"self_conditioning": True}), "tokens alone"),
        (tiny.config("mdlm", privacy=Privacy(noise=1.0)), "not with privacy"),
        (tiny.config("mdlm", compile="on"), "leave compile off"),
    ],
)
def test_runs_that_cannot_be_elastic_are_refused_before_they_begin(tmp_path, train, match):
    with pytest.raises(ValueError, match=match):
        _run([tiny.corpus(tmp_path)], tmp_path / "large", train=train)
    assert not (tmp_path / "large").exists()


def test_a_model_of_another_process_is_refused(tmp_path):
    tiny.run(tiny.config("mdlm"), tiny.corpus(tmp_path), tmp_path / "base")
    with pytest.raises(ValueError, match="this one is absorbing"):
        _run([], tmp_path / "large", base=tmp_path / "base", train=tiny.config(steps=3))


def test_a_model_that_holds_no_others_says_so():
    with pytest.raises(ValueError, match="does not hold others"):
        stated(tiny.model())

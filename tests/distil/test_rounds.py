"""Rounds: the gap doubles, the teacher becomes the student, and a cut-off run repeats both."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest
import tiny
import torch
from safetensors.torch import load_file

import unison
from unison.cli.main import main
from unison.distil import ConsistencyDistillation, Distil, SelfDistillation, Taught
from unison.distil import run as distillation
from unison.objectives import Batch
from unison.prob import rng
from unison.prob.rng import Key
from unison.recipes.recipe import with_method
from unison.recipes.run import Place, distil
from unison.train import Data, TrainError, checkpoint, log, prepare

METHODS = {
    "dcd": ("duo", ConsistencyDistillation()),
    "sdtt": ("mdlm", SelfDistillation()),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    text = tiny.corpus(folder)
    for family in ("duo", "mdlm", "ar"):
        tiny.run(tiny.config(family, steps=3, seed=3), text, folder / family)
    return folder


def teach(config, base, out, cut=None, **place):
    observe = () if cut is None else (tiny.cut_after(cut),)
    return distil(config, base, Place(out, device="cpu", **place), observe=observe)


@pytest.mark.parametrize("name", METHODS)
def test_a_distillation_cut_off_around_its_rounds_ends_bit_for_bit_the_same(name, bases, tmp_path):
    family, method = METHODS[name]
    settings = tiny.distillation(method=method)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    teach(settings, bases / family, whole)
    # Rounds begin at 3 and 6; saved states are those of the step before each cut.
    for cut in (2, 3, 4, 5, 7, 9):
        with pytest.raises(tiny.Cut):
            teach(settings, bases / family, pieces, cut, resume=True)
    done = teach(settings, bases / family, pieces, resume=True)
    tiny.assert_same(whole, pieces)
    assert done.steps == 9


@pytest.mark.parametrize("name", METHODS)
def test_the_student_learns_and_is_a_model_of_its_own(name, bases, tmp_path):
    family, method = METHODS[name]
    teach(tiny.distillation(method=method, steps=5), bases / family, tmp_path / "out")
    student, base = unison.load(tmp_path / "out", "cpu"), unison.load(bases / family, "cpu")
    assert student.process == base.process
    assert student.tokenizer == base.tokenizer
    assert student.defaults.steps == 5
    moved = [
        bool((a != b).any())
        for a, b in zip(student.network.parameters(), base.network.parameters(), strict=True)
    ]
    assert any(moved)
    assert [sample.nfe for sample in unison.generate(student, num=2)] == [5, 5]


@dataclass(frozen=True)
class Recording:
    """Writes down what each lesson looked like."""

    seen: list
    process: ClassVar[str] = "uniform"

    def losses(self, process, lesson, batch, key):
        same = all(
            torch.equal(a, b)
            for a, b in zip(lesson.student.parameters(), lesson.teacher.parameters(), strict=True)
        )
        self.seen.append((key.step, lesson.gap, same))
        logits = lesson.student(batch.tokens, torch.ones(len(batch.tokens)))
        return logits.square().sum(-1)


def test_the_gap_doubles_and_the_teacher_is_refreshed_at_the_start_of_each_round(bases, tmp_path):
    seen = []
    settings = tiny.distillation(method=Recording(seen), eval_every=100)
    teach(settings, bases / "duo", tmp_path / "out")
    assert seen == [
        (step, 2 ** (step // 3) / 16, step % 3 == 0)  # equal only until the student moves
        for step in range(9)
    ]


def test_the_refreshed_teacher_is_the_raw_student_and_the_result_its_average(bases, tmp_path):
    settings = tiny.distillation(rounds=2, ema=0.5)
    teach(settings, bases / "duo", tmp_path / "out")
    base = unison.load(bases / "duo", "cpu")
    corpus = distillation.corpus_of(base, Data(split="blank"), [_text(base)], bases / "duo")
    prepared, refresh = distillation.prepare(settings, base, corpus)
    tiny.randomise(prepared.network)
    teacher = prepared.frozen["teacher"]
    before = [w.clone() for w in teacher.parameters()]
    for step in (1, 2, 4):
        refresh(step)
        assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    refresh(3)
    student = prepared.network.parameters()
    assert all(torch.equal(a, b) for a, b in zip(student, teacher.parameters(), strict=True))
    assert not any(w.requires_grad for w in teacher.parameters())
    assert not teacher.training


def _text(base):
    return base.notes["text"][0]


def test_a_distillation_holds_out_what_its_base_held_out(bases, tmp_path):
    base = unison.load(bases / "duo", "cpu")
    assert base.notes["train"]["seed"] == 3
    data = Data(split="blank")
    student = distillation.corpus_of(base, data, [_text(base)], bases / "duo")
    trained = prepare(tiny.config("duo", seed=3), [_text(base)], torch.device("cpu")).corpus
    assert student.valid.tokens.tolist() == trained.valid.tokens.tolist()
    other = prepare(tiny.config("duo", seed=4), [_text(base)], torch.device("cpu")).corpus
    assert other.valid.tokens.tolist() != trained.valid.tokens.tolist(), "the seed must matter here"


def test_the_taught_objective_adds_up_the_methods_losses_over_valid_positions():
    made = tiny.model()
    taught = Taught(ConsistencyDistillation(), tiny.model(strength=2.0).network, 0.25, 10)
    tokens = torch.arange(48).reshape(3, 16) % 40
    valid = torch.arange(16)[None] < torch.tensor([16, 9, 1])[:, None]
    batch = Batch(tokens, torch.tensor([0.1, 0.4, 0.7]).double(), valid)
    key = Key(rng.rows(0, 0, 3), 25)
    with torch.no_grad():
        losses = taught.losses(made.process, made.network, batch, key)
        total, count = taught(made.process, made.network, batch, key)
    assert int(count) == 26
    assert float(total) == pytest.approx(float(losses[valid].sum()), rel=1e-6)


@pytest.mark.parametrize(
    ("family", "method"), [("duo", SelfDistillation()), ("mdlm", ConsistencyDistillation())]
)
def test_a_method_for_another_process_is_refused_and_nothing_is_written(
    family, method, bases, tmp_path
):
    with pytest.raises(TrainError, match=r"distils models of the \w+ process, and this one is"):
        teach(tiny.distillation(method=method), bases / family, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_gets_the_method_of_its_process_and_an_autoregressive_one_has_none():
    assert isinstance(with_method(Distil(), "absorbing").method, SelfDistillation)
    assert isinstance(with_method(Distil(), "uniform").method, ConsistencyDistillation)
    with pytest.raises(ValueError, match="no distillation method for the sequential process"):
        with_method(Distil(), "sequential")


def test_distilling_an_autoregressive_model_is_one_line_and_exit_code_2(bases, tmp_path, capsys):
    assert main(["distil", str(bases / "ar"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said == "unison: error: no distillation method for the sequential process.\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 5, "first_gap": 1 / 8}, r"must stay in \(0, 1\], got 2\.0 in the last round"),
        ({"first_gap": 0.0}, r"must stay in \(0, 1\]"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_rounds_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Distil(**changes)


def test_settings_that_only_the_loop_can_check_are_refused_before_anything_is_written(
    bases, tmp_path
):
    settings = dataclasses.replace(tiny.distillation(), ema=2.0)
    with pytest.raises(ValueError, match=r"ema must be in \[0, 1\)"):
        teach(settings, bases / "duo", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_teacher_is_saved_with_the_run(bases, tmp_path):
    teach(tiny.distillation(), bases / "duo", tmp_path / "out")
    newest = checkpoint.existing(tmp_path / "out" / "checkpoints")[-1]
    assert newest.name == "step-00000009"
    assert len(log.read(tmp_path / "out")) == 9

    names = load_file(newest / "state.safetensors").keys()
    assert {n.partition("/")[0] for n in names} == {"network", "teacher", "average", "optimizer"}

"""What a run leaves on disk: the newest states, the best model, a log, and no surprises."""

import errno
import json
import math
import os
from dataclasses import dataclass
from typing import ClassVar

import pytest
import tiny
import torch

import unison
from unison import box, files
from unison.evaluate import likelihood
from unison.objectives import Duo, Needs
from unison.recipes import run as recipe_run
from unison.train import TrainError, log, prepare
from unison.types import Nats


@dataclass(frozen=True)
class Breaking:
    """The uniform-state bound, NaN at some steps."""

    process: ClassVar[str] = "uniform"
    needs: ClassVar[Needs] = Duo.needs
    broken: tuple[int, ...] = ()

    def __call__(self, process, network, batch, key):
        total, count = Duo()(process, network, batch, key)
        return Nats(total * (math.nan if key.step in self.broken else 1.0), count)

    def losses(self, process, network, batch, key):
        return Duo().losses(process, network, batch, key)


def steps_kept(out):
    return sorted(int(p.name[5:]) for p in (out / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(("keep", "left"), [(1, [10]), (2, [9, 10]), (9, [3, 6, 9, 10])])
def test_the_newest_checkpoints_stay_and_the_last_step_is_one_of_them(keep, left, tmp_path):
    out = tmp_path / "out"
    tiny.run(tiny.config(keep=keep), tiny.corpus(tmp_path), out)
    assert steps_kept(out) == left


def test_the_best_model_stays_and_is_the_one_with_the_lowest_held_out_loss(tmp_path):
    # A rate far too high: the loss gets worse after a while, so that best is not last.
    settings = tiny.config(
        "mdlm",
        optimizer=tiny.Optimizer(lr=0.3, warmup=4),
        steps=12,
        eval_every=1,
        eval_blocks=64,
        ema=0.0,
    )
    text, out = tiny.corpus(tmp_path), tmp_path / "out"
    tiny.run(settings, text, out)
    held_out = [line["held_out"]["value"] for line in log.read(out)]
    assert min(held_out) < held_out[-1]
    best = unison.load(out / "checkpoints" / "best")
    prepared = prepare(settings, [text], torch.device("cpu"))
    blocks = likelihood.split_blocks(prepared.corpus.valid, 16, 64)
    scored = likelihood.score(best.process, best.network, blocks, batch_size=4)
    assert likelihood.per_token(scored).value == pytest.approx(min(held_out), rel=1e-9)


def test_the_result_is_the_averaged_model_that_was_scored_last(tmp_path):
    text, out = tiny.corpus(tmp_path), tmp_path / "out"
    done = tiny.run(tiny.config(), text, out)
    made = unison.load(out)
    prepared = prepare(tiny.config(), [text], torch.device("cpu"))
    blocks = likelihood.split_blocks(prepared.corpus.valid, 16, 4)
    scored = likelihood.per_token(
        likelihood.score(made.process, made.network, blocks, batch_size=4)
    )
    assert scored.value == pytest.approx(done.held_out.value, rel=1e-9)
    valid = prepared.corpus.valid
    per_byte = valid.num_tokens / (valid.num_bytes * math.log(2))
    assert done.bits_per_byte.value == pytest.approx(done.held_out.value * per_byte, rel=1e-12)


def test_a_step_without_a_finite_gradient_is_counted_and_logged_as_valid_json(tmp_path):
    out = tmp_path / "out"
    done = tiny.run(tiny.config(objective=Breaking((2, 5, 6))), tiny.corpus(tmp_path), out)
    assert (done.steps, done.skipped) == (10, 3)
    lines = (out / "log.jsonl").read_text().splitlines()
    strict = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [line["step"] for line in strict if line["skipped"]] == [3, 6, 7]
    assert [line["step"] for line in strict if line["loss"] is None] == [3, 6, 7]
    assert [line["step"] for line in log.read(out) if math.isnan(line["loss"])] == [3, 6, 7]


def test_too_many_bad_steps_in_a_row_stop_the_run_and_leave_its_checkpoints_whole(tmp_path):
    settings = tiny.config(objective=Breaking((4, 5, 6, 7)), max_skipped=3, save_every=1, keep=3)
    text, out = tiny.corpus(tmp_path), tmp_path / "out"
    with pytest.raises(TrainError, match=r"stopped at step 6: 3 steps in a row .* lower optimizer"):
        tiny.run(settings, text, out)
    assert steps_kept(out) == [4, 5, 6]
    assert not (out / "config.json").exists(), "an unfinished run must not look like a model"
    # Resuming counts on where the run stood, so it stops at the same step again.
    with pytest.raises(TrainError, match="stopped at step 6"):
        tiny.run(settings, text, out, resume=True)
    assert steps_kept(out) == [4, 5, 6]


def full_disk(monkeypatch, after):
    """Let every write fail with ENOSPC once ``after`` files were synced."""
    synced, real = [0], os.fsync

    def fsync(handle):
        synced[0] += 1
        if synced[0] > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8, 11, 13, 21, 24, 31])
def test_a_full_disk_is_reported_and_the_run_goes_on_exactly_once_there_is_room(after, tmp_path):
    settings = tiny.config(steps=4, eval_every=2, save_every=2)
    text, whole, out = tiny.corpus(tmp_path), tmp_path / "whole", tmp_path / "out"
    tiny.run(settings, text, whole)
    with pytest.MonkeyPatch.context() as patch:
        full_disk(patch, after)
        with pytest.raises(OSError, match="No space left on device"):
            tiny.run(settings, text, out)
    partial = [p for p in out.rglob("*") if p.name.endswith(files.PARTIAL)]
    assert not partial, "a write that failed left a part of itself"
    tiny.run(settings, text, out, resume=True)
    tiny.assert_same(whole, out)


DAMAGE = {
    "truncated state": lambda path: os.truncate(path / "state.safetensors", 500),
    "empty state": lambda path: (path / "state.safetensors").write_bytes(b""),
    "missing state": lambda path: (path / "state.safetensors").unlink(),
    "truncated meta": lambda path: os.truncate(path / "state.json", 9),
    "missing meta": lambda path: (path / "state.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_resumes_exactly(damage, tmp_path):
    settings, text, out = tiny.config(), tiny.corpus(tmp_path), tmp_path / "out"
    tiny.run(settings, text, tmp_path / "whole")
    with pytest.raises(tiny.Cut):
        tiny.run(settings, text, out, cut=8)
    newest = out / "checkpoints" / "step-00000006"
    DAMAGE[damage](newest)
    with pytest.raises(TrainError, match=r"step-00000006 is damaged .* delete that folder"):
        tiny.run(settings, text, out, resume=True)
    assert steps_kept(out) == [3, 6]
    for part in newest.iterdir():
        part.unlink()
    newest.rmdir()
    tiny.run(settings, text, out, resume=True)
    tiny.assert_same(tmp_path / "whole", out)


def test_what_a_killed_writer_left_is_swept_and_nothing_else_is(tmp_path):
    settings, text, out = tiny.config(), tiny.corpus(tmp_path), tmp_path / "out"
    tiny.run(settings, text, out)
    stale = [
        out / ".model.safetensors.abc.partial",
        out / "checkpoints" / ".step-00000012.abc.partial",
        out / "checkpoints" / "..best.fresh.partial.abc.partial",
        out / "checkpoints" / ".best.aside",
    ]
    for folder in stale:
        folder.mkdir()
        (folder / "half").write_text("x")
    mine = out / ".gitignore"
    mine.write_text("*")
    before = tiny.left_behind(out)
    tiny.run(settings, text, out, resume=True)
    assert not any(folder.exists() for folder in stale)
    after = tiny.left_behind(out)
    assert mine.exists()
    assert after == {k: v for k, v in before.items() if k in after}


def test_a_folder_that_is_not_a_run_is_never_taken_over(tmp_path):
    text, out = tiny.corpus(tmp_path), tmp_path / "out"
    (out / ".git").mkdir(parents=True)
    (out / ".git" / "HEAD").write_text("precious")
    for resume in (False, True):
        with pytest.raises(TrainError, match=r"is not empty|is not a run"):
            tiny.run(tiny.config(), text, out, resume=resume)
    assert (out / ".git" / "HEAD").read_text() == "precious"
    assert sorted(p.name for p in out.iterdir()) == [".git"]


def test_a_best_model_that_stepped_aside_when_the_run_was_killed_comes_back(tmp_path):
    settings, text, out = tiny.config(), tiny.corpus(tmp_path), tmp_path / "out"
    tiny.run(settings, text, out)
    whole = tiny.left_behind(out)
    (out / "checkpoints" / "best").rename(out / "checkpoints" / ".best.aside")
    tiny.run(settings, text, out, resume=True)
    assert tiny.left_behind(out) == whole


CHANGES = {
    "seed": {"seed": 1},
    "optimizer": {"optimizer": tiny.Optimizer(lr=1e-3)},
    "batch_size": {"batch_size": 5},
    "model": {"model": {"hidden": 32}},
    "objective": {"objective": Duo(t_min=0.01)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_resuming_with_settings_that_change_the_numbers_is_refused_and_named(name, tmp_path):
    text, out = tiny.corpus(tmp_path), tmp_path / "out"
    tiny.run(tiny.config(), text, out)
    before = tiny.left_behind(out)
    with pytest.raises(TrainError, match=rf"started with other settings \({name}\)"):
        tiny.run(tiny.config(**CHANGES[name]), text, out, resume=True)
    assert tiny.left_behind(out) == before


def test_a_finished_run_can_be_made_longer_and_goes_on_from_its_end(tmp_path):
    text = tiny.corpus(tmp_path)
    constant = tiny.Optimizer(lr=1e-2, warmup=3)
    out, whole = tmp_path / "out", tmp_path / "whole"
    tiny.run(tiny.config(optimizer=constant, steps=8), text, out)
    tiny.run(tiny.config(optimizer=constant, steps=12), text, out, resume=True)
    tiny.run(tiny.config(optimizer=constant, steps=12), text, whole)
    same = (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert same
    assert [line["step"] for line in log.read(out)] == list(range(1, 13))


def test_infinite_settings_are_written_as_valid_json_and_resume(tmp_path):
    text, out = tiny.corpus(tmp_path), tmp_path / "out"
    settings = tiny.config(steps=2, optimizer=tiny.Optimizer(clip=math.inf))
    tiny.run(settings, text, out)
    manifest = json.loads((out / "run.json").read_text(), parse_constant=pytest.fail)
    assert manifest["config"]["optimizer"]["clip"] == "inf"
    assert tiny.run(settings, text, out, resume=True).steps == 2


def test_a_run_says_what_made_it(tmp_path):
    text, out = tiny.corpus(tmp_path), tmp_path / "out"
    tiny.run(tiny.config(steps=1, seed=5), text, out)
    manifest = json.loads((out / "run.json").read_text())
    assert manifest["verb"] == "train"
    assert manifest["text"] == [text]
    assert manifest["config"]["seed"] == 5
    assert manifest["config"]["objective"]["kind"] == "Duo"
    assert manifest["versions"]["torch"] == torch.__version__
    assert {"platform", "threads", "gpus"} <= manifest["machine"].keys()


def test_the_newest_finished_run_is_the_one_that_finished_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe_run.unnamed() == box.DEFAULT
    text = tiny.corpus(tmp_path)
    for name, hidden in (("b", 32), ("a", 16)):
        tiny.run(tiny.config(steps=1, model={"hidden": hidden}), text, tmp_path / "runs" / name)
    with pytest.raises(tiny.Cut):
        tiny.run(tiny.config(), text, tmp_path / "runs" / "c", cut=5)
    os.utime(tmp_path / "runs" / "b" / "config.json", (1, 1))
    assert recipe_run.load().network.config.hidden == 16
    os.utime(tmp_path / "runs" / "a" / "config.json", (0, 0))
    assert recipe_run.load().network.config.hidden == 32

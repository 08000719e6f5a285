"""A run killed by SIGKILL at any moment and started again ends as if nothing had happened."""

import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import count

import killed
import pytest
import tiny

from unison.cli.main import main

SETTINGS = tiny.config(eval_every=2, save_every=2, steps=6)


def job(text, out):
    tiny.run(SETTINGS, text, out, resume=True)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return tiny.corpus(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    job(text, out)
    return out


@pytest.mark.parametrize(
    "draw", [0, 1, *(pytest.param(draw, marks=pytest.mark.slow) for draw in (2, 3, 4))]
)
def test_a_run_killed_again_and_again_ends_bit_for_bit_as_if_never_killed(
    draw, text, whole, tmp_path
):
    # A run makes about 200 changes to the disk, the first checkpoint is whole after 59.
    out, moments = tmp_path / "out", random.Random(draw)
    for low, high in ((1, 20), (20, 60), (60, 120), (30, 70), (60, 100)):
        killed.run(job, text, out, die_at=moments.randint(low, high), below=out)
    assert killed.run(job, text, out, below=out)
    tiny.assert_same(whole, out)


@pytest.mark.slow
def test_there_is_no_change_to_the_disk_at_which_a_kill_is_not_undone_by_resuming(
    text, whole, tmp_path
):
    for moment in count(1):
        out = tmp_path / str(moment)
        if killed.run(job, text, out, die_at=moment, below=out):
            break
        killed.run(job, text, out, below=out)
        tiny.assert_same(whole, out)
    assert moment > 150


COMMAND = (
    "train", "--steps", "160", "--save-every", "10", "--eval-every", "45", "--log-every", "1",
    "--model.hidden", "16", "--model.depth", "1", "--model.max-length", "16", "--batch-size", "4",
    "--data.split", "blank", "--device", "cpu", "--resume",
)  # fmt: skip


FLAGS = (
    "train", "--steps", "10", "--save-every", "2", "--eval-every", "20", "--eval-blocks", "4",
    "--keep", "9", "--log-every", "1", "--batch-size", "4", "--ema", "0.9", "--resume",
    "--objective.curriculum-steps", "0", "--optimizer.lr", "1e-2", "--optimizer.warmup", "3",
    "--optimizer.schedule", "cosine", "--data.split", "blank", "--data.tokenizer.kind", "char",
    "--model.hidden", "16", "--model.depth", "1", "--model.heads", "2", "--model.max-length", "16",
    "--model.cond-dim", "8", "--device", "cpu",
)  # fmt: skip


def command(*arguments):
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "unison", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def say(*arguments):
    """Run the command line where this is."""
    assert main([str(argument) for argument in arguments]) == 0


def test_the_command_line_killed_and_repeated_ends_bit_for_bit_the_same(text, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    say(*FLAGS, "--text", text, "--out", whole)
    again = (say, *FLAGS, "--text", text, "--out", out)
    assert not killed.run(*again, die_at=45, below=out)
    assert 2 < logged(out) < 10, "after the first checkpoint and before the end"
    assert killed.run(*again, below=out)
    tiny.assert_same(whole, out)


@pytest.mark.slow
def test_the_command_line_killed_from_outside_and_repeated_ends_bit_for_bit_the_same(
    text, tmp_path
):
    whole, out = tmp_path / "whole", tmp_path / "out"
    uncut = command(*COMMAND, "--text", text, "--out", whole)
    for lines in (25, None):  # once somewhere after the second checkpoint, then not again
        process = command(*COMMAND, "--text", text, "--out", out)
        while lines and process.poll() is None and logged(out) < lines:
            time.sleep(0.001)
        if lines:
            process.kill()
        _, err = process.communicate(timeout=120)
        assert process.returncode == (-signal.SIGKILL if lines else 0), err
        assert not lines or lines <= logged(out) < 160
    uncut.communicate(timeout=120)
    assert uncut.returncode == 0
    tiny.assert_same(whole, out)


def logged(out):
    log = out / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def say_where_files_end(size, told, *arguments):
    """Run the command line where no file may be longer; write down its exit code and stderr."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    with contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(argument) for argument in arguments])
    told.write_text(json.dumps([code, err.getvalue()]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs resource limits")
def test_a_disk_that_is_full_while_saving_is_one_line_exit_code_2_and_costs_nothing(text, tmp_path):
    whole, out, told = (tmp_path / name for name in ("whole", "out", "told"))
    settings = tiny.config(save_every=2, eval_every=20, keep=9)
    tiny.run(settings, text, whole)
    with pytest.raises(tiny.Cut):
        tiny.run(settings, text, out, cut=5)
    before = tiny.left_behind(out / "checkpoints")
    size = (out / "checkpoints" / "step-00000002" / "state.safetensors").stat().st_size
    arguments = (*FLAGS, "--text", text, "--out", out)
    assert killed.run(say_where_files_end, size // 2, told, *arguments, below=out)
    code, err = json.loads(told.read_text())
    assert code == 2, err
    assert err.count("\n") == 1
    assert "step-00000006 could not be written (" in err
    assert "File too large" in err
    assert tiny.left_behind(out / "checkpoints") == before
    tiny.run(settings, text, out, resume=True)
    tiny.assert_same(whole, out)

"""A run killed by SIGKILL at any moment and started again ends as if nothing had happened."""

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


@pytest.mark.parametrize("draw", range(5))
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

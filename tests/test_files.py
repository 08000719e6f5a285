"""A file or folder appears whole or not at all, whatever goes wrong while it is written."""

import errno
import json
import math
import os

import pytest
import torch
from safetensors.torch import load_file

from unison import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def failing(path):
    (path if path.is_dir() else path.parent).joinpath("half").write_text("x")
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(path):
    raise KeyboardInterrupt


WRITERS = {
    "file": files.write_atomically,
    "folder": files.write_folder,
    "replaced folder": files.replace_folder,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_write_that_fails_says_where_and_why_and_leaves_nothing_behind(kind, tmp_path):
    with pytest.raises(files.NotWrittenError) as caught:
        WRITERS[kind](tmp_path / "it", failing)
    assert str(caught.value) == (
        f"{tmp_path / 'it'} could not be written (No space left on device); "
        "nothing was overwritten."
    )
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(("write", "error"), [(failing, OSError), (interrupted, KeyboardInterrupt)])
def test_what_was_there_before_outlives_a_failed_or_interrupted_write(kind, write, error, tmp_path):
    path = tmp_path / "it"
    if kind == "file":
        path.write_text("old")
        WRITERS[kind](path, lambda temporary: temporary.write_text("older"))
        path.write_text("old")
    else:
        path.mkdir()
        (path / "content").write_text("old")
    with pytest.raises(error):
        WRITERS[kind](path, write)
    files.sweep(tmp_path)
    assert names(tmp_path) == ["it"]
    assert (path if kind == "file" else path / "content").read_text() == "old"


def test_a_replaced_folder_holds_the_new_files_only(tmp_path):
    path = tmp_path / "it"
    for number in range(3):
        files.replace_folder(path, lambda t, n=number: (t / f"{n}").write_text(str(n)) and None)
        assert names(path) == [str(number)]
        assert names(tmp_path) == ["it"]


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_folder_whose_replacement_cannot_be_renamed_comes_back(moment, tmp_path, monkeypatch):
    path = tmp_path / "it"
    files.replace_folder(path, lambda t: (t / "old").write_text("") and None)
    renames, real = [0], os.rename

    def rename(*arguments, **keywords):
        renames[0] += 1
        if renames[0] == moment:
            raise OSError(errno.EIO, "Input/output error")
        real(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(files.NotWrittenError, match="Input/output"):
            files.replace_folder(path, lambda t: (t / "new").write_text("") and None)
    assert names(tmp_path) == ["it"]
    assert names(path) == ["old"]


def test_sweeping_clears_what_writers_leave_and_touches_nothing_else(tmp_path):
    for name in (".git", ".note.old", "best", ".step-1.x7f.partial", ".best.aside", ".gone.aside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    files.sweep(tmp_path)
    assert names(tmp_path) == [".git", ".note.old", "best", "gone"]
    assert (tmp_path / "best" / "file").read_text() == "best"
    assert (tmp_path / "gone" / "file").read_text() == ".gone.aside"


def test_tensors_survive_the_round_trip_also_when_they_are_not_contiguous(tmp_path):
    tensor = torch.arange(12.0).reshape(3, 4).T
    files.write_tensors(tmp_path / "a.safetensors", {"x": tensor, "n": torch.tensor(3)})
    back = load_file(tmp_path / "a.safetensors")
    assert torch.equal(back["x"], tensor)
    assert int(back["n"]) == 3
    assert names(tmp_path) == ["a.safetensors"]
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_become_null(value):
    nested = {"a": [value, 1.5], "b": {"c": (value, "NaN")}, "n": 3, "ok": True, "none": None}
    text = files.to_json(nested)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [None, 1.5], "b": {"c": [None, "NaN"]}, "n": 3, "ok": True, "none": None,
    }  # fmt: skip
    assert math.isnan(files.number(None))
    assert files.number(1.5) == 1.5


def test_text_is_utf8_and_json_keeps_its_order(tmp_path):
    files.write_json(tmp_path / "a.json", {"z": "é", "a": 1})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "z": "é",\n  "a": 1\n}\n'.encode()

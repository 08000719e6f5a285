"""Which folder holds a run, is it free, and does what is there belong to this run?"""

import dataclasses
import json
import math
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from unison import files
from unison.scale.elastic import launched
from unison.train.config import TrainError

RUN_FILE = "run.json"
FORMAT_VERSION = 1
_MAY_CHANGE = ("steps", "save_every", "keep", "log_every", "tensorboard", "scale")


def claim(folder: Path, resume: bool, verb: str, config: Any, sources: list[str]) -> None:
    """Make ``folder`` this run's, or check that it already is.

    Args:
        folder: Where the run lives.
        resume: Go on with what is there; without it the folder must be new or empty.
        verb: ``train`` or ``distil``.
        config: The run's configuration, a dataclass.
        sources: Where the text comes from.

    Raises:
        TrainError: The folder holds something else; nothing was changed.
    """
    if folder.exists() and not folder.is_dir():
        raise TrainError(f"{folder} is a file; give --out the name of a folder.")
    occupied = folder.exists() and any(folder.iterdir())
    if occupied and not resume:
        raise TrainError(
            f"{folder} is not empty; use --resume to go on with that run, or another --out."
        )
    if occupied and (folder / RUN_FILE).exists():
        _compare(folder, verb, config, sources)
        return
    if occupied and any(path.suffix != files.PARTIAL for path in folder.iterdir()):
        raise TrainError(f"{folder} holds no {RUN_FILE}, so it is not a run; use another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / RUN_FILE, manifest(verb, config, sources))


def manifest(verb: str, config: Any, sources: list[str]) -> dict[str, Any]:
    """Return what decides the numbers of a run: configuration, versions, machine, git state."""
    return {
        "format_version": FORMAT_VERSION,
        "verb": verb,
        "text": sources,
        "config": plain(config),
        **launched.facts(),
        **environment(),
    }


def environment() -> dict[str, Any]:
    """Return versions, machine and git state."""
    packages = ("unison", "torch", "numpy", "scipy", "tokenizers", "safetensors")
    return {
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in packages},
        "machine": {
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "git": git_state(),
    }


def git_state() -> dict[str, Any] | None:
    """Return commit and cleanliness of the working directory's repository, if it is one."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "clean": not _git("status", "--porcelain")}
    except (OSError, subprocess.SubprocessError):
        return None


def plain(value: Any) -> Any:
    """Return a configuration as JSON values; a dataclass carries its class name.

    JSON has no infinity and no NaN: they are written as text.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    nameless = isinstance(value, float) and not math.isfinite(value)
    return str(value) if nameless or isinstance(value, Path) else value


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the content of a run's ``run.json``.

    Raises:
        TrainError: It is missing, damaged or newer than this version.
    """
    path = folder / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, _, _ = content["format_version"], content["config"], content["text"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainError(f"{path} cannot be read ({error}); this is not a unison run.") from None
    if version > FORMAT_VERSION:
        raise TrainError(f"{path} was written by a newer unison; upgrade to read it.")
    return content


def newest_finished(root: Path) -> Path | None:
    """Return the run under ``root`` that finished last, if one did."""
    finished = [path.parent for path in root.glob("**/config.json") if _is_result(path.parent)]
    return max(finished, key=lambda run: (run / "config.json").stat().st_mtime, default=None)


def _is_result(folder: Path) -> bool:
    return (folder / RUN_FILE).exists() and "checkpoints" not in folder.parts


def _compare(folder: Path, verb: str, config: Any, sources: list[str]) -> None:
    old = read_manifest(folder)
    new = manifest(verb, config, sources)
    if old.get("verb") != verb:
        raise TrainError(f"{folder} holds a {old.get('verb')} run; it cannot resume as {verb}.")
    fields = dataclasses.fields(config)  # a setting newer than the run was what it is by itself
    unsaid = {f.name: plain(f.default) for f in fields if f.default is not dataclasses.MISSING}
    before, after = {**unsaid, **old["config"]}, dict(new["config"])
    changed = [
        name
        for name in sorted({*before} | {*after})
        if name not in _MAY_CHANGE and before.get(name) != after.get(name)
    ]
    if old["text"] != new["text"]:
        changed.append("text")
    if changed:
        raise TrainError(
            f"{folder} was started with other settings ({', '.join(changed)}); resume with the "
            "same ones or start a new run with another --out."
        )


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()

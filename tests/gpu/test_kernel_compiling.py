"""Programs compile for the GPUs they are written for, on machines that have none."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_program_compiles_for_two_generations(tmp_path):
    """In a process of its own: in this one Triton may be interpreting."""
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed; it comes with CUDA builds of torch")
    apart = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    script = Path(__file__).with_name("compiling.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=apart)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["30"]

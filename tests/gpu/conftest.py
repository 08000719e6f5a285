"""Where do the programs of a GPU run? On one, or else in Triton's interpreter on the CPU."""

import sys
from importlib.util import find_spec

import pytest
import torch


@pytest.fixture(scope="session")
def interpreter():
    """Let Triton interpret: it decides when it is imported."""
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed; it comes with CUDA builds of torch")
    if torch.cuda.is_available():
        pytest.skip("the programs run on the GPU itself")
    with pytest.MonkeyPatch.context() as patch:
        if "triton" not in sys.modules:
            patch.setenv("TRITON_INTERPRET", "1")
        import triton

        if not triton.knobs.runtime.interpret:
            pytest.skip("Triton was imported to compile; run with TRITON_INTERPRET=1")
        yield


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), "cpu"])
def device(request):
    """A GPU, or a CPU that interprets."""
    if request.param == "cpu":
        request.getfixturevalue("interpreter")
    elif not torch.cuda.is_available() or find_spec("triton") is None:
        pytest.skip("needs CUDA and Triton")
    return torch.device(request.param)

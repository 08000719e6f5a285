"""Compile every program for GPUs that are not there; run by ``test_kernel_compiling``."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from unison.objectives.kernels import uniform_nelbo
from unison.prob.kernels import doubt, draw

ROW = {"stride": "i64", "size": "i32", "BLOCK": "constexpr"}
LOSS = {"ratio": "*fp64", "out": "*fp64"}
SLOPE = {"numbers": "*fp64", "ids": "*i64"}
DRAWN = {"u": "*fp64", "wanted": "*i1", "drawn": "*i64", "heat": "fp32", "top_p": "fp32"}
CHOICES = {"SOME": "constexpr", "NUCLEUS": "constexpr", "TILES": "constexpr"}
HOW = {"num_warps": 8, "enable_fp_fusion": False}


def compiled(program, kinds, constants, target):
    """Compile, for the arguments as the program orders them."""
    ordered = {name: kinds[name] for name in program.arg_names}
    source = ASTSource(fn=program, signature=ordered, constexprs={"BLOCK": 4096} | constants)
    return triton.compile(source, target=target, options=HOW)


def main():
    """Compile all, and say how many."""
    count = 0
    for capability in (80, 90):
        target = GPUTarget("cuda", capability, 32)
        for dtype in ("*fp32", "*bf16", "*fp16"):
            row = ROW | {"logits": dtype}
            both = {"SOME": True, "NUCLEUS": True, "TILES": 16}
            jobs = [
                (uniform_nelbo._sums, row | LOSS, {}),
                (uniform_nelbo._gradient, row | SLOPE | {"grad": dtype}, {}),
                (doubt._doubt, row | {"out": "*fp64"}, {}),
                (draw._draw, row | DRAWN | CHOICES, both),
                (draw._draw, row | DRAWN | CHOICES, {"SOME": False, "NUCLEUS": False, "TILES": 1}),
            ]
            for program, kinds, constants in jobs:
                assert "cubin" in compiled(program, kinds, constants, target).asm
                count += 1
    print(count)


if __name__ == "__main__":
    main()

"""A run that is cut off and started again ends exactly as one that never was."""

import pytest
import tiny

from unison.objectives import Duo
from unison.train import Optimizer

VARIANTS = {
    "duo": tiny.config(objective=Duo(curriculum_steps=5, tau=0.1, tau_end=0.01)),
    "mdlm": tiny.config("mdlm"),
    "ar": tiny.config("ar"),
    "muon": tiny.config(optimizer=Optimizer("muon", muon_lr=1e-2, warmup=2, schedule="linear")),
    "dropout": tiny.config(model={"dropout": 0.3}),
    "micro": tiny.config("mdlm", batch_size=4, micro_batch=3, model={"dropout": 0.1}),
    "no average": tiny.config(ema=0.0, model={"tied": True}),
    "another seed": tiny.config(seed=7, keep=1),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_cut_off_anywhere_and_resumed_ends_bit_for_bit_as_if_never_cut(variant, tmp_path):
    settings, text = VARIANTS[variant], tiny.corpus(tmp_path)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    tiny.run(settings, text, whole)
    for cut in (1, 4, 5, 10):  # before any save, after one, at an evaluation, at the end
        with pytest.raises(tiny.Cut):
            tiny.run(settings, text, pieces, cut=cut, resume=True)
    done = tiny.run(settings, text, pieces, resume=True)
    tiny.assert_same(whole, pieces)
    assert done.steps == 10

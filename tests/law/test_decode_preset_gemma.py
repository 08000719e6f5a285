"""Does the preset diffusion-gemma write what transformers' DiffusionGemma writes?

Through the restatement of its loop that ``models/test_diffusion_gemma_generate.py`` holds to
transformers itself, from the same uniforms, at the published temperatures.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_gemma
import torch
from oracle import diffusion_gemma as oracle
from tiny_gemma import CANVAS, V, source_of

from unison.decode import decode, start
from unison.decode.presets import PRESETS
from unison.decode.select import EntropyBound
from unison.decode.sight import SITE_REVISE, SITE_TARGET
from unison.decode.stop import Stable
from unison.denoising import RowDenoiser
from unison.models.formats import diffusion_gemma
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Uniform

pytest.importorskip("transformers", minversion="5.23")

PROMPTS = ([5, 9, 3, 17], [8], [30, 4, 4, 12, 6, 21, 11])


@pytest.fixture(scope="module")
def theirs() -> Any:
    return tiny_gemma.made()


@pytest.fixture(scope="module")
def network(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("gemma")
    theirs.save_pretrained(path)
    return diffusion_gemma.build(source_of(path), torch.float32)[0]


def written(theirs: Any, prompt: list[int], seed: torch.Tensor, settings: oracle.Settings):
    """The oracle's text, from the uniforms our driver and parts draw at their sites."""
    length, steps = len(prompt) + settings.canvases * CANVAS, -1

    def uniforms(what: str, canvas: int, step: int) -> torch.Tensor:
        nonlocal steps
        steps += what == "token"  # the first draw of every step; steps are counted over canvases
        site = {"start": rng.SITE_PRIOR, "token": SITE_TARGET, "noise": SITE_REVISE}[what]
        key = Key(seed, 0 if what == "start" else steps)
        first = len(prompt) + canvas * CANVAS
        return rng.uniform(key, site, length)[0, first : first + CANVAS]

    return oracle.write(theirs, prompt, settings, uniforms)


@pytest.mark.parametrize(
    "settings",
    [
        oracle.Settings(canvases=2, steps=6),
        oracle.Settings(canvases=2, steps=5, bound=2.0, confident=3.0),
        oracle.Settings(canvases=1, steps=8, bound=20.0, stable=2, confident=9.0),
        oracle.Settings(canvases=2, steps=4, bound=1.0, t_max=0.3, t_min=0.1),
    ],
    ids=str,
)
def test_diffusion_gemma_writes_what_transformers_writes(theirs, network, settings):
    """Rows of several prompts at once, ragged, each as transformers writes it alone."""
    preset = replace(
        PRESETS["diffusion-gemma"](),
        steps=settings.steps,
        block_length=CANVAS,
        select=EntropyBound(settings.bound),
        stop=Stable(settings.stable, settings.confident),
    )
    preset = replace(
        preset, temper=replace(preset.temper, temperature=settings.t_max, final=settings.t_min)
    )
    longest = max(map(len, PROMPTS)) + settings.canvases * CANVAS
    tokens = torch.zeros(len(PROMPTS), longest, dtype=torch.long)
    given, valid = torch.ones_like(tokens, dtype=torch.bool), torch.zeros_like(tokens).bool()
    for number, prompt in enumerate(PROMPTS):
        size = len(prompt) + settings.canvases * CANVAS
        tokens[number, : len(prompt)] = torch.tensor(prompt)
        given[number, len(prompt) : size] = False
        valid[number, :size] = True
    key, process = Key(rng.rows(1, 0, len(PROMPTS))), Uniform(V)
    canvas = start(process, tokens, given, key, valid)
    done = decode(preset, process, RowDenoiser(network, process, valid), canvas, key)
    for number, prompt in enumerate(PROMPTS):
        text, evaluations = written(theirs, prompt, key.seed[number : number + 1], settings)
        assert done.tokens[number, : len(text)].tolist() == text
        assert int(done.nfe[number]) == sum(evaluations)

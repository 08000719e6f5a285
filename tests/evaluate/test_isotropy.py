"""How evenly hidden states point, against a loop over pairs."""

import statistics

import pytest
import tiny
import torch

from unison.evaluate.isotropy import isotropy
from unison.models import Transformer

TEXTS = ["the quick brown", "lazy dogs jump over", "fox 13"]


def model(**changes):
    made = tiny.model("ar", **changes)
    with torch.no_grad():
        g = torch.Generator().manual_seed(2)
        for weight in made.network.parameters():
            weight.add_(torch.randn(weight.shape, generator=g) * 0.3)
    return made


def by_hand(made, ids: list[int]) -> float:
    inputs = torch.tensor([[made.process.bos_id, *ids]])
    with torch.no_grad():
        h = made.network.features(inputs, torch.zeros(1))[0, 1:].double()
    pairs = [
        float(h[i] @ h[j] / (h[i].norm() * h[j].norm()))
        for i in range(len(ids))
        for j in range(len(ids))
        if i != j
    ]
    return 1 - sum(pairs) / len(pairs)


def test_it_is_one_minus_the_mean_cosine_of_pairs_averaged_over_texts():
    made = model(max_length=64)
    each = [by_hand(made, made.tokenizer.encode(text)) for text in TEXTS]
    found = isotropy(made, TEXTS)
    assert found.value == pytest.approx(statistics.fmean(each), abs=1e-6)
    assert found.stderr == pytest.approx(statistics.stdev(each) / 3**0.5, abs=1e-6)
    assert found.n == 3


def test_a_text_longer_than_the_model_reads_counts_as_several():
    made = model(max_length=8)
    ids = made.tokenizer.encode(TEXTS[1])
    parts = [ids[i : i + 7] for i in range(0, len(ids), 7)]
    each = [by_hand(made, part) for part in parts if len(part) > 1]
    found = isotropy(made, [TEXTS[1]])
    assert found.n == len(each) > 1
    assert found.value == pytest.approx(statistics.fmean(each), abs=1e-6)


def test_states_that_all_point_the_same_way_have_none():
    made = model(norm="layer", norm_bias=True)
    assert isinstance(made.network, Transformer)
    with torch.no_grad():
        made.network.norm.get_parameter("weight").zero_()  # what is left is the bias
    assert isotropy(made, TEXTS[:1]).value == pytest.approx(0, abs=1e-9)


def test_other_models_and_texts_without_pairs_are_refused():
    with pytest.raises(ValueError, match="Absorbing process"):
        isotropy(tiny.model("mdlm"), TEXTS)
    with pytest.raises(ValueError, match="two tokens"):
        isotropy(model(), ["a"])
    with pytest.raises(ValueError, match="put it into a list"):
        isotropy(model(), "abc")

"""A gauge does the work it claims."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unison.bench.roofline import gauges
from unison.bench.roofline.ceiling import named
from unison.bench.roofline.watching import Watching
from unison.models import TransformerConfig

CPU = torch.device("cpu")
CONFIG = TransformerConfig(vocab_size=50, num_states=50, hidden=16, depth=2, heads=2, max_length=8)


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr(gauges, "_SQUARE", (16, 32))
    monkeypatch.setattr(gauges, "_ARRAYS", (1 << 12, 1 << 16))
    monkeypatch.setattr(gauges, "_ENOUGH_FLOPS", {"cpu": 1 << 16})
    monkeypatch.setattr(gauges, "_ENOUGH_BYTES", 1 << 14)
    return gauges.gauges(CONFIG, 4, ("float32", "bfloat16"), CPU)


def test_every_gauge_has_a_name_of_its_own(found):
    assert len({named(gauge) for gauge in found}) == len(found)


def test_products_are_square_ones_and_those_of_the_model(found):
    names = [gauge.name for gauge in found if (gauge.kind, gauge.dtype) == ("products", "float32")]
    assert names == ["16 x 16 x 16", "32 x 32 x 32", "32 x 16 x 48", "32 x 16 x 64", "32 x 64 x 16",
                     "32 x 16 x 50"]  # fmt: skip


def test_products_make_the_flops_they_claim(found):
    for gauge in found:
        if gauge.kind == "products":
            with Watching(CPU) as watching:
                gauge.run()
            assert watching.watched().flops == {gauge.dtype: gauge.amount}


def test_attention_makes_the_flops_it_claims(found):
    for gauge in found:
        if gauge.kind == "attention":
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                gauge.run()
            assert counter.get_total_flops() == gauge.amount


def test_loops_move_the_bytes_they_claim(found):
    for gauge in found:
        if gauge.kind == "memory":
            with Watching(CPU) as watching:
                gauge.run()
            moved = watching.watched().traffic  # a reading loop also writes its sum
            assert gauge.amount <= moved <= 1.01 * gauge.amount


def test_whole_numbers_are_measured_where_the_machine_multiplies_them(found, monkeypatch):
    assert any(gauge.dtype == "int8" for gauge in found) == torch.cpu._is_vnni_supported()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    again = gauges.gauges(CONFIG, 4, ("float32",), CPU)
    assert {gauge.dtype for gauge in again} == {"float32", ""}

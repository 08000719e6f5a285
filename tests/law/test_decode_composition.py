"""Parts that contradict each other are refused before work starts, and the reason names both."""

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import pytest
import torch

from unison.decode import Canvas, decode
from unison.decode.composition import refuses_cache, unready
from unison.decode.diffusion.composed import Composed
from unison.decode.order import ORDERS, Confidence, Entropy, Margin
from unison.decode.revise import P2, REVISIONS, WINO, Edit, Keep, ReMDM, Renoise
from unison.decode.select import SELECTS, Count, EntropyBound, Threshold
from unison.decode.sight import Reach
from unison.decode.stop import STOPS, Eos, EoTP, Prophet, Stable
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Uniform


@dataclass(frozen=True)
class Everywhere:
    """A revision that reaches beyond its block, which none of ours does."""

    reads: ClassVar[Reach] = "canvas"
    rewrites: ClassVar[bool] = True
    shadows: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)

    def extra(self, length):
        return 0

    def write(self, process, sight, chosen, past, shadow):
        return Keep().write(process, sight, chosen, past, shadow)


CONTRADICTIONS = [
    ({"per_block": True}, r"per_block .* steps must be set"),
    ({"discount": 0.5, "order": Entropy()}, r"discount=0.5 .* Entropy does not rank by"),
    (
        {"revise": P2(), "select": Threshold()},
        r"P2 keeps as many .* Threshold would choose in vain",
    ),
    ({"revise": P2(), "select": EntropyBound()}, r"P2 .* EntropyBound would choose in vain"),
    ({"revise": P2(), "order": Entropy()}, r"P2 ranks .* Entropy would rank in vain"),
    ({"revise": P2(), "order": Margin()}, r"P2 ranks .* Margin would rank in vain"),
    ({"revise": P2(), "discount": 0.5}, r"P2 ranks by confidence alone, so discount=0.5"),
    ({"revise": Edit(), "stop": Prophet()}, r"Edit looks again .* Prophet writes at once"),
    ({"revise": WINO(), "stop": EoTP()}, r"EoTP cuts .* WINO may take that token back"),
    ({"revise": ReMDM(), "stop": EoTP()}, r"EoTP cuts .* ReMDM may take that token back"),
    ({"revise": P2(), "stop": EoTP()}, r"EoTP cuts .* P2 may take that token back"),
    ({"revise": Everywhere(), "block_length": 4}, r"Everywhere .* block_length=4 finished blocks"),
]


@pytest.mark.parametrize(("parts", "reason"), CONTRADICTIONS, ids=str)
def test_parts_that_contradict_each_other_are_refused_with_the_reason(parts, reason):
    with pytest.raises(ValueError, match=reason):
        Composed(**parts)


@pytest.mark.parametrize(
    "parts",
    [
        {"revise": P2(), "select": Count(), "order": Confidence()},
        {"revise": P2(), "stop": Prophet()},
        {"revise": WINO(), "select": Threshold(), "stop": Stable()},
        {"revise": Edit(), "stop": Eos(eos_ids=(1,))},
        {"revise": ReMDM(), "stop": Prophet(), "block_length": 4},
        {"revise": Keep(), "stop": EoTP(), "discount": 0.5},
        {"revise": Renoise(), "select": EntropyBound(), "order": Entropy(), "stop": Stable()},
        {"revise": Everywhere()},
        {"per_block": True, "steps": 4},
    ],
    ids=str,
)
def test_parts_that_go_together_are_accepted(parts):
    strategy = Composed(**parts)
    assert all(getattr(strategy, name) == part for name, part in parts.items())


def test_whether_parts_go_together_is_decided_for_every_pair():
    """Which is the whole list of what does not go together, whatever is selected."""
    refused = set()
    for revise, stop, order in product(REVISIONS, STOPS, ORDERS):
        how = {"revise": REVISIONS[revise](), "stop": STOPS[stop](), "order": ORDERS[order]()}
        disagree = (
            (revise == "p2" and order != "confidence")
            or (revise == "edit" and stop == "prophet")
            or (revise != "none" and stop == "eotp")
        )
        if disagree:
            with pytest.raises(ValueError, match=type(how["revise"]).__name__):
                Composed(**how)
            refused.add((revise, stop))
        else:
            assert Composed(**how).revise == how["revise"]
    assert ("edit", "prophet") in refused


@pytest.mark.parametrize(
    ("strategy", "process", "reason"),
    [
        (Composed(revise=Renoise()), "absorbing", "Renoise cannot revise text under the absorbing"),
        (Composed(revise=P2()), "uniform", "P2 cannot revise text under the uniform"),
        (Composed(revise=WINO()), "uniform", "WINO cannot revise"),
        (Composed(revise=Edit()), "uniform", "Edit cannot revise"),
        (Composed(stop=EoTP(eos_ids=(1,))), "uniform", "EoTP cannot stop under the uniform"),
        (
            Composed(stop=Prophet(region=2, answer_only=True)),
            "uniform",
            "Prophet's answer_only=True",
        ),
        (Composed(stop=Eos()), "absorbing", "Eos waits for the end of the text"),
        (Composed(stop=Eos()), "uniform", "Eos waits for the end of the text"),
        (Composed(discount=0.5), "absorbing", "discount=0.5 holds end tokens back"),
    ],
)
def test_a_step_is_refused_where_a_part_lacks_what_it_needs(strategy, process, reason):
    assert reason in unready(strategy, process)
    kind = {"absorbing": Absorbing, "uniform": Uniform}[process](3)
    canvas = Canvas(torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, dtype=torch.bool))

    def denoise(xt, t, focus=None, earlier=None):
        raise AssertionError("the model was asked")

    with pytest.raises(ValueError, match=reason):
        decode(strategy, kind, denoise, canvas, Key(rng.rows(0, 0, 1)))


def test_what_a_part_needs_may_come_from_it_or_from_the_strategy():
    for strategy in (
        Composed(stop=Eos(), eos_ids=(2,)),
        Composed(stop=Eos(eos_ids=(2,))),
        Composed(stop=EoTP(), eos_ids=(2,)),
        Composed(discount=0.5, eos_ids=(2,)),
        Composed(stop=Stable()),
    ):
        assert unready(strategy, "absorbing") is None
    assert unready(Composed(discount=0.5, stop=Eos(eos_ids=(2,))), "absorbing") is not None


@pytest.mark.parametrize("name", REVISIONS)
def test_a_cache_that_freezes_text_is_refused_where_text_is_rewritten(name):
    strategy = Composed(revise=REVISIONS[name]())
    assert refuses_cache(strategy, True) is None
    reason = refuses_cache(strategy, False)
    if name == "none":
        assert reason is None
    else:
        assert f"{REVISIONS[name].__name__} rewrites written text" in reason


def test_the_tables_name_what_the_rules_speak_of():
    assert {"count", "threshold", "entropy_bound"} <= set(SELECTS)
    assert REVISIONS["p2"] is P2
    assert STOPS["eotp"] is EoTP

"""Every strategy in the table, held to the promises it declares, on every process it can undo."""

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Literal, get_origin, get_type_hints

import pytest
import torch
from oracle.decoding import random_tables
from torch.utils._python_dispatch import TorchDispatchMode

from unison.decode import STRATEGIES as TABLE
from unison.decode import Canvas, blocks, decode, start
from unison.decode.diffusion._skeleton import Skeleton
from unison.decode.diffusion.edlm import Edlm
from unison.decode.diffusion.guided import Guided
from unison.decode.select import Threshold
from unison.decode.temper import Temper
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.process import PROCESSES
from unison.types import Law

VOCAB, LENGTH = 3, 3
STRATEGIES = {**TABLE, "guided": Guided, "edlm": Edlm}  # presets that need a judge


def judge(xt, t, focus, earlier):
    """A causal model: at each position a law that hangs on what stands before."""
    before = torch.cumsum(torch.nn.functional.pad(xt + 1, (1, -1)), 1)
    logits = torch.cos(3.0 * before[..., None] + 2.0 * torch.arange(VOCAB)).float()
    at = focus.positions[..., None].expand(-1, -1, VOCAB)
    return (2 * logits).log_softmax(-1).gather(1, at)


def energy(x0, xt, t, log_diff, valid=None):
    """Any function of a row's own texts, noise and time."""
    place = torch.arange(1, x0.shape[-1] + 1)
    said = torch.cos(2.0 * (place * (x0 + 1)).sum(-1) + t[:, None] + xt[:, :1])
    return 2 * said.double() + 0.3 * log_diff


# Small settings that reach every branch of a strategy; without an entry, its defaults.
SETTINGS = {
    "composed": [
        {"steps": 3},
        {"steps": 2, "block_length": 2, "temper": Temper(1.0)},
        {"steps": 2, "per_block": True, "block_length": 2, "anchor": "canvas"},
        {"steps": 3, "select": Threshold(0.4), "temper": Temper(0.8, 0.4), "judged": "tempered"},
    ],
    "ancestral": [{"steps": 1}, {"steps": 3}],
    "corrected_hitting": [{"group": 1}, {"group": 2}, {"group": 5}],
    "euler": [{"steps": 1}, {"steps": 3}, {"steps": 3, "jump": "linear"}],
    "extrapolated_hitting": [{"along": "events"}, {"along": "noise"}],
    "guided": [
        {"judge": judge},
        {"judge": judge, "rule": "original", "eos_ids": (1,)},
        {"judge": judge, "rule": "topk_relative", "eos_ids": (0, 2)},
    ],
    "edlm": [
        {"steps": 1, "judge": energy},
        {"steps": 3, "judge": energy, "candidates": 4, "window": 0.6, "sharpness": 2.0},
    ],
    "greedy_tail": [{"steps": 1}, {"steps": 3}],
    "left_to_right": [{}, {"eos_ids": (1,), "stop_at_end": True}],
    "parallel_hitting": [{"steps": 1}, {"steps": 2, "schedule": "cosine"}, {"steps": 9}],
    "psi": [
        {"steps": 3, "mode": "renoise"},
        {"steps": 3, "mode": "cap", "eta": 0.5},
        {"steps": 4, "mode": "constant", "kappa": 0.5, "high": 0.25, "middle": 0.5},
        {"steps": 4, "mode": "remdm", "eta": 0.2, "high": 0.5, "middle": 0.25, "profile": "loop"},
    ],
    "remdm": [
        {"steps": 3, "mode": "cap", "eta": 0.5},
        {"steps": 3, "mode": "rescale", "eta": 0.5},
        {"steps": 4, "mode": "conf"},
        {"steps": 4, "mode": "loop", "t_on": 0.5, "t_off": 0.25, "alpha_on": 0.6, "eta": 0.5},
    ],
}

# Values a strategy must refuse besides NONSENSE.
REFUSED = {
    "composed": [
        {"steps": 0},
        {"block_length": 0},
        {"anchor": "prompt"},
        {"judged": "raw"},
        {"discount": 1.5},
        {"discounted_by": "blocks"},
    ],
    "ancestral": [{"steps": 0}],
    "edlm": [{"steps": 0}, {"candidates": 0}, {"window": 1.5}, {"sharpness": float("inf")}],
    "corrected_hitting": [{"group": 0}],
    "euler": [{"steps": 0}],
    "parallel_hitting": [{"steps": 0}],
    "greedy_tail": [{"steps": 0}, {"last": 0.0}, {"last": 1.0}],
    "psi": [
        {"steps": 0},
        {"mode": "rescaled"},
        {"kappa": 1.5},
        {"eta": -0.1},
        {"high": 1.5},
        {"middle": 0.6, "high": 0.5},
        {"profile": "constant"},
        {"alpha_on": 1.0},
        {"steps": 2, "profile": "loop", "high": 0.0, "middle": 0.5},
        {"steps": 2, "profile": "loop", "high": 0.5, "middle": 0.5},
    ],
    "remdm": [
        {"steps": 0},
        {"mode": "max"},
        {"eta": 1.1},
        {"t_on": 1.0},
        {"t_off": 0.0},
        {"t_off": 0.7, "t_on": 0.6},
        {"alpha_on": 0.0},
        {"steps": 4, "mode": "loop", "t_off": 0.05},
    ],
}

NONSENSE = {int: -1, float: float("nan"), Literal: "nonsense"}  # by the type of the field

names = pytest.mark.parametrize("name", STRATEGIES)
CASES = [
    pytest.param(name, settings, kind, id=f"{name}-{i}-{kind}")
    for name, cls in STRATEGIES.items()
    for i, settings in enumerate(SETTINGS.get(name, [{}]))
    for kind in cls.processes
]
MASKED = [case for case in CASES if PROCESSES[case.values[2]](VOCAB).num_states > VOCAB]
cases = pytest.mark.parametrize(("name", "settings", "kind"), CASES)
masked_cases = pytest.mark.parametrize(("name", "settings", "kind"), MASKED)


@pytest.fixture
def toy(as_denoiser, seed):
    """A process and a random denoiser for it that looks at the whole canvas and the time."""

    def build(kind):
        process = PROCESSES[kind](VOCAB)
        states = max(process.num_states, VOCAB)
        tables = random_tables(states, VOCAB, LENGTH, seed)
        return process, Judging(as_denoiser(tables), getattr(process, "mask_id", 0))

    return build


class Judging:
    """A denoiser that can also leave a position's own token out."""

    def __init__(self, denoise, mask_id):
        self.denoise, self.mask_id = denoise, mask_id

    def __call__(self, *question):
        return self.denoise(*question)

    def shadow(self, xt, t, focus):
        unseen = [
            self.denoise(xt.scatter(1, place, self.mask_id), t, focus._replace(positions=place))
            for place in focus.positions.split(1, dim=1)
        ]
        return self.denoise(xt, t, focus), torch.cat(unseen, dim=1)


def every_canvas(process, key=None):
    """Each pattern of given tokens and holes, 4^3 in all, holes filled from the prior."""
    marks = torch.cartesian_prod(*[torch.arange(VOCAB + 1)] * LENGTH)
    given = marks != VOCAB
    key = key or Key(rng.rows(0, 0, len(marks)))
    return start(process, torch.where(given, marks, 0), given, key), key


def row(x, i):
    return type(x)(*(None if v is None else v[i : i + 1] for v in x))


def leaves(x):
    """The tensors of a canvas, whatever its memory is made of."""
    if isinstance(x, torch.Tensor):
        return [x]
    return [leaf for part in x for leaf in leaves(part)] if isinstance(x, tuple) else []


def same(a, b):
    pairs = zip(leaves(a), leaves(b), strict=True)
    return all(
        x.shape == y.shape and torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)) for x, y in pairs
    )


@names
def test_declares_itself(name):
    cls = STRATEGIES[name]
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert isinstance(cls.law, Law)
    assert cls.processes
    assert set(cls.processes) <= set(PROCESSES)
    doc = inspect.getdoc(cls)
    assert "arXiv:" in doc or "doi:" in doc
    assert "Law:" in doc
    assert all(f"{field.name}:" in doc for field in dataclasses.fields(cls))
    assert sys.modules[cls.__module__].__doc__


@names
def test_a_promise_comes_with_an_oracle(name):
    if STRATEGIES[name].law is not Law.BIASED:
        tests = Path(__file__).parents[1].glob("**/test_*.py")
        assert any(re.search(rf"def test_{name}_follows", test.read_text()) for test in tests)


def test_the_skeleton_works_as_it_stands(toy):
    """It may be copied and renamed, and is no strategy until it has a line in the table."""
    assert Skeleton not in STRATEGIES.values()
    process, denoise = toy("absorbing")
    canvas, key = every_canvas(process)
    decoded = decode(Skeleton(), process, denoise, canvas, key)
    assert (decoded.tokens < VOCAB).all()
    assert torch.equal(decoded.tokens[canvas.given], canvas.tokens[canvas.given])
    with pytest.raises(ValueError, match="share must be"):
        Skeleton(share=0.0)


@names
def test_defaults_are_valid(name):
    assert STRATEGIES[name]().budget(8) >= 1


@names
def test_a_misspelt_option_is_refused(name):
    with pytest.raises(TypeError, match="stepz"):
        STRATEGIES[name](stepz=3)


def refused(name, settings):
    """Refused with a message that says which field, what was seen and what is allowed.

    Set after construction: in tests beartype would refuse a wrong Literal before we can.
    """
    strategy = STRATEGIES[name]()
    for field, value in settings.items():
        object.__setattr__(strategy, field, value)
    with pytest.raises(ValueError, match=r"must|needed|needs") as refusal:
        strategy.__post_init__()
    message, field = str(refusal.value), next(iter(settings))
    assert field in message
    assert str(settings[field]) in message


@pytest.mark.parametrize(
    ("name", "settings"), [(n, s) for n, values in REFUSED.items() for s in values], ids=str
)
def test_an_invalid_value_is_refused_by_name(name, settings):
    refused(name, settings)


@names
def test_every_number_and_choice_is_checked(name):
    types = get_type_hints(STRATEGIES[name])
    for field in dataclasses.fields(STRATEGIES[name]):
        kind = get_origin(types[field.name]) or types[field.name]
        if kind in NONSENSE:
            refused(name, {field.name: NONSENSE[kind]})


@cases
def test_finishes_with_text_within_its_budget(name, settings, kind, toy):
    strategy, (process, denoise) = STRATEGIES[name](**settings), toy(kind)
    canvas, key = every_canvas(process)
    decoded = decode(strategy, process, denoise, canvas, key)
    assert ((decoded.tokens >= 0) & (decoded.tokens < VOCAB)).all()
    assert (decoded.nfe <= strategy.budget(LENGTH)).all()


@cases
def test_never_rewrites_what_was_given(name, settings, kind, toy):
    strategy, (process, denoise) = STRATEGIES[name](**settings), toy(kind)
    canvas, key = every_canvas(process)
    seen = []
    decoded = decode(
        strategy, process, denoise, canvas, key, lambda _, now, info: seen.append((now, info))
    )
    assert torch.equal(decoded.tokens[canvas.given], canvas.tokens[canvas.given])
    for now, info in seen:
        assert torch.equal(now.tokens[canvas.given], canvas.tokens[canvas.given])
        assert not (info.changed & canvas.given).any()


@cases
def test_a_finished_canvas_costs_nothing(name, settings, kind, toy):
    process, denoise = toy(kind)
    canvas, key = every_canvas(process)
    nfe = decode(STRATEGIES[name](**settings), process, denoise, canvas, key).nfe
    complete = canvas.given.all(1)
    assert (nfe[complete] == 0).all()
    assert (nfe[~complete] > 0).all()


@cases
def test_a_row_does_not_see_its_batch(name, settings, kind, toy):
    strategy, (process, denoise) = STRATEGIES[name](**settings), toy(kind)
    canvas, key = every_canvas(process)
    together = decode(strategy, process, denoise, canvas, key)
    for i in range(0, len(key.seed), 5):  # 5 is coprime to 4: every pattern of holes occurs
        alone = decode(strategy, process, denoise, row(canvas, i), Key(key.seed[i : i + 1]))
        assert same(alone, row(together, i))


@masked_cases
def test_a_given_mask_id_is_padding_and_ends_no_run_early(name, settings, kind, toy):
    """Padding may hold any token, the mask among them: it is never filled nor waited for."""
    strategy, (process, denoise) = STRATEGIES[name](**settings), toy(kind)
    tokens = torch.tensor([[process.mask_id, process.mask_id, 1]]).expand(64, -1)
    given = torch.tensor([[False, True, True]]).expand(64, -1)
    decoded = decode(strategy, process, denoise, Canvas(tokens, given), Key(rng.rows(0, 0, 64)))
    assert (decoded.tokens[:, 0] < VOCAB).all()
    assert torch.equal(decoded.tokens[:, 1:], tokens[:, 1:])


@cases
def test_a_step_is_pure(name, settings, kind, toy):
    """Equal arguments give equal results, and no argument is written to; also mid-run."""
    strategy, (process, denoise) = STRATEGIES[name](**settings), toy(kind)
    canvas, key = every_canvas(process)
    generator = torch.get_rng_state()
    for step in range(min(strategy.budget(LENGTH), 3)):
        before = [leaf.clone() for leaf in leaves(canvas)]
        first = strategy.step(process, denoise, canvas, key.at(step))
        second = strategy.step(process, denoise, canvas, key.at(step))
        assert same(first, second)
        assert all(torch.equal(x, y) for x, y in zip(before, leaves(canvas), strict=True))
        canvas = first[0]._replace(tokens=torch.where(canvas.given, canvas.tokens, first[0].tokens))
    assert torch.equal(generator, torch.get_rng_state())


class NoWaiting(TorchDispatchMode):
    """Refuse operations whose result the host must wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in {"_local_scalar_dense", "nonzero", "masked_select", "equal"}, name
        return func(*args, **(kwargs or {}))


@cases
def test_a_step_never_waits_for_the_device(name, settings, kind, toy, monkeypatch):
    """As on a GPU, where ``sample_where`` draws the whole tensor; only the driver syncs."""
    strategy, (process, denoise) = STRATEGIES[name](**settings), toy(kind)
    canvas, key = every_canvas(process)
    monkeypatch.setattr(
        categorical, "sample_where", lambda p, u, wanted: categorical.sample(p, u).where(wanted, 0)
    )
    monkeypatch.setattr(blocks, "width", lambda wanted, bound: bound)
    for step in range(min(strategy.budget(LENGTH), 3)):
        with NoWaiting():
            after, _ = strategy.step(process, denoise, canvas, key.at(step))
        canvas = after._replace(tokens=torch.where(canvas.given, canvas.tokens, after.tokens))


@cases
def test_changed_means_changed(name, settings, kind, toy):
    strategy, (process, denoise) = STRATEGIES[name](**settings), toy(kind)
    canvas, key = every_canvas(process)
    seen = [canvas.tokens]

    def watch(_, now, info):
        assert torch.equal(info.changed, now.tokens != seen[-1])
        seen.append(now.tokens)

    decode(strategy, process, denoise, canvas, key, watch)

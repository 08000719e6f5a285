"""Every revision and every stop in their tables, held to the promises of a part."""

import dataclasses
import inspect
import re
import sys
from itertools import product
from typing import Literal, get_origin, get_type_hints

import pytest
import torch
from oracle.decoding import random_tables
from sights import narrowed, ragged, rows_of
from torch.utils._python_dispatch import TorchDispatchMode

from unison.decode import Canvas, blocks, decode, start
from unison.decode.composition import unready
from unison.decode.diffusion.composed import Composed
from unison.decode.revise import REVISIONS
from unison.decode.select import SELECTS, Threshold
from unison.decode.sight import After, Past, Revise, Stop
from unison.decode.stop import STOPS
from unison.decode.temper import Temper
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import PROCESSES, Absorbing, Uniform

VOCAB, LENGTH, PLACES = 3, 4, 40
EOS = (1,)

# Small settings that reach every branch of a part; without an entry, its defaults.
SETTINGS = {
    "edit": [{"threshold": 0.4, "max_post_steps": 3}, {"threshold": 0.0, "max_post_steps": 0}],
    "p2": [{"eta": 0.0}, {"eta": 2.0}],
    "remdm": [
        {"mode": "cap", "eta": 0.5},
        {"mode": "rescale", "eta": 0.9},
        {"mode": "conf"},
    ],
    "wino": [{"threshold": 0.5}, {"threshold": 1.0}],
    "eotp": [{"threshold": 0.0}, {"threshold": 0.9}],
    "prophet": [
        {"early": 2.0, "middle": 1.0, "late": 0.5},
        {"early": 0.5, "region": 2},
        {"early": 0.5, "region": 2, "answer_only": True},
    ],
    "stable": [{"patience": 0, "entropy": 0.9}, {"patience": 1, "entropy": 2.0}],
    "steps": [{"steps": 1}, {"steps": 3}],
}

# Values a part must refuse besides NONSENSE.
REFUSED = {
    "edit": [{"threshold": 1.5}],
    "p2": [{"eta": float("inf")}],
    "remdm": [{"mode": "loop"}, {"eta": 1.1}],
    "wino": [{"threshold": -0.1}],
    "eos": [{"eos_ids": (3, -2)}],
    "eotp": [{"threshold": 1.1}, {"eos_ids": (-1,)}],
    "prophet": [{"region": 0}, {"answer_only": True}],
    "stable": [{"eos_ids": (-1,)}],
    "steps": [{"steps": 0}],
}

NONSENSE = {int: -1, float: float("nan"), Literal: "nonsense"}  # by the type of the field

PARTS = {**REVISIONS, **STOPS}
PLAIN = [
    part
    for part in SELECTS.values()
    if all(f.default is not dataclasses.MISSING for f in dataclasses.fields(part))
]
names = pytest.mark.parametrize("name", PARTS)
REVISED = [
    pytest.param(name, settings, kind, id=f"{name}-{i}-{kind}")
    for name, part in REVISIONS.items()
    for i, settings in enumerate(SETTINGS.get(name, [{}]))
    for kind in part.processes
]
STOPPED = [
    pytest.param(name, settings, kind, id=f"{name}-{i}-{kind}")
    for name, part in STOPS.items()
    for i, settings in enumerate(SETTINGS.get(name, [{}]))
    for kind in part.processes
    if not (kind == "uniform" and settings.get("answer_only"))
]
revisions = pytest.mark.parametrize(("name", "settings", "kind"), REVISED)
parts = pytest.mark.parametrize(("name", "settings", "kind"), REVISED + STOPPED)


def variants(table, name):
    return [table[name](**settings) for settings in SETTINGS.get(name, [{}])]


def composed(name, settings, **how):
    """The skeleton with that part, and what else it needs."""
    if name in REVISIONS:
        select = {} if name in ("p2", "none") else {"select": Threshold(0.3)}
        return Composed(revise=REVISIONS[name](**settings), **{**select, **how})
    return Composed(stop=STOPS[name](**settings), eos_ids=EOS, **how)


class Exact:
    """A table that also says what it believes of a token it does not see: the exact answer."""

    def __init__(self, denoise, mask):
        self.denoise, self.mask = denoise, mask

    def __call__(self, xt, t, focus=None, earlier=None):
        return self.denoise(xt, t, focus)

    def shadow(self, xt, t, focus):
        index = focus.positions[..., None].expand(-1, -1, VOCAB)
        without = [
            self.denoise(xt.index_fill(1, torch.tensor([i]), self.mask), t)[:, i]
            for i in range(xt.shape[1])
        ]
        return self(xt, t, focus), torch.stack(without, 1).gather(1, index)


@pytest.fixture
def toy(as_denoiser, seed):
    """A process and a random denoiser for it, shadows and all."""

    def build(kind):
        process = PROCESSES[kind](VOCAB)
        tables = random_tables(max(process.num_states, VOCAB), VOCAB, LENGTH, seed)
        return process, Exact(as_denoiser(tables), VOCAB)

    return build


def every_canvas(process, stride=1):
    """Patterns of given tokens and holes, 4^4 in all, holes filled from the prior."""
    marks = torch.cartesian_prod(*[torch.arange(VOCAB + 1)] * LENGTH)[::stride]
    given = marks != VOCAB
    key = Key(rng.rows(0, 0, len(marks)))
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
    part = PARTS[name]
    assert dataclasses.is_dataclass(part)
    assert part.__dataclass_params__.frozen
    doc = inspect.getdoc(part)
    assert re.search(r"arXiv:\d{4}\.\d{5}", doc) or name == "none"
    assert all(f"{field.name}:" in doc for field in dataclasses.fields(part))
    assert sys.modules[part.__module__].__doc__
    assert isinstance(part(), Revise if name in REVISIONS else Stop)
    assert set(part.processes) <= set(PROCESSES)


@names
def test_a_misspelt_option_is_refused(name):
    with pytest.raises(TypeError, match="thresold"):
        PARTS[name](thresold=0.5)


def refused(name, settings):
    """Refused with a message that says which field, what was seen and what is allowed.

    Set after construction: in tests beartype would refuse a wrong Literal before we can.
    """
    part = PARTS[name]()
    for field, value in settings.items():
        object.__setattr__(part, field, value)
    with pytest.raises(ValueError, match=r"must|needs") as refusal:
        part.__post_init__()
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
    types = get_type_hints(PARTS[name])
    for field in dataclasses.fields(PARTS[name]):
        kind = get_origin(types[field.name]) or types[field.name]
        if kind in NONSENSE:
            refused(name, {field.name: NONSENSE[kind]})


def written_on(process, seed):
    """A sight with standing tokens, masks where open, and dead and foreign entries."""
    sight = ragged(seed, vocab=VOCAB)
    draw = torch.Generator().manual_seed(seed)
    active = sight.live & (torch.rand(sight.live.shape, generator=draw) < 0.8)
    tokens = torch.randint(VOCAB, sight.live.shape, generator=draw)
    open_ = active if isinstance(process, Uniform) else sight.open & active
    mask = VOCAB if isinstance(process, Absorbing) else 0
    belief = torch.randn(*tokens.shape, VOCAB, generator=draw).log_softmax(-1)
    return sight._replace(
        active=active,
        open=open_,
        current=torch.where(open_ | ~sight.live, mask, tokens),
        belief=belief,
        candidate=torch.randint(VOCAB, sight.live.shape, generator=draw),
        size=active.sum(1),
    )


def looking_back(sight, seed):
    draw = torch.Generator().manual_seed(seed)
    rows = len(sight.due)
    return Past(
        torch.randint(VOCAB, (rows, PLACES), generator=draw),
        torch.rand(rows, PLACES, generator=draw, dtype=torch.float64),
        *torch.randint(4, (3, rows), generator=draw),
    )


@revisions
def test_a_revision_touches_nothing_given_foreign_or_dead(name, settings, kind, seed):
    process = PROCESSES[kind](VOCAB)
    part, sight = REVISIONS[name](**settings), written_on(process, seed)
    past = looking_back(sight, seed)
    chosen = sight.open & (sight.confidence > 0.3)
    shadow = sight.belief.roll(1, 2)
    tokens = part.write(process, sight, chosen, past, shadow).tokens
    assert torch.equal(tokens[~sight.active], sight.current[~sight.active])
    assert (tokens <= VOCAB).all()
    if not part.rewrites:
        assert torch.equal(tokens[~chosen], sight.current[~chosen])


@revisions
def test_a_revision_sees_its_row_and_no_filling(name, settings, kind, seed):
    """Dead entries are copies a batch has for its longest row: cut them off and nothing moves."""
    process = PROCESSES[kind](VOCAB)
    part, sight = REVISIONS[name](**settings), written_on(process, seed)
    past, shadow = looking_back(sight, seed), sight.belief.roll(1, 2)
    chosen = sight.open & (sight.confidence > 0.3)
    together = part.write(process, sight, chosen, past, shadow)
    for i in range(0, len(sight.due), 7):
        only, long = torch.tensor([i]), int(sight.live[i].sum())
        alone = part.write(
            process,
            narrowed(rows_of(sight, only), long),
            chosen[only, :long],
            Past(*(x[only] for x in past)),
            shadow[only, :long],
        )
        assert torch.equal(alone.tokens, together.tokens[only, :long])
        assert torch.equal(alone.lingering, together.lingering[only])


@pytest.mark.parametrize("name", STOPS)
def test_a_stop_sees_its_row_and_no_filling(name, seed):
    sight = written_on(Absorbing(VOCAB), seed)
    past, draw = looking_back(sight, seed), torch.Generator().manual_seed(seed)
    shape = len(sight.due), PLACES
    after = After(
        torch.randint(VOCAB + 1, shape, generator=draw),
        torch.rand(shape, generator=draw) < 0.05,
        torch.randint(VOCAB, shape, generator=draw),
        torch.arange(PLACES).expand(shape) >= torch.randint(4, (shape[0], 1), generator=draw),
        EOS,
    )
    chosen = sight.open & (sight.confidence > 0.3)
    for part in variants(STOPS, name):
        together = part.judge(sight, chosen, past, after)
        for i in range(0, shape[0], 5):
            only, long = torch.tensor([i]), int(sight.live[i].sum())
            alone = part.judge(
                narrowed(rows_of(sight, only), long),
                chosen[only, :long],
                Past(*(x[only] for x in past)),
                After(*(x[only] for x in after[:-1]), EOS),
            )
            for a, b in zip(alone, together, strict=True):
                assert torch.equal(a, b[only]) if isinstance(a, torch.Tensor) else a == b


@parts
def test_finishes_with_text_within_its_budget_and_keeps_what_was_given(name, settings, kind, toy):
    process, denoise = toy(kind)
    canvas, key = every_canvas(process)
    for how in ({}, {"steps": 3}, {"steps": 2, "per_block": True, "block_length": 2}):
        strategy = composed(name, settings, temper=Temper(1.0), **how)
        decoded = decode(strategy, process, denoise, canvas, key)
        assert ((decoded.tokens >= 0) & (decoded.tokens < VOCAB)).all()
        assert (decoded.nfe <= strategy.budget(LENGTH)).all()
        assert torch.equal(decoded.tokens[canvas.given], canvas.tokens[canvas.given])


@parts
def test_a_row_does_not_see_its_batch(name, settings, kind, toy):
    process, denoise = toy(kind)
    canvas, key = every_canvas(process)
    strategy = composed(name, settings, temper=Temper(1.0), steps=3, block_length=3)
    together = decode(strategy, process, denoise, canvas, key)
    for i in range(0, len(key.seed), 21):
        alone = decode(strategy, process, denoise, row(canvas, i), Key(key.seed[i : i + 1]))
        assert same(alone, row(together, i))


class NoWaiting(TorchDispatchMode):
    """Refuse operations whose result the host must wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in {"_local_scalar_dense", "nonzero", "masked_select", "equal"}, name
        return func(*args, **(kwargs or {}))


@parts
def test_a_step_is_pure_and_never_waits_for_the_device(name, settings, kind, toy, monkeypatch):
    process, denoise = toy(kind)
    canvas, key = every_canvas(process, 3)
    monkeypatch.setattr(blocks, "width", lambda wanted, bound: bound)
    strategy = composed(name, settings, temper=Temper(1.0), steps=3)
    for step in range(3):
        before = [leaf.clone() for leaf in leaves(canvas)]
        with NoWaiting():
            first = strategy.step(process, denoise, canvas, key.at(step))
        assert same(first, strategy.step(process, denoise, canvas, key.at(step)))
        assert all(torch.equal(x, y) for x, y in zip(before, leaves(canvas), strict=True))
        canvas = first[0]._replace(tokens=torch.where(canvas.given, canvas.tokens, first[0].tokens))


@parts
def test_padding_is_neither_written_nor_waited_for(name, settings, kind, toy):
    """Padding may hold any token, the mask among them."""
    process, denoise = toy(kind)
    inside = torch.tensor([[False, False, True, True]]).expand(16, -1)
    filler = VOCAB if kind == "absorbing" else 0
    canvas = Canvas(torch.full((16, 4), filler), inside, valid=~inside)
    strategy = composed(name, settings, temper=Temper(1.0))
    decoded = decode(strategy, process, denoise, canvas, Key(rng.rows(0, 0, 16)))
    assert (decoded.tokens[:, :2] < VOCAB).all()
    assert (decoded.tokens[:, 2:] == filler).all()


def combined(**how):
    """The strategy, or the reason why there is none."""
    try:
        return Composed(eos_ids=EOS, temper=Temper(1.0), **how), None
    except ValueError as reason:
        return None, str(reason)


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("revise", REVISIONS)
def test_every_combination_finishes_or_names_the_parts_that_disagree(revise, stop, toy):
    """With every selection, under every process; settings and numbers of steps take turns."""
    revisers, stoppers = variants(REVISIONS, revise), variants(STOPS, stop)
    for turn, (kind, select) in enumerate(product(REVISIONS[revise].processes, PLAIN)):
        process, denoise = toy(kind)
        reviser, stopper = revisers[turn % len(revisers)], stoppers[turn % len(stoppers)]
        strategy, reason = combined(
            revise=reviser, stop=stopper, select=select(), steps=(None, 2)[turn % 2]
        )
        if strategy is None:
            names = {type(stopper).__name__, select.__name__}
            assert type(reviser).__name__ in reason
            assert any(name in reason for name in names)
            continue
        canvas, key = every_canvas(process, 31)
        if unready(strategy, kind):
            with pytest.raises(ValueError, match=f"{type(stopper).__name__}.* needs absorbing"):
                decode(strategy, process, denoise, canvas, key)
            continue
        decoded = decode(strategy, process, denoise, canvas, key)
        assert ((decoded.tokens >= 0) & (decoded.tokens < VOCAB)).all()
        assert torch.equal(decoded.tokens[canvas.given], canvas.tokens[canvas.given])
        assert (decoded.nfe <= strategy.budget(LENGTH)).all()

"""What do strategies sample under a constraint? Exact laws by enumeration.

Three tokens: a, b and the end; three places; the language is told to the library as a grammar and
to the oracle as Python's own regular expression.
"""

import re
from collections import defaultdict
from itertools import product

import numpy as np
import pytest
import torch
from laws import assert_law
from oracle.decoding import Family, log_linear, random_tables

from unison.constrain.compiling import machine
from unison.constrain.joint import Conditioner
from unison.constrain.sources.regex import regex
from unison.constrain.tokens import TokenMachine
from unison.constrain.vocabulary import vocabulary
from unison.decode import Canvas, decode, start
from unison.decode.autoregressive.left_to_right import LeftToRight
from unison.decode.constrained import Bound, ConstrainedDenoiser
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.diffusion.edlm import Edlm
from unison.decode.diffusion.greedy_tail import GreedyTail
from unison.decode.diffusion.guided import Guided
from unison.decode.diffusion.remdm import ReMDM
from unison.decode.jointly import Jointly
from unison.decode.order import Position
from unison.decode.temper import Temper
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Sequential, Uniform

VOCAB, LENGTH, ROWS = 3, 3, 400
END, MASK = 2, 3
PATTERN = "(ab)?|b(b|aa?)|aaa"
EVERY = list(product(range(VOCAB), repeat=LENGTH))
TABLES = random_tables(VOCAB + 1, VOCAB, LENGTH, seed=3)
FAMILIES = {
    "absorbing": (Absorbing(VOCAB), Family(np.array([0.0, 0, 0, 1]), VOCAB)),
    "uniform": (Uniform(VOCAB), Family(np.full(3, 1 / 3), VOCAB)),
}

pytestmark = pytest.mark.law


def legal(text):
    """Letters of the language, then ends."""
    letters = "".join("ab."[token] for token in text)
    return re.fullmatch(PATTERN, letters.rstrip(".")) is not None


LEGAL = [text for text in EVERY if legal(text)]


def texts(belief, fixed, among=None, evidence=None):
    """The law of whole texts: the product of the beliefs, where the text is legal."""
    found = {}
    for text in LEGAL if among is None else among:
        if any(f is not None and f != v for f, v in zip(fixed, text, strict=True)):
            continue
        weight = 1.0
        for i, v in enumerate(text):
            if fixed[i] is None:
                weight *= belief[i, v] * (1 if evidence is None else evidence[i][v])
        found[text] = weight
    total = sum(found.values())
    return {text: weight / total for text, weight in found.items()}


def told(family, x, t, heat=1.0, among=None):
    """The law of the text a step is certain of."""
    belief = TABLES.belief(x, t) ** (1 / heat)
    if family.masked:
        return texts(belief, [None if v == MASK else v for v in x], among)
    alpha = log_linear(t)
    evidence = [[VOCAB * alpha * (v == x[i]) + 1 - alpha for v in range(VOCAB)] for i in range(3)]
    return texts(belief, [None] * LENGTH, among, evidence)


def moved(family, x, text, alphas):
    """The law of x_s given x_t and a text one is certain of."""
    eye = np.eye(VOCAB)
    kernel = [family.posterior(x[i], eye[text[i]], *alphas) for i in range(LENGTH)]
    return {
        y: float(np.prod([kernel[i][v] for i, v in enumerate(y)]))
        for y in product(range(len(kernel[0])), repeat=LENGTH)
    }


def ancestral(family, steps, heat=1.0, among=None):
    """The law of the last canvas."""
    law = {
        x: float(np.prod(family.prior[list(x)]))
        for x in product(range(len(family.prior)), repeat=LENGTH)
    }
    for k in range(steps):
        t, s = 1 - k / steps, 1 - (k + 1) / steps
        after = defaultdict(float)
        for x, p in law.items():
            for text, q in told(family, x, t, heat, among).items() if p else ():
                for y, r in moved(family, x, text, (log_linear(s), log_linear(t))).items():
                    after[y] += p * q * r
        law = after
    return law


@pytest.fixture
def run(as_denoiser, seed):
    """Decode many rows under the constraint; the draws of each row."""

    def decoded(
        strategy, process, rows=ROWS, pattern=PATTERN, tables=TABLES, nulls=(END,), bounds=None
    ):
        letters = vocabulary([b"a", b"b", b"c" if END not in nulls else None], nulls, "abc")
        tokens = TokenMachine(machine(regex(pattern)), letters)
        hole = np.zeros(LENGTH, dtype=np.int64)
        bound = tuple((Bound(Conditioner(tokens), 0, hole),) for _ in range(rows))
        bound = bound if bounds is None else bounds(letters, rows)
        denoise = ConstrainedDenoiser(as_denoiser(tables), process, bound)
        key = Key(rng.rows(seed, 0, rows))
        blank = torch.zeros(rows, LENGTH, dtype=torch.int64)
        canvas = start(process, blank, torch.zeros_like(blank, dtype=torch.bool), key)
        return decode(strategy, process, denoise, canvas, key)

    return decoded


def drawn(done):
    return [tuple(row) for row in done.tokens.tolist()]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("steps", "heat"), [(1, 1.0), (2, 0.6), pytest.param(3, 1.0, marks=pytest.mark.slow)]
)
def test_ancestral_sampling_averages_the_posterior_over_texts_of_the_language(
    run, name, steps, heat
):
    process, family = FAMILIES[name]
    done = run(Jointly(Ancestral(steps), Temper(heat)), process)
    law = ancestral(family, steps, heat)
    assert sum(p for text, p in law.items() if text not in LEGAL) < 1e-12
    assert_law(drawn(done), law)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_language_of_all_texts_changes_no_law(run, name):
    process, family = FAMILIES[name]
    law = ancestral(family, 2, among=EVERY)
    plain = {
        x: float(np.prod(family.prior[list(x)]))
        for x in product(range(len(family.prior)), repeat=LENGTH)
    }
    for t, s in ((1.0, 0.5), (0.5, 0.0)):
        after = defaultdict(float)
        for x, p in plain.items():
            belief = TABLES.belief(x, t)
            alphas = log_linear(s), log_linear(t)
            kernel = [family.posterior(x[i], belief[i], *alphas) for i in range(LENGTH)]
            for y in product(range(len(kernel[0])), repeat=LENGTH):
                after[y] += p * float(np.prod([kernel[i][v] for i, v in enumerate(y)]))
        plain = after
    assert max(abs(plain[x] - law[x]) for x in law) < 1e-12
    done = run(Jointly(Ancestral(2)), process, pattern="[abc]*", nulls=())
    assert_law(drawn(done), law)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("absorbing", 2),
        ("uniform", 1),
        pytest.param("absorbing", 1, marks=pytest.mark.slow),
        pytest.param("uniform", 2, marks=pytest.mark.slow),
    ],
)
def test_holes_of_languages_of_their_own_are_drawn_each_from_its_own_law(run, name, steps):
    """The first is a or b, of the second nothing is said, the third is b or nothing."""
    process, family = FAMILIES[name]

    def bounds(letters, rows):
        one = np.zeros(1, dtype=np.int64)
        first, third = (TokenMachine(machine(regex(p)), letters) for p in ("a|b", "b?"))
        return tuple(
            (Bound(Conditioner(first), 0, one, True), Bound(Conditioner(third), 2, one, True))
            for _ in range(rows)
        )

    among = [text for text in EVERY if text[0] != END and text[2] in (1, END)]
    law = ancestral(family, steps, among=among)
    assert_law(drawn(run(Jointly(Ancestral(steps)), process, bounds=bounds)), law)


@pytest.mark.parametrize("steps", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_composed_strategy_writes_parts_of_one_text_each_step(run, steps):
    strategy = Composed(order=Position(), steps=steps, temper=Temper(1.0))
    law = {(MASK,) * LENGTH: 1.0}
    for k in range(steps):
        after = defaultdict(float)
        for x, p in law.items():
            left = x.count(MASK)
            time = time_at(1 - left / LENGTH)
            write = -(-left // (steps - k))
            first = LENGTH - left
            for text, q in told(FAMILIES["absorbing"][1], x, time).items():
                wrote = (*x[:first], *text[first : first + write], *x[first + write :])
                after[wrote] += p * q
        law = after
    assert_law(drawn(run(strategy, Absorbing(VOCAB))), law)


def time_at(alpha):
    return (1 - alpha) / (1 - 1e-3)


def test_left_to_right_writing_never_runs_into_a_dead_end(run):
    tables = random_tables(VOCAB + 1, VOCAB, LENGTH, seed=8, timed=False)
    law = {(MASK,) * LENGTH: 1.0}
    for i in range(LENGTH):
        after = defaultdict(float)
        for x, p in law.items():
            ways = {v for text in LEGAL for v in [text[i]] if text[:i] == x[:i]}
            belief = tables.belief(x, 1.0)[i]
            for v in ways:
                after[(*x[:i], v, *x[i + 1 :])] += p * belief[v] / sum(belief[w] for w in ways)
        law = after
    done = run(Jointly(LeftToRight()), Sequential(VOCAB), tables=tables)
    assert_law(drawn(done), law)


def test_drafts_of_residual_sampling_are_texts_of_the_language(run):
    def energy(x0, xt, t, log_diff, valid=None):
        place = torch.arange(1, LENGTH + 1)
        return 2 * torch.cos(2.0 * (place * (x0 + 1)).sum(-1)).double() + 0.3 * log_diff

    def cost(text, belief):
        score = float(np.cos(2.0 * sum((i + 1) * (v + 1) for i, v in enumerate(text))))
        return 2 * score + 0.3 * sum(np.log(belief[i, v]) for i, v in enumerate(text))

    belief = TABLES.belief((MASK,) * LENGTH, 1.0)
    first, law = texts(belief, [None] * LENGTH), defaultdict(float)
    for one, other in product(first, first):
        odds = np.exp([-cost(one, belief), -cost(other, belief)])
        for text, share in zip((one, other), odds / odds.sum(), strict=True):
            law[text] += first[one] * first[other] * share
    done = run(Jointly(Edlm(steps=1, judge=energy)), Absorbing(VOCAB))
    assert_law(drawn(done), law)


@pytest.mark.parametrize("name", FAMILIES)
def test_strategies_that_end_with_the_likeliest_text_find_it(run, name):
    process, _ = FAMILIES[name]
    blank = (MASK,) * LENGTH
    if name == "absorbing":
        law = texts(TABLES.belief(blank, 1.0), [None] * LENGTH)
        best = max(law, key=lambda text: law[text])
        for strategy in (
            Jointly(GreedyTail(steps=1)),
            Jointly(Ancestral(1, last="mode")),
            Jointly(Ancestral(1), Temper(0.0)),
            Composed(steps=1),
        ):
            assert set(drawn(run(strategy, process, rows=3))) == {best}
        return
    done = run(Jointly(GreedyTail(steps=1)), process, rows=40)
    key = Key(rng.rows(0, 0, 40))
    canvas = start(process, torch.zeros(40, 3, dtype=torch.int64),
                   torch.zeros(40, 3, dtype=torch.bool), key)  # fmt: skip
    for x, text in zip(canvas.tokens.tolist(), drawn(done), strict=True):
        law = texts(TABLES.belief(tuple(x), 1.0), [None] * LENGTH)
        assert text == max(law, key=lambda some: law[some]), "the belief's own, no evidence"


def test_parts_judge_and_tell_by_what_the_model_says_itself(run):
    belief = TABLES.belief((MASK,) * LENGTH, 1.0)
    done = run(Composed(steps=1, temper=Temper(1.0)), Absorbing(VOCAB), rows=50)
    for text, sure in zip(drawn(done), done.confidence.tolist(), strict=True):
        assert sure == pytest.approx([belief[i, v] for i, v in enumerate(text)], rel=1e-5)


def test_remdm_remembers_what_the_model_said(as_denoiser):
    letters = vocabulary([b"a", b"b", None], (END,), "ab")
    bound = Bound(
        Conditioner(TokenMachine(machine(regex(PATTERN)), letters)), 0, np.zeros(3, np.int64)
    )
    process = Absorbing(VOCAB)
    denoise = ConstrainedDenoiser(as_denoiser(TABLES), process, ((bound,),))
    blank = torch.full((1, LENGTH), MASK)
    canvas = Canvas(blank, torch.zeros_like(blank, dtype=torch.bool))
    strategy = Jointly(ReMDM(steps=2, mode="conf"))
    after, _ = strategy.step(process, denoise, canvas, Key(rng.rows(1, 0, 1), 0))
    belief = TABLES.belief((MASK,) * LENGTH, 1.0)
    wrote = [(i, v) for i, v in enumerate(after.tokens[0].tolist()) if v != MASK]
    assert wrote, "this seed writes something in its first step"
    for i, v in wrote:
        assert after.memory[0, i].item() == pytest.approx(belief[i, v], rel=1e-5)


def test_the_marginals_of_a_constrained_denoiser_are_exact(as_denoiser):
    letters = vocabulary([b"a", b"b", None], (END,), "ab")
    tokens = TokenMachine(machine(regex(PATTERN)), letters)
    bound = Bound(Conditioner(tokens), 0, np.zeros(3, np.int64))
    denoise = ConstrainedDenoiser(as_denoiser(TABLES), Absorbing(VOCAB), ((bound,), ()))
    blank = torch.full((2, LENGTH), MASK)
    tied, free = denoise(blank, torch.ones(2, dtype=torch.float64)).double().exp()
    belief = TABLES.belief((MASK,) * LENGTH, 1.0)
    share = np.zeros((LENGTH, VOCAB))
    for text, p in texts(belief, [None] * LENGTH).items():
        for i, v in enumerate(text):
            share[i, v] += p
    assert np.allclose(tied.numpy(), share, atol=1e-6)
    assert np.allclose(free.numpy(), belief, atol=1e-6)


def test_guided_drafts_are_one_text(run):
    def judge(xt, t, focus, earlier):
        return torch.zeros(*focus.positions.shape, VOCAB).log_softmax(-1)

    done = run(Jointly(Guided(judge=judge, rule="original")), Absorbing(VOCAB), rows=30)
    assert all(legal(text) for text in drawn(done))

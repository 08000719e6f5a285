"""Reshaped beliefs: temperature, top-k and the nucleus as exact maps of a toy law."""

import pytest
import torch
from laws import assert_law
from oracle import decoding as oracle

from unison.decode import Canvas, decode, shaped, start
from unison.decode.api import Rowwise
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.guidance import free, unprompted
from unison.decode.order import Position
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Uniform
from unison.types import Focus, Shadowing

TOY = [0.4, 0.3, 0.2, 0.1]
NOISY, NOW = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, dtype=torch.float64)
BOTH = NOW.expand(2)


def belief(p):
    logp = torch.tensor(p).log()[None, None]
    return lambda xt, t, focus=None, earlier=None: logp


def reshaped(p=TOY, **settings):
    return shaped(belief(p), **settings)(NOISY, NOW)[0, 0].exp().tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, TOY),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 3}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_k": 9}, TOY),
        ({"top_p": 0.05}, [1, 0, 0, 0]),
        ({"top_p": 0.69}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.71}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_k": 3, "top_p": 0.8}, [4 / 9, 3 / 9, 2 / 9, 0]),  # 7/9 after top-k: one more
        ({"temperature": 0.5, "top_p": 0.8}, [16 / 25, 9 / 25, 0, 0]),  # tempered first
    ],
    ids=str,
)
def test_a_shaped_belief_is_the_stated_law(settings, expected):
    assert reshaped(**settings) == pytest.approx(expected, abs=1e-6)


def test_order_of_tokens_does_not_matter_to_truncation():
    assert reshaped([0.1, 0.4, 0.2, 0.3], top_p=0.69) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert reshaped([0.1, 0.4, 0.2, 0.3], top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7])


def test_ties_with_the_kth_token_are_kept():
    assert reshaped([0.4, 0.2, 0.2, 0.2], top_k=2) == pytest.approx([0.4, 0.2, 0.2, 0.2])


def test_temperature_zero_takes_the_first_of_two_best():
    assert reshaped([0.2, 0.4, 0.4, 0.0], temperature=0.0) == [0, 1, 0, 0]


def test_certain_tokens_stay_certain():
    """Carry-over makes one-hot beliefs; no setting may turn them into NaN."""
    for settings in ({"temperature": 0.0}, {"temperature": 0.3}, {"top_k": 2}, {"top_p": 0.5}):
        assert reshaped([0.0, 1.0, 0.0, 0.0], **settings) == [0, 1, 0, 0]


def test_the_default_is_the_denoiser_itself():
    denoise = belief(TOY)
    assert shaped(denoise) is denoise


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
    ],
)
def test_a_setting_outside_its_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* got"):
        shaped(belief(TOY), **{name: value})


def test_every_strategy_draws_from_the_shaped_belief(seed, as_denoiser, write):
    """One ancestral step of a nucleus-truncated belief: a product of truncated laws."""
    tables = oracle.random_tables(4, 3, 2, seed)
    denoise = shaped(as_denoiser(tables), temperature=0.7, top_k=2)
    drawn = write(Ancestral(1), Absorbing(3), denoise, {}, 2).tokens
    rows = []
    for p in tables.belief((3, 3), 1.0) ** (1 / 0.7):
        kept = p * (p >= sorted(p)[-2])
        rows.append(kept / kept.sum())
    assert_law(map(tuple, drawn.tolist()), oracle.as_dict(oracle.outer(rows)))


# --- classifier-free guidance --------------------------------------------------------------------


def law_of(said, without, scale):
    return free(belief(said), belief(without), scale)(NOISY, NOW)[0, 0].exp().tolist()


@pytest.mark.parametrize(
    ("scale", "weights"),
    [  # p_c^(s + 1) / p_u^s for p_c = (0.6, 0.3, 0.1), p_u = (0.3, 0.3, 0.4)
        (1.0, (0.36 / 0.3, 0.09 / 0.3, 0.01 / 0.4)),
        (2.0, (0.216 / 0.09, 0.027 / 0.09, 0.001 / 0.16)),
        (0.5, (0.6**1.5 / 0.3**0.5, 0.3**1.5 / 0.3**0.5, 0.1**1.5 / 0.4**0.5)),
    ],
)
def test_guidance_is_a_ratio_of_powers(scale, weights):
    expected = [w / sum(weights) for w in weights]
    assert law_of([0.6, 0.3, 0.1], [0.3, 0.3, 0.4], scale) == pytest.approx(expected, abs=1e-6)


def test_guidance_by_an_equal_belief_changes_nothing():
    assert law_of(TOY, TOY, 3.0) == pytest.approx(TOY, abs=1e-6)


def test_an_excluded_token_stays_excluded_and_none_is_infinite():
    assert law_of([0.5, 0.5, 0.0], [0.2, 0.3, 0.5], 1.0)[2] == 0
    assert law_of([0.5, 0.5, 0.0], [1.0, 0.0, 0.0], 1.0) == pytest.approx([1 / 3, 2 / 3, 0])
    assert law_of([0.0, 1.0, 0.0], [0.4, 0.3, 0.3], 4.0) == pytest.approx([0, 1, 0])


class Counting:
    """A table over two positions that counts what it is asked, row by row."""

    def __init__(self, tables, asked, rows=None):
        self.tables, self.asked = tables, asked
        self.rows = rows

    def keep(self, rows):
        return Counting(self.tables, self.asked, rows if self.rows is None else self.rows[rows])

    def __call__(self, xt, t, focus=None, earlier=None):
        self.asked += xt.tolist()
        said = self.tables[tuple(xt.unbind(1))].log().float()
        if earlier is not None:
            said = (said + earlier).log_softmax(-1)
        if focus is None:
            return said
        return said.gather(1, focus.positions[..., None].expand(-1, -1, said.shape[-1]))

    def shadow(self, xt, t, focus):
        return self(xt, t, focus), self(torch.full_like(xt, 3), t, focus)


@pytest.fixture
def counting(seed):
    tables = oracle.random_tables(4, 3, 3, seed, timed=False)
    return Counting(torch.from_numpy(tables.clean), [])


PROCESS = Absorbing(3)
PROMPTED = Canvas(
    torch.tensor([[1, 3, 0], [2, 3, 3]]),
    torch.tensor([[True, False, True], [True, False, False]]),
    valid=torch.tensor([[True, True, False], [True, True, True]]),
)


def test_the_unconditional_belief_reads_masks_for_the_prompt_and_keeps_padding(counting):
    hidden = unprompted(counting, PROCESS, PROMPTED)
    hidden(torch.tensor([[1, 2, 0], [2, 3, 1]]), BOTH)
    assert counting.asked == [[3, 2, 0], [3, 3, 1]]
    counting.asked.clear()
    assert isinstance(hidden, Rowwise)
    hidden.keep(torch.tensor([1]))(torch.tensor([[2, 0, 1]]), NOW)
    assert counting.asked == [[3, 0, 1]]


def test_guidance_hides_the_prompt_at_every_position_asked(counting):
    """The guided belief at a focus, with an earlier belief, is the formula on both answers."""
    guided = free(counting, unprompted(counting, PROCESS, PROMPTED), 1.5)
    xt, focus = PROMPTED.tokens, Focus(torch.tensor([[1], [2]]), torch.tensor([[0, 3]] * 2))
    earlier = torch.tensor([[[0.5, 0.3, 0.2]]] * 2).log()
    bare = torch.tensor([[3, 3, 0], [3, 3, 3]])
    said, without = (counting(x, BOTH, focus, earlier).double() for x in (xt, bare))
    expected = (without + 2.5 * (said - without)).log_softmax(-1)
    assert torch.allclose(guided(xt, BOTH, focus, earlier).double(), expected, atol=1e-5)
    assert isinstance(guided, Shadowing)
    for part, alone in zip(
        guided.shadow(xt, BOTH, focus), (xt, torch.full_like(xt, 3)), strict=True
    ):
        said = counting(alone, BOTH, focus).double()
        bare_said = counting(bare if alone is xt else alone, BOTH, focus).double()
        expected = (bare_said + 2.5 * (said - bare_said)).log_softmax(-1)
        assert torch.allclose(part.double(), expected, atol=1e-5)


def test_a_scale_of_nought_is_the_denoiser_and_costs_one_evaluation(counting):
    assert free(counting, unprompted(counting, PROCESS, PROMPTED), 0.0) is counting


def test_guidance_needs_a_mask():
    canvas = PROMPTED._replace(tokens=torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"the Uniform process has none; it must be absorbing"):
        unprompted(belief(TOY), Uniform(4), canvas)


@pytest.mark.parametrize("scale", [-0.5, float("inf"), float("nan")])
def test_a_scale_outside_its_range_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be at least 0 and finite, got"):
        free(belief(TOY), belief(TOY), scale)


def test_finished_rows_cost_a_wrapped_denoiser_nothing(counting):
    """One hole in the first row, two in the second: three rows are asked for, not four."""
    key, in_order = Key(rng.rows(0, 0, 2)), Composed(order=Position())
    canvas = start(PROCESS, PROMPTED.tokens, PROMPTED.given, key, PROMPTED.valid)
    plain = decode(in_order, PROCESS, belief_of(counting), canvas, key)
    for wrapped, times in (
        (counting, 1),
        (shaped(counting, temperature=0.7, top_k=2), 1),
        (free(counting, unprompted(counting, PROCESS, canvas), 1e-9), 2),
        (shaped(free(counting, unprompted(counting, PROCESS, canvas), 1e-9), top_p=0.9), 2),
    ):
        counting.asked.clear()
        done = decode(in_order, PROCESS, wrapped, canvas, key)
        assert len(counting.asked) == 3 * times
        assert torch.equal(done.tokens, plain.tokens)


def belief_of(counting):
    """The same without ``keep``."""
    return lambda xt, t, focus=None, earlier=None: counting(xt, t, focus, earlier)


def test_a_wrapper_can_only_what_it_wraps(counting):
    plain = belief(TOY)
    for wrapped in (shaped(plain, top_k=2), free(plain, counting, 1.0)):
        assert not isinstance(wrapped, Rowwise)
        assert not isinstance(wrapped, Shadowing)
    both = shaped(counting, top_k=2)
    assert isinstance(both, Rowwise)
    assert isinstance(both, Shadowing)
    focus = Focus(torch.tensor([[1], [2]]), torch.tensor([[0, 3]] * 2))
    assert ((both.shadow(PROMPTED.tokens, BOTH, focus)[1].exp() > 0).sum(-1) == 2).all()

"""Drawing in one program: the law of the torch path, whatever is tempered and left out."""

import numpy as np
import pytest
import torch

from unison.decode import Canvas, decode
from unison.decode import doubt as reference
from unison.decode.diffusion.composed import Composed
from unison.decode.temper import Temper
from unison.prob import categorical, kernels, truncation
from unison.prob.rng import Key, uniform
from unison.process import Absorbing

EXTREMES = [2.0**-54, 0.5, 1 - 2.0**-53]
WAYS = [(1.0, 1.0), (0.7, 1.0), (1.0, 0.9), (1.3, 0.5), (0.0, 1.0)]


def laws(size, rows, seed=0, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, size, generator=g)).to(device)


def uniforms(rows, device="cpu"):
    u = uniform(Key(torch.arange(rows)), 0, 1)[:, 0]
    u[: len(EXTREMES)] = torch.tensor(EXTREMES, dtype=torch.float64)[:rows]
    return u.to(device)


def kept(logits, temperature, top_p):
    """The law, float64: a nucleus by sorting, of equals the first ones."""
    p = (logits.double().cpu() / temperature).softmax(-1).numpy()
    order = np.argsort(-p, axis=-1, kind="stable")
    ordered = np.take_along_axis(p, order, -1)
    before = np.cumsum(ordered, -1) - ordered
    out = np.zeros_like(p)
    np.put_along_axis(out, order, np.where(before < top_p, ordered, 0.0), -1)
    return out / out.sum(-1, keepdims=True)


CASES = [(300, way) for way in WAYS[:4]] + [(1, WAYS[0]), (1, WAYS[2]), (5000, WAYS[1])]
HEAVY = [pytest.param(5000, way, marks=pytest.mark.slow) for way in WAYS[2:4]]  # many readings


@pytest.mark.parametrize(("size", "way"), [*CASES, *HEAVY])
def test_a_draw_is_the_inverse_cdf(size, way, device):
    """The uniform lies in the token's interval of the exact CDF, or within 1e-6 of it."""
    from unison.prob.kernels.draw import draw

    rows = 4
    logits, u = laws(size, rows, device=device), uniforms(rows, device)
    got = draw(logits, u, *way).cpu().numpy()
    law = kept(logits, *way)
    past = np.cumsum(law, -1)[np.arange(rows), got]
    mine = law[np.arange(rows), got]
    point = u.cpu().numpy()
    assert (mine > 0).all()
    assert (point < past + 1e-6).all()
    assert (point > past - mine - 1e-6).all()


@pytest.mark.parametrize("way", WAYS)
def test_it_draws_what_the_torch_path_draws(way, device):
    """None of these uniforms lies within 1e-6 of a boundary of its law."""
    from unison.prob.kernels.draw import draw

    logits, u = laws(300, 6, seed=1, device=device), uniforms(6, device)
    logp = truncation.temper(logits.log_softmax(-1), way[0])
    want = categorical.sample(truncation.top_p(logp, way[1]).cpu(), u.cpu())
    assert torch.equal(draw(logits, u, *way).cpu(), want)


def test_of_equals_the_nucleus_keeps_the_first(device):
    from unison.prob.kernels.draw import draw

    logits = torch.tensor([[0.0, 0, 0, 0, -1, 0, 0, 0]], device=device).expand(8, 8)
    u = torch.linspace(0.01, 0.99, 8, dtype=torch.float64, device=device)
    assert sorted(set(draw(logits, u, top_p=0.5).tolist())) == [0, 1, 2, 3]


def test_minus_infinity_is_never_drawn(device):
    """Whole tiles of it, the first or the last, and a row with one token left."""
    from unison.prob.kernels.draw import draw

    logits = torch.full((6, 9000), -torch.inf, device=device)
    logits[:2, 8999], logits[2:4, 0], logits[4:, 4096:4098] = 1.0, -3.0, 0.5
    u = torch.tensor([EXTREMES[0], EXTREMES[2]] * 3, dtype=torch.float64, device=device)
    assert draw(logits, u).tolist() == [8999, 8999, 0, 0, 4096, 4097]
    assert draw(logits, u, top_p=0.4).tolist() == [8999, 8999, 0, 0, 4096, 4096]


def test_a_row_does_not_see_its_batch_and_unwanted_rows_answer_zero(device, monkeypatch):
    monkeypatch.setattr(kernels, "fits", lambda logits: True)
    logits, u = laws(300, 8, seed=2, device=device), uniforms(8, device)
    together = categorical.sample(logits, u)
    alone = [categorical.sample(logits[i : i + 1], u[i : i + 1]) for i in range(8)]
    assert torch.equal(together, torch.cat(alone))
    wanted = torch.tensor([True, False] * 4, device=device)
    some = categorical.sample_where(logits.view(2, 4, -1), u.view(2, 4), wanted.view(2, 4))
    assert torch.equal(some.flatten(), together.where(wanted, 0))
    tempered = categorical.sample_tempered(logits.log_softmax(-1), u, 0.7, 0.9)
    assert tempered.shape == (8,)


def test_tempering_and_drawing_at_once_is_one_after_the_other():
    """The reference of the program, where there is no GPU."""
    belief, u = laws(300, 8, seed=3).log_softmax(-1), uniforms(8)
    logp = truncation.top_p(truncation.temper(belief, 0.7), 0.9)
    assert torch.equal(
        categorical.sample_tempered(belief, u, 0.7, 0.9), categorical.sample(logp, u)
    )
    assert torch.equal(categorical.sample_tempered(belief, u, 0.0), belief.argmax(-1))


TEMPERS = [Temper(0.7, top_p=0.9), Temper(1.0), Temper(0.9, 0.3), Temper(0.8, top_k=5, top_p=0.9)]


@pytest.mark.parametrize("temper", TEMPERS, ids=["nucleus", "own law", "falling", "top k"])
def test_a_temper_draws_from_the_belief_it_shapes(temper):
    belief, u = laws(50, 12, seed=6).log_softmax(-1).view(3, 4, -1), uniforms(12).view(3, 4)
    left = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    want = categorical.sample(temper.shape(belief, left), u)
    assert torch.equal(temper.drawn(belief, left, u), want)


class Table:
    """A belief that hangs on the place alone."""

    def __init__(self, logp):
        self.logp = logp

    def __call__(self, xt, t, focus=None, earlier=None):
        belief = self.logp.expand(len(xt), *self.logp.shape)
        if focus is None:
            return belief
        return belief.gather(1, focus.positions[..., None].expand(-1, -1, belief.shape[2]))


def test_a_strategy_whose_parts_judge_by_the_belief_draws_by_the_program(device, monkeypatch):
    """The same text as by torch: no uniform lies within 1e-6 of a boundary. Judging costs a law."""
    from unison.prob.kernels import draw as program

    asked, own = [], program.draw

    def drawn(logits, u, temperature=1.0, top_p=1.0, wanted=None):
        asked.append((temperature, top_p))
        return own(logits, u, temperature, top_p, wanted)

    belief = laws(300, 8, seed=7).log_softmax(-1)
    key = Key(torch.arange(2))
    blank = Canvas(torch.full((2, 8), 300), torch.zeros(2, 8, dtype=torch.bool))
    temper = Temper(0.7, top_p=0.9)
    want = decode(Composed(steps=3, temper=temper), Absorbing(300), Table(belief), blank, key)
    monkeypatch.setattr(kernels, "fits", lambda logits: logits.dtype is torch.float32)
    monkeypatch.setattr(program, "draw", drawn)
    blank = Canvas(blank.tokens.to(device), blank.given.to(device))
    key, denoise = Key(key.seed.to(device)), Table(belief.to(device))
    for judged, how in (("belief", (0.7, 0.9)), ("tempered", (1.0, 1.0))):
        asked.clear()
        strategy = Composed(steps=3, temper=temper, judged=judged)
        got = decode(strategy, Absorbing(300), denoise, blank, key)
        assert set(asked) == {how}
        if judged == "belief":
            assert torch.equal(got.tokens.cpu(), want.tokens)


@pytest.mark.parametrize("size", [1, 2, 300, 5000])
def test_doubt_is_that_of_the_torch_path(size, device, monkeypatch):
    """To 1e-6 nats and 1e-6 of a probability; of two equal best tokens neither leads."""
    logits = 2 * laws(size, 6, seed=4)
    logits[0], logits[1, size // 2 + 1 :] = 0.0, -torch.inf
    belief = logits.view(2, 3, -1).log_softmax(-1)
    want = reference.entropy(belief), reference.lead(belief)
    monkeypatch.setattr(kernels, "fits", lambda logits: True)
    got = reference.entropy(belief.to(device)).cpu(), reference.lead(belief.to(device)).cpu()
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)

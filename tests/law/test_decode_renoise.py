"""Renoising under the uniform process: the rates, and DiffusionGemma's whole loop."""

import numpy as np
import pytest
import torch
from laws import assert_count
from oracle.decoding import random_tables
from revising import LENGTH, VOCAB, before, picked, run
from sights import seen

from unison.decode import decode, start
from unison.decode.diffusion.composed import Composed
from unison.decode.order import Entropy
from unison.decode.revise import Renoise
from unison.decode.select import EntropyBound
from unison.decode.sight import SITE_REVISE, SITE_TARGET
from unison.decode.stop import Stable
from unison.decode.temper import Temper
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Uniform


def test_renoise_keeps_the_chosen_and_draws_all_else_of_the_block_anew():
    rows = 30_000
    sight = seen(torch.zeros(rows, 4, VOCAB).log_softmax(-1), candidate=torch.full((rows, 4), 1))
    outside = torch.tensor([True, True, True, False]).expand(rows, -1)
    sight = sight._replace(
        current=torch.full((rows, 4), 2),
        active=outside,
        open=outside,
        key=Key(rng.rows(0, 0, rows)),
    )
    written = Renoise().write(Uniform(VOCAB), sight, picked(sight, 0), before(rows), None)
    assert (written.tokens[:, 0] == 1).all()
    assert (written.tokens[:, 3] == 2).all()  # another block's
    for token in range(VOCAB):
        for place in (1, 2):
            assert_count(int((written.tokens[:, place] == token).sum()), rows, 1 / VOCAB)
    both = ((written.tokens[:, 1] == 0) & (written.tokens[:, 2] == 0)).sum()
    assert_count(int(both), rows, 1 / VOCAB**2)


def told(table, xt, said):
    """A self-conditioned toy: logits from the canvas, moved by the mean of what it said before."""
    mean = np.zeros(VOCAB) if said is None else np.exp(said).mean(0)
    return np.log(table[tuple(xt)]) + 3 * np.roll(mean, 1)


def softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def one_canvas(table, x, blocks, key, settings):
    """DiffusionGemma's loop (transformers' generation code) for one row, in numpy.

    Differs: the canvas outside the block is part of what the toy reads, and given positions stay.
    """
    steps, hot, cold, bound, patience, sure = settings
    x, evaluations = list(x), 0
    for block in blocks:
        said, history = None, []
        for n in range(steps, 0, -1):
            z = told(table, x, said)[block] / (cold + (hot - cold) * n / steps)
            p = softmax(z)
            uniforms = [
                rng.uniform(key.at(evaluations), site, LENGTH)[0].numpy()[block]
                for site in (SITE_TARGET, SITE_REVISE)
            ]
            drawn = [int(np.searchsorted(p[i].cumsum(), u)) for i, u in enumerate(uniforms[0])]
            best = z.argmax(-1).tolist()
            h = -(p * np.log(p)).sum(-1)
            so_far, kept = 0.0, set()
            for i in h.argsort():
                if so_far > bound:
                    break
                kept.add(int(i))
                so_far += h[i]
            for i, place in enumerate(block):
                x[place] = drawn[i] if i in kept else int(uniforms[1][i] * VOCAB)
            evaluations += 1
            recent = history[-patience:] if patience else []
            history.append(best)
            same = len(recent) == patience and all(old == best for old in recent)
            if (same and h.mean() < sure) or n == 1:
                break
            said = np.log(p)
        for i, place in enumerate(block):
            x[place] = best[i]
    return x, evaluations


@pytest.mark.parametrize("bound", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("patience", "sure"), [(1, 0.9), (0, 0.6), (2, 2.0)])
def test_renoising_by_entropy_is_diffusion_gemmas_loop(bound, patience, sure, seed):
    """Rows with other blocks beside them, given tokens inside, self-conditioning and all."""
    raw = random_tables(VOCAB, VOCAB, LENGTH, seed, timed=False).clean

    def denoise(xt, t, focus=None, earlier=None):
        rows = []
        for i, x in enumerate(xt.tolist()):
            where = focus.positions[i].tolist()
            block = sorted(set(where))
            known = None
            if earlier is not None and not torch.isinf(earlier[i]).all():
                known = np.stack([earlier[i, where.index(p)].numpy() for p in block])
            rows.append(told(raw, x, known)[where])
        return torch.tensor(np.stack(rows)).log_softmax(-1).float()

    strategy = Composed(
        order=Entropy(), select=EntropyBound(bound), revise=Renoise(), stop=Stable(patience, sure),
        temper=Temper(0.8, 0.4), steps=6, per_block=True, block_length=3, judged="tempered",
    )  # fmt: skip
    key = Key(rng.rows(seed, 0, 12))
    given = torch.arange(LENGTH) < torch.tensor([0, 1, 2, 4] * 3)[:, None]
    given[0, 1] = True
    canvas = start(Uniform(VOCAB), torch.ones(12, LENGTH, dtype=torch.long), given, key)
    done = decode(strategy, Uniform(VOCAB), denoise, canvas, key)
    spent = set()
    for i in range(12):
        first = int(given[i].long().argmin())
        spans = (range(first, first + 3), range(first + 3, LENGTH))
        blocks = [[p for p in span if p < LENGTH and not given[i, p]] for span in spans]
        text, evaluations = one_canvas(
            raw, canvas.tokens[i].tolist(), [b for b in blocks if b], Key(key.seed[i : i + 1]),
            (6, 0.8, 0.4, bound, patience, sure),
        )  # fmt: skip
        assert done.tokens[i].tolist() == text, i
        assert done.nfe[i] == evaluations
        spent.add(evaluations)
    assert len(spent) > 1, "all rows stopped together"


def test_at_temperature_nought_the_carried_belief_is_certain(seed):
    """The limit of low temperatures: everything is accepted, and the likeliest text comes back."""
    raw = torch.from_numpy(random_tables(VOCAB, VOCAB, LENGTH, seed, timed=False).clean)
    carried = []

    def denoise(xt, t, focus=None, earlier=None):
        carried.append(earlier)
        return raw[tuple(xt.unbind(1))].log().float()

    strategy = Composed(
        order=Entropy(), select=EntropyBound(0.1), revise=Renoise(), stop=Stable(),
        steps=8, judged="tempered",
    )  # fmt: skip
    key = Key(rng.rows(seed, 0, 1))
    nothing = torch.zeros(1, LENGTH, dtype=torch.bool)
    canvas = start(Uniform(VOCAB), torch.zeros(1, LENGTH, dtype=torch.long), nothing, key)
    done, path = run(strategy, denoise, canvas, Uniform(VOCAB), seed)
    assert torch.isinf(carried[0]).all()
    x = path[0][0].tolist()
    for step, now in enumerate(path[1:], 1):
        best = raw[tuple(x)].argmax(-1).tolist()
        assert now[0].tolist() == best
        if step < len(carried):
            assert carried[step][0].exp().tolist() == np.eye(VOCAB)[best].tolist()
        x = best
    assert done.nfe == len(path) - 1

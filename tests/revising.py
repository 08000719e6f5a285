"""Toy canvases, a table that can judge a token without seeing it, and steps made by hand."""

import torch
from sights import seen

from unison.decode import Canvas, decode
from unison.decode.sight import Past
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing

VOCAB, LENGTH = 3, 5
MASK = VOCAB
ABSORBING = Absorbing(VOCAB)
GIVEN = {1: 2}  # one position of the toy canvases


def before(rows=1, length=8, *, confidence=1.0, edits=0, wrote=0):
    """What earlier steps left behind."""
    whole = torch.zeros(rows, length, dtype=torch.long)
    number = torch.zeros(rows, dtype=torch.long)
    said = torch.as_tensor(confidence, dtype=torch.float64).expand(rows, length)
    return Past(whole - 1, said, number, number + edits, number + wrote)


def beliefs(*rows):
    """One row of beliefs, given as probabilities."""
    return torch.tensor([rows], dtype=torch.float64).log().float()


def standing(belief, tokens, **changes):
    """A sight of one block whose masks are open."""
    current = torch.tensor([tokens])
    sight = seen(belief, open_=current == MASK, **changes)
    return sight._replace(current=current)


def picked(sight, *places):
    chosen = torch.zeros_like(sight.open)
    chosen[:, list(places)] = True
    return chosen


def logits_of(table):
    return lambda x: table[tuple(x.unbind(1))].log()


class Exact:
    """The table as strategies see it; its shadows are its beliefs with the position masked."""

    def __init__(self, table):
        self.table = table

    def _at(self, said, focus):
        if focus is None:
            return said.log().float()
        return said.gather(1, focus.positions[..., None].expand(-1, -1, VOCAB)).log().float()

    def __call__(self, xt, t, focus=None, earlier=None):
        return self._at(self.table[tuple(xt.unbind(1))], focus)

    def without(self, xt):
        masked = [xt.index_fill(1, torch.tensor([i]), MASK) for i in range(xt.shape[1])]
        return torch.stack([self.table[tuple(x.unbind(1))][:, i] for i, x in enumerate(masked)], 1)

    def shadow(self, xt, t, focus):
        return self(xt, t, focus), self._at(self.without(xt), focus)


def blank(rows, given=None):
    """Canvases of masks but for some given tokens."""
    given = GIVEN if given is None else given
    tokens = torch.full((rows, LENGTH), MASK)
    for place, token in given.items():
        tokens[:, place] = token
    return Canvas(tokens, tokens != MASK)


def every_start():
    """Every pattern of one token given in up to all places."""
    tokens = torch.cartesian_prod(*[torch.tensor([0, MASK])] * LENGTH)[1:]
    tokens = torch.where((tokens == 0), torch.arange(LENGTH) % VOCAB, tokens)
    return Canvas(tokens, tokens != MASK)


def run(strategy, denoise, canvas, process=ABSORBING, seed=0):
    """The text, the evaluations and every canvas on the way."""
    seen_ = []
    key = Key(rng.rows(seed, 0, len(canvas.tokens)))
    done = decode(strategy, process, denoise, canvas, key, lambda _, now, __: seen_.append(now))
    return done, [now.tokens for now in seen_]

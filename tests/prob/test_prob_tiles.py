"""Tiles change what is kept in memory, never a number."""

import torch

from unison.decode import doubt
from unison.decode.sight import certainty
from unison.prob import categorical
from unison.prob.tiles import tiled


def laws(*shape: int) -> torch.Tensor:
    logits = 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    return logits.masked_fill(logits > 9, -torch.inf).log_softmax(-1)


def test_more_laws_than_fit_a_tile_are_read_as_each_is_alone():
    """Drawn tokens, entropies and certainties of [2, 9] laws over 60 000 tokens."""
    law = laws(2, 9, 60_000)
    u = torch.rand(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    drawn, h = categorical.sample(law, u), doubt.entropy(law)
    sure = certainty(law, drawn)
    for row in range(2):
        for place in range(9):
            one = law[row : row + 1, place : place + 1]
            token = categorical.sample(one, u[row : row + 1, place : place + 1])
            assert drawn[row, place] == token
            assert h[row, place] == doubt.entropy(one)[0, 0]
            assert sure[row, place] == certainty(one, token)[0, 0]


def test_entropy_and_certainty_agree_with_float64():
    law = laws(1, 6, 60_000)
    p = law.double().softmax(-1)
    wanted = torch.special.entr(p).sum(-1)
    torch.testing.assert_close(doubt.entropy(law), wanted, rtol=1e-6, atol=0)
    token = law.argmax(-1)
    found = certainty(law, token)
    torch.testing.assert_close(found, p.gather(-1, token[..., None])[..., 0], rtol=1e-5, atol=0)


def test_one_tile_is_one_call():
    asked = []

    def read(law):
        asked.append(law.shape)
        return law.sum(-1)

    tiled(read, torch.zeros(4, 5, 7))
    assert asked == [(4, 5, 7)]

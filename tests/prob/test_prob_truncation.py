"""The nucleus is the same whether all tokens are sorted or the likeliest alone."""

import pytest
import torch

from unison.prob import truncation


def nucleus(logp: torch.Tensor, p: float) -> torch.Tensor:
    """By walking down the tokens of one law, the first of equals first."""
    kept, mass = torch.full_like(logp, -torch.inf), 0.0
    for i in sorted(range(len(logp)), key=lambda i: (-float(logp[i]), i)):
        kept[i] = logp[i]
        mass += float(logp[i].exp())
        if mass >= p:
            break
    return kept.log_softmax(-1)


@pytest.mark.parametrize("sharpness", [0.0, 0.5, 3.0, 30.0])
@pytest.mark.parametrize("p", [0.1, 0.9, 0.999])
def test_the_nucleus_of_a_large_vocabulary_is_found_among_the_likeliest_or_all(sharpness, p):
    """Laws that need one token, some, or most; ``sharpness`` 0 ties everywhere."""
    draw = torch.Generator().manual_seed(3)
    logp = (sharpness * torch.randn(2, 3, 1000, generator=draw)).double().log_softmax(-1)
    found = truncation.top_p(logp, p)
    for law, kept in zip(logp.flatten(0, 1), found.flatten(0, 1), strict=True):
        torch.testing.assert_close(kept, nucleus(law, p), atol=1e-12, rtol=0)


@pytest.mark.parametrize("equals", [5, 200])
def test_of_equally_likely_tokens_at_the_border_the_first_are_kept(equals):
    """Also where more of them are equal than are looked at first."""
    p = torch.full((1, 1000), 0.1 / (999 - equals))
    p[0, 100 : 100 + equals] = 0.4 / equals
    p[0, 7] = 0.5
    kept = truncation.top_p(p.log(), 0.7)[0] > -torch.inf
    half = round(equals / 2 + 0.01)
    assert kept.nonzero()[:, 0].tolist() == [7, *range(100, 100 + half)]


@pytest.mark.parametrize("size", [9, 1000])
@pytest.mark.parametrize("truncate", [truncation.top_p, truncation.typical])
def test_a_mass_too_small_for_float32_keeps_one_token(truncate, size):
    logp = torch.randn(2, size, generator=torch.Generator().manual_seed(7)).log_softmax(-1)
    kept = truncate(logp, 5e-324)
    assert (kept > -torch.inf).sum(-1).tolist() == [1, 1]
    assert torch.equal(kept, truncate(logp, 1e-9))


def test_a_temperature_too_small_for_float32_leaves_the_likeliest():
    logp = torch.randn(2, 9, generator=torch.Generator().manual_seed(7)).log_softmax(-1)
    for cold in (5e-324, 1e-40, 1e-20):
        assert torch.equal(truncation.temper(logp, cold).exp(), truncation.temper(logp, 0.0).exp())


def test_a_law_does_not_see_those_truncated_with_it():
    draw = torch.Generator().manual_seed(5)
    sharp = (20 * torch.randn(1, 1000, generator=draw)).log_softmax(-1)
    flat = torch.zeros(1, 1000).log_softmax(-1)
    together = truncation.top_p(torch.cat([sharp, flat, sharp]), 0.8)
    assert torch.equal(together[0], truncation.top_p(sharp, 0.8)[0])
    assert torch.equal(together[1], truncation.top_p(flat, 0.8)[0])

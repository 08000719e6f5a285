"""Identities of the processes that hold for every vocabulary, belief and pair of times."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from unison.process import Absorbing, Uniform

levels = (
    st.tuples(st.floats(1e-4, 1.0), st.floats(0.0, 1.0))
    .map(
        lambda pair: (pair[0], pair[0] * pair[1])  # alpha_s, alpha_t <= alpha_s
    )
    .filter(lambda pair: pair[1] < 0.9999)
)
seeds = st.integers(0, 2**32)


def level(value, count=2):
    return torch.full((count,), value, dtype=torch.float64)


def belief(vocab, seed):
    g = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(2, 3, vocab, generator=g, dtype=torch.float64)
    return logits.log_softmax(-1)


@given(vocab=st.integers(1, 6), seed=seeds, pair=levels)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_the_absorbing_posterior_is_a_distribution(vocab, seed, pair):
    g = torch.Generator().manual_seed(seed)
    xt = torch.randint(0, vocab + 1, (2, 3), generator=g)
    posterior = Absorbing(vocab).log_posterior(xt, belief(vocab, seed), *map(level, pair)).exp()
    torch.testing.assert_close(posterior.sum(-1), torch.ones(2, 3).double())


@given(vocab=st.integers(2, 6), seed=seeds, pair=levels)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_the_uniform_posterior_is_a_distribution(vocab, seed, pair):
    g = torch.Generator().manual_seed(seed)
    xt = torch.randint(0, vocab, (2, 3), generator=g)
    posterior = Uniform(vocab).log_posterior(xt, belief(vocab, seed), *map(level, pair)).exp()
    torch.testing.assert_close(posterior.sum(-1), torch.ones(2, 3).double())


@given(vocab=st.integers(2, 6), seed=seeds, pair=levels)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_the_mixture_has_no_negative_part(vocab, seed, pair):
    p = belief(vocab, seed)[..., 0].exp()
    mix = torch.stack(Uniform(vocab).mixture(p, *map(level, pair)))
    assert (mix > -1e-12).all()
    torch.testing.assert_close(mix.sum(0), torch.ones(2, 3).double())


@given(vocab=st.integers(2, 5), clean=st.integers(0, 4), pair=levels)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_uniform_posterior_and_marginal_agree(vocab, clean, pair):
    """Chapman-Kolmogorov, all x_t at once, one a row of the batch."""
    clean, alpha_s, alpha_t = clean % vocab, *pair
    xt = torch.arange(vocab)[:, None]
    known = F.one_hot(torch.full((vocab, 1), clean), vocab).double().log()
    posterior = Uniform(vocab).log_posterior(
        xt, known, level(alpha_s, vocab), level(alpha_t, vocab)
    )
    weight = torch.full((vocab,), (1 - alpha_t) / vocab, dtype=torch.float64)
    weight[clean] += alpha_t
    marginal = (weight[:, None] * posterior.exp()[:, 0]).sum(0)
    want = torch.full((vocab,), (1 - alpha_s) / vocab, dtype=torch.float64)
    want[clean] += alpha_s
    torch.testing.assert_close(marginal, want, rtol=1e-9, atol=1e-12)

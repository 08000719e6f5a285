"""A self-conditioned network learns to read its earlier belief, in half of the rows."""

import torch

from unison.models import Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.train.self_conditioning import self_conditioned


def network():
    torch.manual_seed(0)
    made = Transformer(
        TransformerConfig(
            vocab_size=5, num_states=5, hidden=16, depth=1, heads=2, self_conditioning=True
        )
    ).double()
    for weight in made.parameters():
        if bool((weight == 0).all()):
            torch.nn.init.normal_(weight, std=0.5)
    return made


def test_about_half_of_the_rows_see_their_first_answer_and_the_others_see_nothing():
    made, rows = network(), 400
    tokens = torch.arange(rows * 4).reshape(rows, 4) % 5
    sigma = torch.full((rows,), 0.5).double()
    plain = made(tokens, sigma)
    informed = made(tokens, sigma, None, plain.float().softmax(-1).double())
    answer = self_conditioned(made, Key(rng.rows(0, 0, rows)))(tokens, sigma)
    saw = (answer - informed).abs().flatten(1).amax(1) < 1e-5
    blind = (answer - plain).abs().flatten(1).amax(1) < 1e-5
    assert bool((saw ^ blind).all())
    # Binomial(400, 1/2): outside these limits less than once in a million seeds.
    assert 150 <= int(saw.sum()) <= 250


def test_the_weight_that_reads_the_earlier_belief_gets_a_gradient():
    made = network()
    tokens = torch.arange(32).reshape(8, 4) % 5
    answer = self_conditioned(made, Key(rng.rows(0, 0, 8)))
    answer(tokens, torch.full((8,), 0.5).double()).square().sum().backward()
    assert float(made.earlier.weight.grad.abs().sum()) > 0

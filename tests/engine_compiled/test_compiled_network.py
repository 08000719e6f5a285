"""A compiled network gives the network's answers on every canvas, and a row still sees no batch."""

import itertools

import pytest
import torch
from tracing import traced

from unison.denoising import RowDenoiser
from unison.engine.compiled import Buckets, Compiled, Graphs, Settings, compiled, unfit
from unison.models import Transformer, TransformerConfig, View
from unison.models.config import MixtureConfig
from unison.process import Absorbing, Uniform, make_schedule
from unison.types import Focus

V = 11


def network(**changes):
    shape = {"hidden": 32, "depth": 2, "heads": 2, "max_length": 40, "cond_dim": 16}
    torch.manual_seed(3)
    made = Transformer(TransformerConfig(vocab_size=V, num_states=V + 1, **shape | changes)).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return made


def graphed(plain, compiler=lambda function: function):
    def blocks(inputs, sigma, valid):
        return plain.stream(inputs, sigma, valid, None, View())

    return Compiled(plain, Buckets(1, 40), Graphs(blocks, compiler, pytest.fail))


def tokens(length):
    return (torch.arange(length)[None] * 7 + length) % V


KINDS = {
    "bidirectional": {},
    "no time": {"time": "none"},
    "blocks": {"attention": "block_causal", "block_length": 8},
    "shifted": {"shifted": True},
    "learned places": {"positions": "learned"},
    "tied": {"tied": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_the_networks_to_rounding_at_every_length_and_wherever_read(kind):
    plain = network(**KINDS[kind])
    made = graphed(plain)
    with torch.no_grad():
        for length in (1, 5, 16, 17, 32, 40):
            inputs, sigma = tokens(length), torch.tensor([0.7])
            read = torch.tensor([[0, length - 1, length // 2]])
            for view in (None, View(read=read)):
                want, got = plain(inputs, sigma, view=view), made(inputs, sigma, view=view)
                assert got.shape == want.shape
                assert torch.allclose(got, want, atol=1e-5)
    lengths = {room for length in (1, 5, 16, 17, 32, 40) if (room := made.buckets.of(1, length))}
    assert made.graphs.compiled <= 2 * len(lengths)


def test_one_whole_graph_gives_the_networks_answers():
    plain = network(depth=1)
    made = graphed(plain, traced)
    with torch.no_grad():
        for length in (13, 16):
            inputs, sigma = tokens(length), torch.tensor([0.7])
            assert torch.allclose(made(inputs, sigma), plain(inputs, sigma), atol=1e-5)
    assert made.graphs.compiled == 2


def test_what_has_no_graph_is_answered_by_the_network_bit_for_bit():
    plain = network()
    made = graphed(plain, lambda function: pytest.fail("compiled"))
    long, sigma = tokens(16), torch.tensor([0.7])
    with torch.no_grad():
        mask = torch.ones(1, 16, 16, dtype=torch.bool).tril()
        places = torch.arange(16)[None] + 2
        for view in (View(mask=mask), View(positions=places)):
            assert torch.equal(made(long, sigma, view=view), plain(long, sigma, view=view))
        rows = long.expand(3, -1)
        assert torch.equal(made(rows, sigma.expand(3)), plain(rows, sigma.expand(3)))
    assert torch.equal(made(long, sigma), plain(long, sigma))  # it learns


@pytest.mark.parametrize(
    ("process", "compiler"), [(Absorbing, traced), (Uniform, lambda function: function)]
)
def test_a_rows_belief_is_the_same_alone_and_in_any_batch(process, compiler):
    made = graphed(network(depth=1), compiler)
    noise = process(V, make_schedule("log_linear"))
    rows, longest = 3, 24
    lengths = torch.tensor([24, 9, 17])
    xt = torch.stack([tokens(longest)[0] + row for row in range(rows)]) % V
    valid = torch.arange(longest) < lengths[:, None]
    time = torch.tensor([0.3, 0.9, 0.5], dtype=torch.float64)
    focus = Focus(torch.tensor([[1, 4, 8]] * rows), torch.tensor([[0, 9]] * rows))
    together = RowDenoiser(made, noise, valid)(xt, time, focus)
    for row in range(rows):
        one = slice(row, row + 1)
        width = int(lengths[row])
        here = Focus(focus.positions[one], focus.block[one])
        alone = RowDenoiser(made, noise)(xt[one, :width], time[one], here)
        assert torch.equal(alone[0], together[row])


def settings(said, seconds=(2.0, 1.0), compiler=lambda function: function):
    """Time evaluations by a clock that says the plain way takes so long, and the other so long."""
    ticks = itertools.cycle([0.0, seconds[0], 0.0, seconds[1]])
    return Settings(1, 16, lambda: next(ticks), said.append, compiler)


def test_auto_keeps_what_is_faster_and_says_so():
    plain, said = network(), []
    made = compiled(plain, "auto", settings(said))
    assert isinstance(made, Compiled)
    assert said == ["compiled evaluations are 2.00 times as fast (2.00 to 2.00 in 7 turns): used"]
    said.clear()
    assert compiled(plain, "auto", settings(said, (1.0, 1.0))) is plain
    assert said[0].endswith("not used")
    assert compiled(plain, "off", settings(said)) is plain
    assert isinstance(compiled(plain, "on", settings(said, (1.0, 9.0))), Compiled)


@pytest.mark.parametrize("how", ["on", "auto"])
def test_where_the_compiler_fails_the_network_comes_back_after_one_line(how):
    def broken(function):
        def graph(*arguments):
            raise RuntimeError("no C++ compiler")

        return graph

    plain, said = network(), []
    assert compiled(plain, how, settings(said, compiler=broken)) is plain
    assert said == ["not compiled, runs as it is: RuntimeError: no C++ compiler"]


UNFIT = {
    "left-to-right": {"attention": "causal"},
    "mixture": {"mixture": MixtureConfig(4, 2, 8)},
    "self-conditioned": {"self_conditioning": True},
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_cannot_be_compiled_is_refused_by_name_or_left_alone(kind):
    plain, said = network(**UNFIT[kind]), []
    assert kind.split("-")[0] in unfit(plain)
    with pytest.raises(ValueError, match=r"--compile on: .*use --compile off"):
        compiled(plain, "on", settings(said))
    assert compiled(plain, "auto", settings(said)) is plain


def test_a_compiled_network_is_the_network_to_those_who_ask_about_it():
    plain = network()
    made = graphed(plain)
    assert made.config is plain.config
    assert made.remembers
    assert list(made.state_dict()) == list(plain.state_dict())
    assert [id(w) for w in made.parameters()] == [id(w) for w in plain.parameters()]

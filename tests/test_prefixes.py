"""Beginnings of texts that requests share are read once, and change no answer."""

import itertools

import causal
import pytest
import torch

from unison.engine import Exact, Prefix
from unison.engine.denoiser import CachedDenoiser
from unison.engine.flow import Flow, Request, fused
from unison.engine.prefixes import Prefixes
from unison.models import Transformer, TransformerConfig
from unison.models.view import KeyValues
from unison.process import Absorbing, Sequential
from unison.types import Focus

CAUSAL = TransformerConfig(
    vocab_size=11, num_states=12, hidden=16, depth=2, heads=2, attention="causal", time="none"
)
BYTES = 2 * 2 * 16 * 4  # of one token: keys and values, layers, width, float32


def digits(seed, count, size):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(size, (count,), generator=draw).tolist()


def texts(count, seed=0):
    """Texts over three tokens, of 0 to 13 tokens: many share beginnings."""
    lengths = digits(seed, count, 14)
    return [digits(seed * 1000 + i, length, 3) for i, length in enumerate(lengths)]


def marked(text):
    """A memory whose entries tell what stands at and before each position, layer and part."""
    codes = [float(hash(tuple(text[: i + 1])) % 100_003) for i in range(len(text))]
    row = torch.tensor(codes)[None, None, :, None].expand(1, 2, -1, 8)
    return KeyValues(tuple(row + i for i in (0, 1)), tuple(row + i for i in (2, 3)))


@pytest.mark.parametrize("unit", [1, 2, 3, 5])
def test_the_longest_beginning_that_was_kept_is_found(unit):
    store = Prefixes(CAUSAL, unit, 10**9)
    kept = set()
    for number, text in enumerate(texts(150)):
        whole = range(unit, len(text) + 1, unit)
        want = max((n for n in whole if tuple(text[:n]) in kept), default=0)
        length, known = store.find(text)
        assert length == want
        if length:
            expected = marked(text)
            assert known is not None
            for part, parts in zip(known, expected, strict=True):
                for one, other in zip(part, parts, strict=True):
                    assert torch.equal(one, other[:, :, :length])
        if number % 2:
            store.keep(text, marked(text))
            kept |= {tuple(text[:n]) for n in whole}


@pytest.mark.parametrize("room", [1, 4, 9, 20])
def test_the_beginnings_used_last_are_those_that_stay(room):
    """Against a list of (beginning) by last use: forget the oldest until the new one fits."""
    unit = 2
    store = Prefixes(CAUSAL, unit, room * unit * BYTES)
    used = []  # beginnings, oldest first; a beginning after all that go on from it
    for number, text in enumerate(texts(150, seed=2)):
        parts = [tuple(text[:n]) for n in range(unit, len(text) + 1, unit)]
        known = list(itertools.takewhile(used.__contains__, parts))
        assert store.find(text)[0] == unit * len(known)
        used = touched(used, known)
        if number % 3 == 0:
            continue
        store.keep(text, marked(text))
        used = with_more(used, known, parts[len(known) :], room)
        assert store.counts.held == unit * len(used) <= unit * room
        assert store.counts.bytes == len(used) * unit * BYTES


def touched(used, beginnings):
    """Beginnings by last use after some were used, the shortest last."""
    return [one for one in used if one not in beginnings] + beginnings[::-1]


def with_more(used, known, more, room):
    """Beginnings by last use after others joined those known, as far as there is room."""
    for one in more:
        while len(used) >= room and used and used[0] not in known:
            used = used[1:]
        if len(used) >= room:
            break
        known = [*known, one]
        used = touched(used, known)
    return used


def test_what_is_found_stays_whole_when_the_store_forgets_it():
    store = Prefixes(CAUSAL, 2, 4 * BYTES)
    text, other = [1, 2, 3, 4], [5, 6, 7, 8]
    store.keep(text, marked(text))
    _, known = store.find(text)
    store.keep(other, marked(other))
    assert store.find(text)[0] == 0
    assert known is not None
    assert torch.equal(known.keys[1], marked(text).keys[1])


def test_what_was_kept_does_not_change_with_the_memory_it_came_from():
    store = Prefixes(CAUSAL, 2, 10**6)
    memory = KeyValues(*(tuple(one.clone() for one in part) for part in marked([1, 2])))
    store.keep([1, 2], memory)
    memory.keys[0].zero_()
    _, known = store.find([1, 2])
    assert known is not None
    assert torch.equal(known.keys[0], marked([1, 2]).keys[0])


def test_the_counts_tell_what_was_asked_found_and_forgotten():
    store = Prefixes(CAUSAL, 2, 4 * BYTES)
    store.find([1, 2, 3])
    store.keep([1, 2, 3, 4, 5], marked([1, 2, 3, 4, 5]))
    store.find([1, 2, 9, 9])
    assert store.counts == (7, 2, 0, 4, 4 * BYTES)
    store.keep([7, 7], marked([7, 7]))
    assert store.counts == (7, 2, 2, 4, 4 * BYTES)
    store.clear()
    assert store.counts == (7, 2, 6, 0, 0)
    assert store.find([1, 2])[0] == 0


@pytest.mark.parametrize(
    ("changes", "unit", "room", "message"),
    [
        ({"attention": "bidirectional"}, 1, 1, "where all see all"),
        ({"time": "adaln"}, 1, 1, "noise level"),
        ({"attention": "block_causal", "block_length": 4}, 6, 1, "multiple of .* 4, got 6"),
        ({}, 0, 1, "unit"),
        ({}, 1, -1, "bytes"),
    ],
)
def test_a_store_that_would_be_wrong_is_refused(changes, unit, room, message):
    settings = {**CAUSAL.__dict__, **changes}
    with pytest.raises(ValueError, match=message):
        Prefixes(TransformerConfig(**settings), unit, room)


def test_an_approximate_cache_takes_no_store():
    net = Transformer(CAUSAL)
    with pytest.raises(ValueError, match="exact"):
        CachedDenoiser(net, Absorbing(11), Prefix(), None, Prefixes(CAUSAL, 1, 1))


def network(**changes):
    net = Transformer(TransformerConfig(**{**CAUSAL.__dict__, **changes})).eval()
    draw = torch.Generator().manual_seed(7)
    for weight in net.requires_grad_(False).parameters():
        weight.copy_(torch.randn(weight.shape, generator=draw) * 0.4)
    return net


CASES = {
    "causal": ({"attention": "causal"}, Sequential(11), 1),
    "causal, by three": ({"attention": "causal"}, Sequential(11), 3),
    "blocks": ({"attention": "block_causal", "block_length": 4}, Absorbing(11), 4),
    "blocks, by two": ({"attention": "block_causal", "block_length": 4}, Absorbing(11), 8),
    "shifted": ({"attention": "causal", "shifted": True}, Absorbing(11), 2),
}
cases = pytest.mark.parametrize(("changes", "process", "unit"), CASES.values(), ids=CASES)


def opened(text, length, mask=11):
    return torch.tensor([text + [mask] * (length - len(text))])


def written(denoise, xt, given, unit):
    """Write greedily unit by unit; return every belief that was read, and the text."""
    beliefs, xt = [], xt.clone()
    for first in range(given, xt.shape[1]):
        block = first // unit * unit
        focus = Focus(torch.tensor([[first]]), torch.tensor([[block, block + unit]]))
        said = denoise(xt, torch.ones(1) * 0.5, focus)
        beliefs.append(said)
        xt[0, first] = said[0, 0].argmax()
    return torch.cat(beliefs, 1), xt


@cases
@pytest.mark.parametrize("room", [10**6, 10 * BYTES], ids=["all stays", "much is forgotten"])
def test_beliefs_and_texts_are_those_without_a_store(changes, process, unit, room):
    net = network(**changes)
    store = Prefixes(net.config, unit, room)
    block = net.config.block_length or 1
    base = digits(3, 12, 11)
    for number in range(10):
        share = 8 if number % 4 < 2 else digits(number, 1, 13)[0]
        text = (base[:share] + digits(100 + number, 12, 11))[: 5 + number % 8]
        xt = opened(text, 16)
        plain = CachedDenoiser(net, process, Exact())
        sharing = CachedDenoiser(net, process, Exact(), None, store)
        want, expected = written(plain, xt, len(text), block)
        got, wrote = written(sharing, xt, len(text), block)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        assert torch.equal(wrote, expected)
    assert store.counts.found > 0
    assert (store.counts.forgotten > 0) == (room < 10**6)


@cases
def test_a_prompt_read_before_is_not_computed_again(changes, process, unit):
    net = network(**changes)
    store = Prefixes(net.config, unit, 10**6)
    xt = opened(digits(5, 12, 11), 16)
    block = net.config.block_length or 1
    focus = Focus(torch.tensor([[12]]), torch.tensor([[12, 12 + block]]))
    computed = []
    for _ in range(2):
        denoise = CachedDenoiser(net, process, Exact(), None, store)
        denoise(xt, torch.ones(1), focus)
        computed.append(sum(denoise.tally.computed.values()))
    assert store.counts.found == 12 // unit * unit
    assert computed[0] - computed[1] == 12 // unit * unit - net.config.shifted


def test_rows_of_a_batch_begin_with_what_each_shares():
    net = network()
    process = Sequential(11)
    store = Prefixes(net.config, 2, 10**6)
    base = digits(8, 10, 11)
    xt = torch.cat([opened(base[:n] + digits(n, 10 - n, 11), 16) for n in (2, 6, 10)])
    valid = torch.arange(16) < torch.tensor([[16], [13], [14]])
    focus = Focus(torch.full((3, 1), 10), torch.tensor([[10, 11]]).expand(3, 2))
    first = opened(base, 16)
    CachedDenoiser(net, process, Exact(), None, store)(
        first, torch.ones(1), Focus(torch.tensor([[10]]), torch.tensor([[10, 11]]))
    )
    want = CachedDenoiser(net, process, Exact(), valid)(xt, torch.ones(3), focus)
    before = store.counts.found
    got = CachedDenoiser(net, process, Exact(), valid, store)(xt, torch.ones(3), focus)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert store.counts.found - before == 2 + 6 + 10


def requests(count):
    base = digits(9, 20, 7)
    made = []
    for number in range(count):
        share = digits(50 + number, 1, 20)[0]
        inputs = (causal.BEGIN, *base[:share], *digits(70 + number, 3, 7))
        made.append(Request(inputs, 5 + number % 4, seed=number))
    return made


@pytest.mark.parametrize("room", [10**7, 3000], ids=["all stays", "much is forgotten"])
def test_requests_that_flow_together_write_what_they_wrote_without_a_store(room):
    target = causal.target()
    some = requests(12)
    want = sorted(fused(target, some, slots=4))
    store = Prefixes(target.network.config, 4, room)
    flow = Flow(target, 4, 40, store)
    for request in some:
        flow.submit(request)
    got = []
    while flow.busy:
        got += flow.advance()
    got = sorted(got)
    assert [one[:3] for one in got] == [one[:3] for one in want]  # request, token, done
    sure = [one.probability for one in want]
    assert [one.probability for one in got] == pytest.approx(sure, abs=1e-5)
    assert store.counts.found > 0


def test_a_flow_reads_only_what_is_not_remembered():
    target = causal.target()
    read = []
    embed = target.network.embed
    handle = embed.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
    flow = Flow(target, 1, 40, Prefixes(target.network.config, 4, 10**7))
    for seed in range(2):
        flow.submit(Request((causal.BEGIN, *digits(4, 13, 7)), 1, seed))
    while flow.busy:
        flow.advance()
    handle.remove()
    assert read == [13, 1, 1, 1]

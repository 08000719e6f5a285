"""Latent thoughts against exact answers."""

import dataclasses
import itertools

import pytest
import torch
from speculating import TableDrafter, random_law

from unison.engine.reading import NetworkTarget
from unison.models import Transformer, TransformerConfig, stepping
from unison.models.stepping import Step
from unison.prob import rng
from unison.prob.rng import Key
from unison.speculation import tree as trees
from unison.speculation.builders.chain import Chain
from unison.speculation.loop import Speculation
from unison.speculation.parts import Text
from unison.speculation.policies.plain import Plain
from unison.speculation.proof import own_law, written_law
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.table import Table
from unison.speculation.tree import How, Level
from unison.speculation.verifiers.token import Token
from unison.thoughts import Mind, QuietStar, Schooling, Thinking, ponder, school, tell, think
from unison.thoughts.lesson import reinforced

V = 3
SIZES = {"vocab_size": V, "num_states": V + 1, "hidden": 8, "depth": 2, "heads": 2}
SHAPE = TransformerConfig(**SIZES, max_length=64, attention="causal", time="none")


def filled(module: torch.nn.Module, seed: int, size: float = 0.4) -> None:
    """Fill every weight with its own normals: nothing is zero, nothing symmetric."""
    with torch.no_grad():
        for number, w in enumerate(module.parameters()):
            key = Key(torch.tensor([1000 * seed + number]))
            w.copy_(rng.normal(key, 7, w.numel())[0].view(w.shape) * size)


def made(thinking: Thinking, seed: int = 0, **changes) -> tuple[Transformer, Mind]:
    network = Transformer(dataclasses.replace(SHAPE, **changes)).double().eval()
    filled(network, seed, 0.7)
    mind = Mind(thinking, network)
    filled(mind, seed + 500)
    with torch.no_grad():
        mind.marks.div_(thinking.scale)
    return network, mind.eval()


def plain(network: Transformer, inputs: torch.Tensor) -> torch.Tensor:
    """Return the network's hidden states without any thought."""
    at = torch.arange(inputs.shape[1]).expand_as(inputs)
    sees = at[:, :, None] >= at[:, None, :]
    return stepping.read(network, Step(inputs, at, at, sees), None)


TEXT = torch.tensor([[V, 0, 2, 1, 1, 0], [V, 2, 2, 0, 1, 2]])
KEY = Key(torch.tensor([11, 12]), 3)


def alone(network: Transformer, mind: Mind, text: list[int], key: Key, row: int):
    """Think after the last token of one text, token by token, each by a fresh forward pass.

    Returns the thought and the hidden state at its end.
    """
    width = network.config.hidden
    marks = mind.marks.detach() * mind.thinking.scale
    rows = [network.embed.weight[t] for t in text] + [marks[0]]
    thought = []
    for number in range(mind.thinking.tokens + 1):
        h = torch.stack([*rows] if number < mind.thinking.tokens else [*rows, marks[1]])[None]
        h = h.reshape(1, -1, width)
        inputs = torch.arange(h.shape[1])[None]
        probes = h[0].detach()
        sees = inputs[:, :, None] >= inputs[:, None, :]
        step = Step(-1 - inputs, inputs, inputs, sees)
        hidden = stepping.read(network, step, None, probes=probes)[0, -1]
        if number == mind.thinking.tokens:
            return thought, hidden
        law = network.logits(hidden[None, None])[0, 0].double().softmax(0)
        site = 4096 + number
        u = float(rng.uniform(Key(key.seed[row : row + 1], key.step), site, 32)[0, len(text) - 1])
        drawn = int((law.cumsum(0) <= u).sum())
        thought.append(drawn)
        rows.append(network.embed.weight[drawn])
    raise AssertionError


@pytest.mark.parametrize("changes", [{}, {"positions": "learned"}, {"kv_heads": 1}])
def test_parallel_thoughts_are_those_of_one_place_after_another(changes) -> None:
    network, mind = made(Thinking(tokens=3), **changes)
    with torch.no_grad():
        thoughts = think(network, mind, TEXT, KEY)
        after = ponder(network, mind, TEXT, thoughts).after
        for row, place in itertools.product(range(2), range(6)):
            text = TEXT[row, : place + 1].tolist()
            thought, hidden = alone(network, mind, text, KEY, row)
            assert thoughts[row, :, place].tolist() == thought
            torch.testing.assert_close(after[row, 0, place], hidden, rtol=1e-10, atol=1e-10)


def test_true_tokens_fed_after_a_thought_are_read_as_if_it_had_been_had_there_alone() -> None:
    network, mind = made(Thinking(tokens=2))
    with torch.no_grad():
        thoughts = think(network, mind, TEXT, KEY)
        after = ponder(network, mind, TEXT, thoughts, talk=3).after
    marks = mind.marks.detach() * mind.thinking.scale
    for row, place, ahead in itertools.product(range(2), range(4), range(3)):
        thought = [network.embed.weight[t] for t in thoughts[row, :, place]]
        text = [network.embed.weight[t] for t in TEXT[row]]
        way = [*text[: place + 1], marks[0], *thought, marks[1]]
        way += text[place + 1 : place + 1 + ahead]
        at = torch.arange(len(way))[None]
        step = Step(-1 - at, at, at, at[:, :, None] >= at[:, None, :])
        with torch.no_grad():
            hidden = stepping.read(network, step, None, probes=torch.stack(way))[0, -1]
        torch.testing.assert_close(after[row, ahead, place], hidden, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mix", ["hidden", "logp"])
def test_a_mind_whose_thoughts_do_not_count_changes_nothing(mix) -> None:
    network, _ = made(Thinking())
    mind = Mind(Thinking(tokens=2, mix=mix), network)
    with torch.no_grad():
        before = plain(network, TEXT)
        thoughts = think(network, mind, TEXT, KEY)
        seen = ponder(network, mind, TEXT, thoughts)
        mixed = mind.mixed(network, seen.before, seen.after[:, 0])
        own = network.logits(seen.before)
    torch.testing.assert_close(seen.before, before, rtol=1e-12, atol=1e-12)
    assert torch.equal(mixed.log_softmax(-1) if mix == "hidden" else mixed, own.log_softmax(-1))
    assert not torch.equal(seen.before, seen.after[:, 0])


def test_a_mind_whose_thoughts_alone_count_answers_what_it_thinks_at_their_end() -> None:
    for mix in ("hidden", "logp"):
        network, mind = made(Thinking(tokens=1, mix=mix))
        with torch.no_grad():
            for w in mind.head.parameters():
                w.zero_()
            list(mind.head.parameters())[-1].fill_(1.0)
            seen = ponder(network, mind, TEXT, think(network, mind, TEXT, KEY))
            mixed = mind.mixed(network, seen.before, seen.after[:, 0]).log_softmax(-1)
            torch.testing.assert_close(mixed, network.logits(seen.after[:, 0]).log_softmax(-1))


@pytest.mark.parametrize("mix", ["hidden", "logp"])
def test_gradients_of_the_mixed_loss_are_finite_differences(mix) -> None:
    network, mind = made(Thinking(tokens=2, mix=mix, scale=3.0))
    thoughts = think(network, mind, TEXT, KEY)
    schooling = Schooling(talk=3)
    weights = [*network.parameters(), *mind.parameters()]

    def mixed() -> torch.Tensor:
        told = tell(network, mind, TEXT, thoughts, schooling)
        return (told.within * told.counted).sum()

    grads = torch.autograd.grad(mixed(), weights)
    for number, (w, grad) in enumerate(zip(weights, grads, strict=True)):
        way = rng.normal(Key(torch.tensor([number + 77])), 0, w.numel())[0].view(w.shape)
        sides = []
        with torch.no_grad():
            for sign in (1, -1):
                w += sign * 1e-7 * way
                sides.append(float(mixed()))
                w -= sign * 1e-7 * way
        slope = (sides[0] - sides[1]) / 2e-7
        assert slope == pytest.approx(float((grad * way).sum()), rel=1e-5, abs=1e-5)


def test_losses_are_those_of_the_tokens_they_name_and_padding_does_not_count() -> None:
    network, mind = made(Thinking(tokens=1))
    valid = torch.ones_like(TEXT, dtype=torch.bool)
    valid[1, 4:] = False
    with torch.no_grad():
        thoughts = think(network, mind, TEXT, KEY)
        told = tell(network, mind, TEXT, thoughts, Schooling(talk=3), valid)
        nats = -network.logits(plain(network, TEXT)).log_softmax(-1)
    assert told.counted.sum(2).tolist() == [[5, 4, 3], [3, 2, 1]]
    for row, ahead, place in told.counted.nonzero().tolist():
        token = int(TEXT[row, place + ahead + 1])
        assert float(told.without[row, ahead, place]) == pytest.approx(
            float(nats[row, place + ahead, token]), abs=1e-10
        )
    by_hand = torch.zeros(2, 5, dtype=torch.float64)
    for row, ahead, place in told.counted.nonzero().tolist():
        saved = told.without[row, ahead, place] - told.within[row, ahead, place]
        by_hand[row, place] += saved
    torch.testing.assert_close(told.reward, by_hand)


@pytest.mark.parametrize("tokens", [1, 2])
def test_reinforce_has_the_exact_gradient_of_the_expected_reward(tokens) -> None:
    network, mind = made(Thinking(tokens=tokens, scale=2.0))
    text = TEXT[:1, :4]
    schooling = Schooling(talk=2, temperature=1.0, baseline="others", clamp=False)
    every = torch.tensor(list(itertools.product(range(V), repeat=tokens)))
    ways = len(every)
    thoughts = every[:, :, None].expand(-1, -1, text.shape[1])
    told = tell(network, mind, text.expand(ways, -1), thoughts, schooling)
    chance = told.logp.exp()
    torch.testing.assert_close(chance.sum(0), torch.ones(3, dtype=torch.float64))
    weights = [*network.parameters(), mind.marks]
    exact = torch.autograd.grad(-(chance * told.reward).sum(), weights, retain_graph=True)
    one, other = (
        part.flatten() for part in torch.meshgrid(*[torch.arange(ways)] * 2, indexing="ij")
    )
    both = torch.stack([one, other], 1).flatten()
    pairs = type(told)(*(part[both] for part in told))
    each = reinforced(pairs, schooling).unflatten(0, (-1, 2)).mean(1)
    expected = ((chance[one] * chance[other]).detach() * each).sum()
    estimate = torch.autograd.grad(expected, weights)
    assert max(float(g.abs().max()) for g in exact) > 1e-3
    for a, b in zip(exact, estimate, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_learning_from_drawn_thoughts_is_descent_on_the_expected_loss_with_a_thought() -> None:
    network, mind = made(Thinking(tokens=1, scale=2.0))
    text = TEXT[:1, :4]
    schooling = Schooling(talk=1, temperature=1.0, baseline="others", clamp=False)
    thoughts = torch.arange(V)[:, None, None].expand(-1, -1, 4)
    told = tell(network, mind, text.expand(V, -1), thoughts, schooling)
    chance = told.logp.exp()
    weights = [*network.parameters(), *mind.parameters()]
    exact = torch.autograd.grad((chance * told.within[:, 0]).sum(), weights, retain_graph=True)
    both = torch.cartesian_prod(torch.arange(V), torch.arange(V)).flatten()
    pairs = type(told)(*(part[both] for part in told))
    each = (pairs.within[:, 0] + reinforced(pairs, schooling)).unflatten(0, (-1, 2)).mean(1)
    weight = chance[both].unflatten(0, (-1, 2)).prod(1).detach()
    estimate = torch.autograd.grad((weight * each).sum(), weights)
    for a, b in zip(exact, estimate, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_published_baseline_halves_the_gradient_and_clamping_drops_what_was_worse() -> None:
    network, mind = made(Thinking(tokens=1))
    thoughts = think(network, mind, TEXT, KEY)
    told = tell(network, mind, TEXT, thoughts, Schooling(talk=1))._replace(
        logp=torch.ones(2, 5, dtype=torch.float64)
    )
    told = told._replace(counted=torch.ones(2, 1, 5, dtype=torch.bool))
    apart = (told.reward[0] - told.reward[1]) / 2
    mean = reinforced(told, Schooling(clamp=False))
    torch.testing.assert_close(mean, torch.stack([-apart, apart]))
    others = reinforced(told, Schooling(clamp=False, baseline="others"))
    torch.testing.assert_close(others, 2 * mean)
    assert torch.equal(reinforced(told, Schooling()), mean.clamp(max=0))


def test_a_row_thinks_the_same_in_any_batch() -> None:
    network, mind = made(Thinking(tokens=3))
    both = think(network, mind, TEXT, KEY)
    second = think(network, mind, TEXT[1:], Key(KEY.seed[1:], KEY.step))
    assert torch.equal(both[1:], second)
    one = school(network, mind, TEXT[1:], Key(KEY.seed[1:], KEY.step), Schooling())
    again = school(network, mind, TEXT[1:], Key(KEY.seed[1:], KEY.step), Schooling())
    assert torch.equal(one.loss, again.loss)
    assert int(one.places) == 2 * 5


def test_what_a_batch_taught_is_the_means_of_its_parts() -> None:
    network, mind = made(Thinking(tokens=1))
    schooling = Schooling(talk=2, base=0.3, mixed=0.6, policy=2.0)
    valid = torch.ones_like(TEXT, dtype=torch.bool)
    valid[1, 3:] = False
    taught = school(network, mind, TEXT, KEY, schooling, valid)
    seeds = torch.stack([rng.derived(KEY.seed, number) for number in (0, 1)], 1).flatten()
    texts = TEXT.repeat_interleave(2, 0)
    thoughts = think(network, mind, texts, Key(seeds, KEY.step))
    told = tell(network, mind, texts, thoughts, schooling, valid.repeat_interleave(2, 0))
    here = told.counted[:, 0]
    parts = (
        told.without[:, 0][here].mean(),
        told.within[told.counted].mean(),
        reinforced(told, schooling)[here].mean(),
    )
    assert int(taught.places) == int(here.sum()) == 2 * (5 + 2)
    expected = 0.3 * parts[0] + 0.6 * parts[1] + 2.0 * parts[2]
    torch.testing.assert_close(taught.loss, expected)
    torch.testing.assert_close(taught.base, parts[0].detach())
    torch.testing.assert_close(taught.mixed, told.within[:, 0][here].mean().detach())
    torch.testing.assert_close(taught.reward, told.reward[here].mean())


def branching() -> trees.Tree:
    """Two rows of a root with two children, the first with two more."""
    tree = trees.planted(torch.tensor([1, 2]), V)
    zero = torch.zeros(2, 2, dtype=torch.int64)
    real = torch.zeros(2, 2)
    rank = torch.tensor([[0, 1], [0, 1]])
    live = torch.ones(2, 2, dtype=torch.bool)
    for tokens, parent in (([[0, 2], [1, 0]], 0), ([[1, 2], [2, 0]], 1)):
        level = Level(
            torch.tensor(tokens), zero + parent, rank, zero + How.FIXED, real, real + 1, live
        )
        tree = trees.sized(trees.grown(tree, level), 2, tree.height + 1)
    return tree


@pytest.mark.parametrize("tokens", [0, 1, 3])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_law_at_every_node_of_a_tree_is_that_of_its_text_read_token_by_token(
    tokens, temperature
) -> None:
    network, mind = made(Thinking(tokens=tokens, temperature=temperature))
    target = NetworkTarget(network, V)
    policy = QuietStar(mind, Plain(temperature=0.8), seed=5)
    prompts = Text(torch.tensor([[V, 0, 1, 1], [V, 2, 9 % V, 2]]), torch.tensor([4, 4]))
    prompts = prompts._replace(length=torch.tensor([3, 4]))
    roots = prompts.tokens.gather(1, prompts.length[:, None] - 1)[:, 0]
    tree = branching()._replace(
        tokens=branching().tokens.index_copy(1, torch.tensor([0]), roots[:, None])
    )
    reading, judging = target.open(2), policy.open(target, 2)
    judging.begin(prompts, reading.read(prompts.tokens[:, :-1], prompts.length - 1))
    law = judging.law(tree, reading.score(tree))
    for row, node in itertools.product(range(2), range(5)):
        way, at = [], node
        while at >= 0:
            way.insert(0, int(tree.tokens[row, at]))
            at = int(tree.parent[row, at])
        text = prompts.tokens[row, : prompts.length[row] - 1].tolist() + way
        expected = by_hand(network, mind, text, 5).div(0.8).log_softmax(-1)
        found = law.at(torch.full((2,), node))[row].double()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def by_hand(network: Transformer, mind: Mind, text: list[int], seed: int) -> torch.Tensor:
    """Return the logits after a text and a thought, with the head's own formula."""
    inputs = torch.tensor([text])
    key = Key(torch.tensor([seed]))
    with torch.no_grad():
        before = plain(network, inputs)[0, -1]
        thoughts = think(network, mind, inputs, key)
        after = ponder(network, mind, inputs, thoughts).after[0, 0, -1]
        layers = [m for m in mind.head if isinstance(m, torch.nn.Linear)]
        w = torch.cat([before, after])
        for number, layer in enumerate(layers):
            w = layer.weight @ w + layer.bias
            w = w.relu() if number < 2 else w
        return network.logits(((1 - w) * before + w * after)[None, None])[0, 0]


def test_commits_move_the_thinking_on_and_rows_that_end_leave_the_others_alone() -> None:
    network, mind = made(Thinking(tokens=2))
    target = NetworkTarget(network, V)
    policy = QuietStar(mind, seed=9)
    prompts = Text(torch.tensor([[V, 0, 1], [V, 2, 2]]), torch.tensor([3, 3]))
    reading, judging = target.open(2), policy.open(target, 2)
    judging.begin(prompts, reading.read(prompts.tokens[:, :-1], prompts.length - 1))
    first = branching()
    tree = first._replace(tokens=torch.cat([prompts.tokens[:, -1:], first.tokens[:, 1:]], 1))
    judging.law(tree, reading.score(tree))
    path = torch.tensor([[0, 1, 4], [0, 2, -1]])
    reading.commit(path)
    judging.commit(path)
    rows = torch.tensor([1])
    reading, judging = reading.keep(rows), judging.keep(rows)
    root = trees.planted(torch.tensor([1]), V)
    found = judging.law(root, reading.score(root)).at(torch.zeros(1, dtype=torch.int64))[0]
    expected = by_hand(network, mind, [V, 2, 2, int(tree.tokens[1, 2]), 1], 9)
    torch.testing.assert_close(found.double(), expected.log_softmax(-1), rtol=1e-5, atol=1e-5)


def test_speculation_with_thoughts_writes_the_law_of_thinking_token_by_token() -> None:
    network, mind = made(Thinking(tokens=1))
    drafter = TableDrafter(random_law(4))
    how = Speculation(drafter, Chain(sampled=True), Token(), Fixed(2), QuietStar(mind, seed=2))
    target = NetworkTarget(network, V)
    law, _, _ = written_law(how, target, [1], 2)
    truth = own_law(how.policy, target, [1], 2)
    bare = own_law(Plain(), target, [1], 2)
    assert max(abs(law.get(text, 0) - truth[text]) for text in truth) < 1e-6
    assert max(abs(bare[text] - truth[text]) for text in truth) > 1e-3


def test_targets_that_cannot_think_are_refused() -> None:
    _, mind = made(Thinking())
    with pytest.raises(ValueError, match="got a Table"):
        QuietStar(mind).open(Table(random_law(0), V), 1)
    other, _ = made(Thinking(), hidden=16)
    with pytest.raises(ValueError, match="of width 8 and the network of width 16"):
        QuietStar(mind).open(NetworkTarget(other, V), 1)


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        *((Thinking, *one) for one in (("tokens", -1), ("temperature", -1.0), ("scale", 0.0))),
        *((Schooling, *one) for one in (("talk", 0), ("passes", 1), ("policy", -1.0))),
        (Schooling, "temperature", 0.0),
    ],
)
def test_settings_out_of_range_are_refused(kind, setting, value) -> None:
    with pytest.raises(ValueError, match=setting):
        kind(**{setting: value})

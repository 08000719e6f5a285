"""What every drafter inside its target promises: heads, prompt tokens and transferred streams."""

import inside
import pytest
import torch
from inside import KINDS, fitted, greedy, network, said

from unison.drafters import futures as comparing
from unison.drafters.kind import Kind
from unison.drafters.ppd_tree import Sparse, designed
from unison.engine.reading import NetworkTarget
from unison.prob.rng import Key
from unison.speculation import tree as trees
from unison.speculation.builders.chain import Chain
from unison.speculation.builders.static import Static
from unison.speculation.builders.top_k import TopK
from unison.speculation.loop import Speculation, speculate
from unison.speculation.parts import Outcome, Plan
from unison.speculation.policies.plain import Plain
from unison.speculation.proof import Scripted, prove
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.token import Token

PROMPTS = [[1, 2, 3, 0, 5], [], [4], [0, 1]]
DESIGN = designed([[0.4, 0.2, 0.1], [0.3, 0.2, 0.1]], 10)
BUILDERS = {
    "chain": Chain(),
    "static": Static(((0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0))),
    "top k": TopK(),
    "sparse": Sparse(DESIGN.shapes),
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
VARIANTS = ("medusa, own outputs", "ppd, two members", "hidden transfer at one block")


def crossed(ways, of_variants):
    """Every kind in every way, but variants of a kind in one: the others in the slow suite."""
    return [
        pytest.param(
            KINDS[name],
            way,
            id=f"{said}-{name}",
            marks=pytest.mark.slow if name in VARIANTS and said != of_variants else (),
        )
        for said, way in ways.items()
        for name in KINDS
    ]


probing = pytest.mark.parametrize("name", [name for name in KINDS if "medusa" not in name])


def at_zero(drafter, builder, depth=3):
    return Speculation(drafter, builder, Match(), Fixed(depth), Plain(temperature=0.0))


@pytest.mark.parametrize(("kind", "builder"), crossed(BUILDERS, "sparse"))
def test_at_temperature_zero_the_text_is_that_of_plain_greedy_decoding(kind, builder):
    net = network()
    target, drafter = fitted(kind, net)
    spoken = said(at_zero(drafter, builder), target, PROMPTS, 12)
    assert spoken.tokens == [greedy(net, prompt, 12) for prompt in PROMPTS]
    assert spoken.lossless


LAWS = {
    "a tree of the likeliest": (Static(((0,), (1,), (0, 1))), Match()),
    "a drawn chain": (Chain(sampled=True), Token()),
}


@pytest.mark.parametrize(("kind", "how"), crossed(LAWS, "a tree of the likeliest"))
def test_at_temperature_one_every_text_has_the_targets_probability(kind, how):
    net = network(3, seed=4)
    target, drafter = fitted(kind, net)
    builder, verifier = how
    proof = prove(Speculation(drafter, builder, verifier, Fixed(2)), target, [1], 4)
    assert proof.ways >= 81
    assert proof.error < 1e-6


@kinds
def test_a_row_is_written_as_if_it_were_alone(kind):
    target, drafter = fitted(kind, network())
    for builder in (BUILDERS["static"], BUILDERS["sparse"]):
        how = Speculation(drafter, builder, Match(), Fixed(3), Plain())
        together = said(how, target, PROMPTS, 9)
        for row, prompt in enumerate(PROMPTS):
            ask = inside.asked(target.begin, [prompt], 9, seed=row)
            alone = speculate(how, target, ask)
            assert alone.tokens[0] == together.tokens[row]
            assert alone.rounds[0] == together.rounds[row]


@kinds
def test_a_text_ends_where_the_learned_places_end(kind):
    net = network(positions="learned", max_length=14)
    target, drafter = fitted(kind, net)
    spoken = said(at_zero(drafter, BUILDERS["static"]), target, PROMPTS, 99)
    for prompt, tokens in zip(PROMPTS, spoken.tokens, strict=True):
        assert tokens == greedy(net, prompt, 14 - 1 - len(prompt))


@kinds
def test_what_is_guessed_when_drafting_is_what_was_taught(kind):
    net = network()
    target, drafter = fitted(kind, net)
    module = kind.module(net)
    inside.randomise(module, 1.0, 1)
    text = torch.tensor([[6, 1, 2, 3, 0, 5, 1, 1, 4, 2], [6, 4, 4, 0, 1, 2, 5, 3, 3, 3]])
    ahead = kind.lesson(module, net, text, Key(torch.arange(2))).hits.numel()
    key = Key(torch.arange(2))
    futures = kind.futures(module, net, text, key)
    places = comparing.cuts(text, kind.places, ahead, key)
    for row in range(2):
        for column, place in enumerate(places[row].tolist()):
            drafting = _after(target, drafter, text[row : row + 1, : place + 1])
            guessed = drafting.ahead
            taught = futures.guesses[row, column].log_softmax(-1)
            assert guessed.reach.tolist() == [ahead]
            torch.testing.assert_close(guessed.logq[0], taught, atol=1e-5, rtol=0)


@kinds
def test_the_truth_of_a_lesson_is_what_the_target_says_once_it_has_read_so_far(kind):
    net = network()
    text = torch.randint(0, 6, (3, 12), generator=torch.Generator().manual_seed(0))
    text[:, 0] = 6
    key = Key(torch.arange(3), 5)
    futures = kind.futures(kind.module(net), net, text, key)
    with torch.no_grad():
        own = net(text, torch.zeros(3))
    ahead = futures.text.shape[2]
    places = comparing.cuts(text, kind.places, ahead, key)
    for row in range(3):
        for column, place in enumerate(places[row].tolist()):
            for j in range(ahead):
                truth = own[row, place + 1 + j]
                torch.testing.assert_close(futures.truth[row, column, j], truth, atol=1e-5, rtol=0)
                assert futures.text[row, column, j] == text[row, place + 2 + j]


def _after(target, drafter, inputs):
    """The drafting after the target has read these inputs, the last of them as a root."""
    length = torch.tensor([inputs.shape[1]])
    reading, drafting = target.open(1), drafter.open(target, 1)
    scores = reading.read(inputs[:, :-1], length - 1)
    drafting.begin(inside.Text(inputs, length), scores)
    tree = drafting.finish(trees.planted(inputs[:, -1], target.vocab_size))
    path = torch.zeros(1, 1, dtype=torch.int64)
    scores = reading.score(tree)
    token = scores.logits[:, :1].argmax(-1)
    drafting.observe(Outcome(tree, scores, path, token, (1,), (0,)))
    return drafting


@kinds
def test_gradients_reach_the_drafters_weights_and_no_others(kind):
    net = network()
    net.requires_grad_(True)
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    text = torch.randint(0, 6, (4, 16), generator=torch.Generator().manual_seed(0))
    module, _ = inside.trained(kind, net, [text] * 3, 1e-2)
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in module.parameters())
    assert all(w.grad is None and w.requires_grad for w in net.parameters())
    assert all(torch.equal(w, before[name]) for name, w in net.named_parameters())


@pytest.fixture(scope="module")
def counter():
    """A target that has learnt to count."""
    net = network(8, hidden=32, depth=4)
    inside.randomise(net, 1.0, 3)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(150):
        text = counted(16, step)
        said = net(text[:, :-1], torch.zeros(16))[:, 1:]
        loss = torch.nn.functional.cross_entropy(said.flatten(0, 1), text[:, 2:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.requires_grad_(False)


def counted(rows: int, seed: int, length: int = 24) -> torch.Tensor:
    """Texts that count up by one, modulo 8, from anywhere."""
    start = torch.randint(0, 8, (rows, 1), generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.full((rows, 1), 8), (start + torch.arange(length)) % 8], 1)


@pytest.mark.parametrize("name", [name for name in KINDS if "ppd" not in name])
def test_training_finds_what_can_be_foreseen_and_more_is_accepted(name, counter):
    kind = KINDS[name]
    module, lessons = inside.trained(kind, counter, [counted(8, 500 + i) for i in range(80)], 2e-2)
    first, last = lessons[0], lessons[-1]
    assert (first.hits < 0.1 * first.places).all()
    assert (last.hits > 0.85 * last.places).all()
    assert float(last.loss.total.detach()) < 0.1 * float(first.loss.total.detach())
    ahead, prompt, forwards = len(first.hits), [[3, 4, 5, 6]], []
    for weights in (module, kind.module(counter)):
        drafter = kind.drafter(weights.eval(), counter)
        target = inside.prepared(NetworkTarget(counter, 8), drafter)
        spoken = said(at_zero(drafter, Chain(), ahead), target, prompt, 24)
        assert spoken.tokens[0] == greedy(counter, prompt[0], 24)
        forwards.append(spoken.forwards[0])
    assert forwards[0] <= 16 < 22 <= forwards[1]


@pytest.mark.parametrize("name", ["ppd", "ppd, two members"])
def test_training_brings_prompt_tokens_closer_to_the_targets_own_law(name, counter):
    # Counting needs no attention, so that the few embeddings have little to hold on to.
    lessons = inside.trained(KINDS[name], counter, [counted(8, 500 + i) for i in range(80)], 5e-2)[
        1
    ]
    assert float(lessons[-1].loss.total.detach()) < 0.9 * float(lessons[0].loss.total.detach())


@probing
def test_probes_change_nothing_about_real_nodes_nor_about_what_is_remembered(name):
    kind, net = KINDS[name], network()
    target, drafter = fitted(kind, net)
    bare = NetworkTarget(net, 6)
    tokens = torch.tensor([[6, 1, 2, 3], [6, 5, 0, 0]])
    length = torch.tensor([4, 3])
    drafting = drafter.open(target, 2)
    with_probes, without = target.open(2), bare.open(2)
    scores = with_probes.read(tokens[:, :-1], length - 1)
    without.read(tokens[:, :-1], length - 1)
    drafting.begin(inside.Text(tokens, length), scores)
    root = trees.planted(torch.tensor([3, 0]), 6)
    plan, going = Plan((3, 3), (99, 99)), torch.ones(2, dtype=torch.bool)
    tree = BUILDERS["static"].build(root, drafting, plan, Scripted([]), lambda _: going)
    more = drafting.finish(tree)
    nodes = tree.tokens.shape[1]
    assert (more.how[:, nodes:] == trees.How.PROBE).all()
    assert more.live[:, nodes:].sum() > 20
    told, plain = with_probes.score(more), without.score(tree)
    assert told.logits is not None
    torch.testing.assert_close(told.logits[:, :nodes], plain.logits, atol=1e-5, rtol=0)
    path = torch.tensor([[0, 2, -1, -1], [0, 1, 3, 6]])
    with_probes.commit(path)
    without.commit(path)
    assert with_probes.length.tolist() == without.length.tolist() == [5, 6]
    for one, other in zip(
        (*with_probes.memory.keys, *with_probes.memory.values),
        (*without.memory.keys, *without.memory.values),
        strict=True,
    ):
        for row, kept in enumerate((5, 6)):
            torch.testing.assert_close(one[row, :, :kept], other[row, :, :kept], atol=1e-5, rtol=0)


@probing
def test_a_target_that_was_not_prepared_is_refused(name):
    net = network()
    _, drafter = fitted(KINDS[name], net)
    with pytest.raises(ValueError, match="prepared"):
        drafter.open(NetworkTarget(net, 6), 1)
    with pytest.raises(ValueError, match="trained for this target"):
        inside.prepared(NetworkTarget(network(hidden=32), 6), drafter)


@kinds
def test_texts_too_short_to_look_ahead_in_are_refused(kind):
    net = network()
    assert isinstance(kind, Kind)
    with pytest.raises(ValueError, match="longer"):
        kind.lesson(kind.module(net), net, torch.tensor([[6, 1, 2]]), Key(torch.arange(1)))

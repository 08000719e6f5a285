"""Cache-to-Cache against exact answers."""

import dataclasses
import itertools

import pytest
import torch
from speculating import TableDrafter, random_law

from unison.data import train_tokenizer
from unison.engine.reading import NetworkTarget
from unison.fusion import Annealing, FusedTarget, Fuser, Fusing, Pair, alignment, lesson, paired
from unison.models import KeyValues, Transformer, TransformerConfig
from unison.prob import rng
from unison.prob.rng import Key
from unison.speculation import tree as trees
from unison.speculation.builders.chain import Chain
from unison.speculation.loop import Speculation, speculate
from unison.speculation.parts import Text
from unison.speculation.policies.plain import Plain
from unison.speculation.proof import asked
from unison.speculation.schedulers.fixed import Fixed

V = 3
SHAPE = TransformerConfig(
    vocab_size=V,
    num_states=V + 1,
    hidden=8,
    depth=2,
    heads=2,
    max_length=32,
    attention="causal",
    time="none",
)
SMALL = Fusing(width=12, inner=10, dropout=0.0)


def filled(module: torch.nn.Module, seed: int, size: float = 0.5) -> None:
    """Fill every weight with its own normals."""
    with torch.no_grad():
        for number, w in enumerate(module.parameters()):
            key = Key(torch.tensor([1000 * seed + number]))
            w.copy_(rng.normal(key, 7, w.numel())[0].view(w.shape) * size)


def network(seed: int, **changes) -> Transformer:
    made = Transformer(dataclasses.replace(SHAPE, **changes)).double().eval()
    filled(made, seed, 0.7)
    return made.requires_grad_(False)


def fuser_of(receiver: Transformer, sharer: Transformer, gate: float = 1.0) -> Fuser:
    made = Fuser(SMALL, receiver.config, sharer.config).double().eval()
    filled(made, 99)
    with torch.no_grad():
        made.gates.fill_(gate)
    return made


def identity(receiver: Transformer, sharer: Transformer) -> Fuser:
    """Return a fuser that puts the sharer's keys and values in the place of the receiver's."""
    width = receiver.config.num_kv_heads * receiver.config.head_dim
    made = Fuser(Fusing(width, 4, 1, 0.0), receiver.config, sharer.config).double().eval()
    eye = torch.eye(width, dtype=torch.float64)
    with torch.no_grad():
        for w in made.parameters():
            w.zero_()
        for projector in (*made.keys, *made.values):
            projector.into.weight.copy_(torch.cat([eye, -eye], 1))
            projector.out.weight.copy_(eye)
            projector.weigh.bias.fill_(50.0)
        made.gates.fill_(1.0)
    return made


PROMPTS = Text(torch.tensor([[V, 0, 2, 1, 0], [V, 2, 2, 0, 0]]), torch.tensor([5, 3]))


def after(target: NetworkTarget | FusedTarget, tokens: tuple[int, ...] = ()) -> torch.Tensor:
    """Return the logits after two prompts and some tokens, read one by one."""
    reading = target.open(2)
    reading.read(PROMPTS.tokens[:, :-1], PROMPTS.length - 1)
    root = PROMPTS.tokens.gather(1, PROMPTS.length[:, None] - 1)[:, 0]
    for token in tokens:
        reading.score(trees.planted(root, V))
        reading.commit(torch.zeros(2, 1, dtype=torch.int64))
        root = torch.full((2,), token)
    logits = reading.score(trees.planted(root, V)).logits
    assert logits is not None
    return logits[:, 0]


@pytest.mark.parametrize("gate", [0.0, -2.0])
def test_closed_gates_leave_the_receiver_as_it_is_bit_for_bit(gate) -> None:
    receiver, sharer = network(1), network(2, depth=3, kv_heads=1)
    alone = NetworkTarget(receiver, V)
    fused = FusedTarget(alone, NetworkTarget(sharer, V), fuser_of(receiver, sharer, gate))
    assert torch.equal(after(alone, (1, 2)), after(fused, (1, 2)))
    ajar = FusedTarget(alone, NetworkTarget(sharer, V), fuser_of(receiver, sharer))
    assert float((after(alone, (1, 2)) - after(ajar, (1, 2))).abs().max()) > 1e-2


def test_identical_models_and_an_identity_projector_are_a_fixed_point() -> None:
    receiver = network(1)
    alone = NetworkTarget(receiver, V)
    fused = FusedTarget(alone, alone, identity(receiver, receiver))
    assert torch.equal(after(alone, (1,)), after(fused, (1,)))


def test_an_identity_projector_puts_the_sharers_memory_in_the_receivers_place() -> None:
    receiver, sharer = network(1), network(2)
    fused = FusedTarget(
        NetworkTarget(receiver, V), NetworkTarget(sharer, V), identity(receiver, sharer)
    )
    there = fused.sharer.open(2)
    there.read(PROMPTS.tokens[:, :-1], PROMPTS.length - 1)
    here = fused.open(2)
    here.read(PROMPTS.tokens[:, :-1], PROMPTS.length - 1)
    mixed = NetworkTarget(receiver, V).open(2)
    mixed.memory, mixed.length, mixed._longest = there.memory, there.length, 4
    root = PROMPTS.tokens.gather(1, PROMPTS.length[:, None] - 1)[:, 0]
    found, expected = (r.score(trees.planted(root, V)).logits for r in (here, mixed))
    assert found is not None
    assert expected is not None
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "shapes",
    [
        ({}, {"depth": 4, "kv_heads": 1, "hidden": 16}),
        ({"depth": 3, "kv_heads": 1}, {"depth": 1, "heads": 4}),
        ({"heads": 4, "kv_heads": 2}, {"heads": 1}),
    ],
)
def test_layers_of_any_heads_and_depths_follow_the_formula(shapes) -> None:
    receiver, sharer = network(1, **shapes[0]), network(2, **shapes[1])
    fuser = fuser_of(receiver, sharer)
    own, told = (
        KeyValues(
            *(
                tuple(
                    rng.normal(Key(torch.tensor([seed])), kind * 10 + layer, 2 * 3 * width)[0].view(
                        2, net.config.num_kv_heads, 3, net.config.head_dim
                    )
                    for layer in range(net.config.depth)
                )
                for kind in (0, 1)
            )
        )
        for seed, net in ((1, receiver), (2, sharer))
        for width in [net.config.num_kv_heads * net.config.head_dim]
    )
    where = torch.tensor([[True, False, True], [False, True, True]])
    chances = torch.linspace(0.1, 0.9, 2 * receiver.config.depth).view(-1, 2)
    with torch.no_grad():
        made = fuser.fused(own, told, where, chances.double())
    for kind, layer in itertools.product((0, 1), range(receiver.config.depth)):
        behind = sharer.config.depth - receiver.config.depth
        pair = max(0, min(sharer.config.depth - 1, layer + behind))
        projector = (fuser.keys, fuser.values)[kind][layer]
        for row, slot in itertools.product(range(2), range(3)):
            mine, theirs = own[kind][layer][row, :, slot], told[kind][pair][row, :, slot]
            expected = mine
            if where[row, slot]:
                added = by_hand(projector, theirs.flatten(), mine.flatten())
                expected = mine + chances[layer, kind] * added.view_as(mine)
            found = made[kind][layer][row, :, slot]
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def by_hand(projector, theirs: torch.Tensor, mine: torch.Tensor) -> torch.Tensor:
    """Return sigma(scalar) times the projection, for one place."""

    def sublayer(layer, x: torch.Tensor) -> torch.Tensor:
        eps = torch.finfo(x.dtype).eps
        normed = x / (x.square().mean() + eps).sqrt() * layer.norm.weight
        up = layer.mlp.gate_up.weight @ normed
        half = len(up) // 2
        return x + layer.mlp.down.weight @ (up[:half] * up[:half].sigmoid() * up[half:])

    with torch.no_grad():
        x = projector.into.weight @ torch.cat([theirs, mine]) + projector.into.bias
        x = sublayer(projector.shared, x)
        weight = projector.weigh.weight @ sublayer(projector.scalar[0], x) + projector.weigh.bias
        out = projector.out.weight @ sublayer(projector.branch[0], x) + projector.out.bias
        return (weight.sigmoid()[:, None] * out.view(len(weight), -1)).flatten()


@pytest.mark.parametrize(
    ("receiver", "sharer", "pairs"),
    [(3, 3, [0, 1, 2]), (2, 5, [3, 4]), (4, 2, [0, 0, 0, 1])],
)
def test_last_layers_go_together(receiver, sharer, pairs) -> None:
    assert [paired(layer, receiver, sharer) for layer in range(receiver)] == pairs


def test_only_the_prompt_but_its_last_token_is_rewritten() -> None:
    receiver, sharer = network(1), network(2)
    target = FusedTarget(
        NetworkTarget(receiver, V), NetworkTarget(sharer, V), fuser_of(receiver, sharer)
    )
    reading, alone = target.open(2), target.receiver.open(2)
    for one in (reading, alone):
        one.read(PROMPTS.tokens[:, :-1], PROMPTS.length - 1)
    for row, length in enumerate((4, 2)):
        for own, bare in zip(reading.own.memory.keys, alone.memory.keys, strict=True):
            same = (own[row] == bare[row]).all(2).all(0)
            assert not same[:length].any()
            assert same[length:].all()
    before = [part.clone() for part in reading.own.memory.values]
    reading.read(torch.tensor([[1, 2], [2, 0]]), torch.tensor([2, 2]))
    for old, new in zip(before, reading.own.memory.values, strict=True):
        assert torch.equal(old[0, :, :4], new[0, :, :4])
        assert torch.equal(old[1, :, :2], new[1, :, :2])


def test_a_row_is_fused_the_same_in_any_batch_and_after_others_have_left() -> None:
    receiver, sharer = network(1), network(2)
    target = FusedTarget(
        NetworkTarget(receiver, V), NetworkTarget(sharer, V), fuser_of(receiver, sharer)
    )
    both = after(target)
    reading = target.open(1)
    reading.read(PROMPTS.tokens[1:, :2], torch.tensor([2]))
    root = trees.planted(torch.tensor([2]), V)
    single = reading.score(root).logits
    kept = target.open(2)
    kept.read(PROMPTS.tokens[:, :-1], PROMPTS.length - 1)
    rest = kept.keep(torch.tensor([1])).score(root).logits
    assert single is not None
    assert rest is not None
    torch.testing.assert_close(single[0, 0], both[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(rest[0, 0], both[1], rtol=1e-10, atol=1e-10)


def test_speculation_writes_what_the_fused_receiver_writes_token_by_token() -> None:
    receiver, sharer = network(1), network(2, depth=3)
    target = FusedTarget(
        NetworkTarget(receiver, V), NetworkTarget(sharer, V), fuser_of(receiver, sharer)
    )
    ask = asked(target, [1, 0, 2, 2], 12)
    plain = speculate(Speculation(policy=Plain(temperature=0.9)), target, ask)
    drafted = Speculation(
        TableDrafter(random_law(3)), Chain(), scheduler=Fixed(3), policy=Plain(temperature=0.9)
    )
    fast = speculate(drafted, target, ask)
    assert fast.tokens == plain.tokens
    assert fast.forwards[0] < plain.forwards[0]
    alone = speculate(Speculation(policy=Plain(temperature=0.9)), target.receiver, ask)
    assert alone.tokens != plain.tokens


@pytest.mark.parametrize("hard", [True, False])
def test_the_loss_is_that_of_decoding_and_its_gradient_of_finite_differences(hard) -> None:
    receiver, sharer = network(1), network(2, depth=3)
    pair = Pair(NetworkTarget(receiver, V), NetworkTarget(sharer, V))
    fuser = fuser_of(receiver, sharer)
    tokens = torch.tensor([[0, 2, 1, 0, 1, 1], [2, 2, 1, 2, 0, 0]])
    given = torch.tensor([4, 2])
    valid = torch.ones_like(tokens, dtype=torch.bool)
    valid[1, 4:] = False
    u = torch.tensor([[0.3, 0.6], [0.8, 0.45]], dtype=torch.float64)

    def loss() -> torch.Tensor:
        chances = None if hard else fuser.chances(u, 0.7)
        return lesson(fuser, pair, tokens, given, valid, chances).total

    if hard:
        target = FusedTarget(*pair[:2], fuser)
        laws = [after(target, way).log_softmax(-1) for way in ((), (1,))]
        expected = -(laws[0][0, 1] + laws[1][0, 1] + laws[0][1, 1])
        two = after(target, (1,)).log_softmax(-1)
        expected = expected - two[1, 2]
        assert float(loss().detach()) == pytest.approx(float(expected), abs=1e-5)
        assert int(lesson(fuser, pair, tokens, given, valid).count) == 4
    weights = [w for name, w in fuser.named_parameters() if not (hard and name == "gates")]
    grads = torch.autograd.grad(loss(), weights)
    for number, (w, grad) in enumerate(zip(weights, grads, strict=True)):
        way = rng.normal(Key(torch.tensor([number])), 0, w.numel())[0].view(w.shape)
        sides = []
        with torch.no_grad():
            for sign in (1, -1):
                w += sign * 1e-3 * way
                sides.append(float(loss().detach()))
                w -= sign * 1e-3 * way
        slope = (sides[0] - sides[1]) / 2e-3
        assert slope == pytest.approx(float((grad * way).sum()), rel=5e-3, abs=2e-3)


def test_gates_harden_from_even_chances_with_logistic_noise() -> None:
    receiver = network(1)
    fuser = fuser_of(receiver, receiver, 0.4)
    u = rng.uniform(Key(torch.tensor([8])), 0, 4)[0].view(2, 2)
    soft = fuser.chances(u, 2.0)
    by_formula = 1 / (1 + torch.exp(-(0.4 + torch.log(u / (1 - u))) / 2.0))
    torch.testing.assert_close(soft.detach(), by_formula)
    annealing = Annealing(1.0, 0.001, 100)
    assert annealing.temperature(0) == 1.0
    assert annealing.temperature(50) == pytest.approx(0.001**0.5)
    assert annealing.temperature(100) == annealing.temperature(5000) == pytest.approx(0.001)
    hard = fuser.chances(u, annealing.temperature(100)).detach()
    open_ = (0.4 + torch.log(u / (1 - u))) > 0
    torch.testing.assert_close(hard, open_.double())


def test_tokens_of_another_tokenizer_are_told_by_one_of_their_pieces() -> None:
    texts = ["the cat sat on the mat, the cat, the mat " * 4]
    words, letters = train_tokenizer("bpe", texts, 262), train_tokenizer("char", texts)
    assert alignment(words, words, words.vocab_size) is None
    first = alignment(words, letters, words.vocab_size + 1, "first")
    back = alignment(letters, words, letters.vocab_size)
    assert first is not None
    assert back is not None
    assert int(first[words.eos_id]) == letters.eos_id
    assert int(first[-1]) == -1
    merged = [t for t in range(words.vocab_size) if set(words.decode([t])) <= set(texts[0])]
    assert any(len(words.decode([token])) > 1 for token in merged)
    for token in merged:
        text = words.decode([token])
        assert int(first[token]) == (letters.encode(text)[0] if text else letters.eos_id)
    assert letters.unk_id is not None
    assert int(back[letters.unk_id]) == -1
    for token in set(range(letters.vocab_size)) - {letters.unk_id}:
        text = letters.decode([token])
        assert not text or words.decode([int(back[token])]) == text


def test_the_longest_piece_is_picked_where_that_is_asked_for() -> None:
    coarse = train_tokenizer("bpe", ["xinterest yinterest " * 9], 268)
    fine = train_tokenizer("bpe", ["interest " * 9 + "xy"], 264)
    by_first, by_length = (
        alignment(coarse, fine, coarse.vocab_size, pick) for pick in ("first", "longest")
    )
    assert by_first is not None
    assert by_length is not None
    differ = 0
    for token in range(coarse.vocab_size):
        pieces = fine.encode(coarse.decode([token]))
        if len(pieces) > 1 and "\N{REPLACEMENT CHARACTER}" not in coarse.decode([token]):
            sizes = [len(fine.decode([piece])) for piece in pieces]
            assert int(by_first[token]) == pieces[0]
            assert int(by_length[token]) == pieces[sizes.index(max(sizes))]
            differ += pieces[0] != pieces[sizes.index(max(sizes))]
    assert differ


def test_inputs_without_counterpart_are_not_listened_to() -> None:
    receiver, sharer = network(1), network(2)
    table = torch.tensor([1, 0, -1, -1])
    alone = NetworkTarget(receiver, V)
    target = FusedTarget(alone, NetworkTarget(sharer, V), identity(receiver, sharer), table)
    read, known = target.shared(PROMPTS.tokens)
    assert read.tolist() == [[V, 1, V, 0, 1], [V, V, V, 1, 1]]
    assert known.tolist() == [[True, True, False, True, True], [True, False, False, True, True]]
    reading, bare = target.open(2), alone.open(2)
    for one in (reading, bare):
        one.read(PROMPTS.tokens[:, :-1], PROMPTS.length - 1)
    same = (reading.own.memory.keys[0] == bare.memory.keys[0]).all(3).all(1)
    assert same[:, :4].tolist() == [[False, False, True, False], [False, True, True, True]]


def test_a_fuser_for_other_models_and_a_prompt_too_long_for_the_sharer_are_refused() -> None:
    receiver, sharer = network(1), network(2, depth=3)
    fuser = fuser_of(receiver, sharer)
    with pytest.raises(ValueError, match="of 2 and 3 blocks, got 3 and 2"):
        FusedTarget(NetworkTarget(sharer, V), NetworkTarget(receiver, V), fuser)
    short = network(2, depth=3, max_length=3)
    target = FusedTarget(NetworkTarget(receiver, V), NetworkTarget(short, V), fuser)
    with pytest.raises(ValueError, match="has 4 inputs and the sharer reads 3"):
        after(target)


@pytest.mark.parametrize(
    ("setting", "value"), [("width", 0), ("inner", 0), ("branch", -1), ("dropout", 1.0)]
)
def test_settings_out_of_range_are_refused(setting, value) -> None:
    with pytest.raises(ValueError, match=setting):
        Fusing(**{setting: value})
    with pytest.raises(ValueError, match="last"):
        Annealing(first=0.5, last=0.6)
    with pytest.raises(ValueError, match="steps"):
        Annealing(steps=0)

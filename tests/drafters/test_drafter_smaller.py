"""Another model drafts, whatever its tokens are."""

import dataclasses

import numpy as np
import pytest
import speculating
import tiny
import torch

from unison.data import train_tokenizer
from unison.drafters.smaller import Smaller
from unison.drafters.vocabulary import Vocabulary, between, matched
from unison.engine.reading import target_of
from unison.speculation import Ask, Speculation, Table, Text, prove, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.parts import nothing
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.tree import planted
from unison.speculation.verifiers.token import Token


def asked(rows: int, longest: int, room: list[int], vocab: int, begin: int) -> Ask:
    tokens = torch.tensor(np.random.default_rng(1).integers(0, vocab, (rows, longest)))
    tokens[:, 0] = begin
    length = torch.tensor([longest, 3, 1, longest - 1][:rows])
    return Ask(Text(tokens, length), room, torch.arange(rows))


def picked(ask: Ask, row: int) -> Ask:
    text = Text(ask.text.tokens[row : row + 1], ask.text.length[row : row + 1])
    return Ask(text, ask.room[row : row + 1], ask.seed[row : row + 1], ask.ends)


@pytest.fixture(scope="module")
def models():
    target = tiny.model("ar", length=64, depth=3, strength=3.0)
    other = tiny.model("ar", length=64, strength=3.0)
    tiny.randomise(other.network, 3.0, seed=5)
    return target, other


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("sampled", [False, True])
def test_what_is_written_has_the_law_of_the_target(temperature, sampled):
    p, q = speculating.random_law(3), speculating.random_law(4)
    drafter = Smaller(Table(q, 3), temperature)
    how = Speculation(drafter, Chain(sampled=sampled), Token(), Fixed(2))
    assert prove(how, Table(p, 3), [1, 2], 3).error <= 1e-12
    assert prove(how, Table(p, 3), [], 3).error <= 1e-12


def test_common_tokens_alone_are_guessed_and_the_law_stays_that_of_the_target():
    p, q = speculating.random_law(3), speculating.random_law(4, vocab=2)
    words = Vocabulary((1, -1, 0), ((1,), (0, 0), (0,)), 2)
    drafter = Smaller(Table(q, 2), vocabulary=words)
    for sampled in (False, True):
        how = Speculation(drafter, Chain(sampled=sampled), Token(), Fixed(2))
        assert prove(how, Table(p, 3), [1, 2, 0], 3).error <= 1e-12


def test_a_drafter_reads_a_token_it_lacks_as_its_spelling():
    q = speculating.random_law(4, vocab=2)
    words = Vocabulary((1, -1, 0), ((1,), (0, 0), (0,)), 2)
    drafting = Smaller(Table(q, 2), vocabulary=words).open(Table(speculating.random_law(3), 3), 1)
    text = Text(torch.tensor([[0, 2, 1]]), torch.tensor([3]))
    drafting.begin(text, nothing(Table(q, 2).open(1).read(text.tokens, text.length)))
    logq = drafting.guess(planted(torch.tensor([1]), 3), torch.tensor([[0]])).logq[0, 0]
    own = q((0, 0, 0))  # token 2 is 0, and token 1 is spelled 0 0
    assert logq.exp().tolist() == pytest.approx([own[1], 0, own[0]])


def test_the_target_as_its_own_drafter_passes_every_draft(models):
    target = target_of(models[0])
    for policy, verifier, sampled in (
        (Plain(0.0), None, False),
        (Plain(1.0), Token(), True),
    ):
        parts = {} if verifier is None else {"verifier": verifier}
        how = Speculation(
            Smaller(target), Chain(sampled=sampled), scheduler=Fixed(3), policy=policy, **parts
        )
        passed = []
        ask = asked(3, 9, [20, 16, 12], target.vocab_size, target.begin)
        speculate(how, target, ask, lambda seen, passed=passed: passed.append(seen))
        for seen in passed[:3]:
            assert seen.outcome.accepted == (3,) * len(seen.rows)
        assert len(passed) == 5


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_at_temperature_0_the_text_is_plain_decodings_whoever_drafts(models, depth):
    target = target_of(models[0])
    ask = asked(4, 9, [24, 17, 30, 9], target.vocab_size, target.begin)
    policy = Plain(0.0)
    plain = speculate(Speculation(policy=policy), target, ask)
    how = Speculation(Smaller(target_of(models[1])), scheduler=Fixed(depth), policy=policy)
    assert speculate(how, target, ask).tokens == plain.tokens


@dataclasses.dataclass(frozen=True)
class Ragged(Fixed):
    """Drafts a number of tokens that changes from round to round, sometimes none."""

    def start(self, rows):
        return 0

    def plan(self, memory, most):
        now = (3, 0, 1, 4, 2)[memory % 5]
        return type(most)(tuple(min(now, d) for d in most.depth), most.nodes)

    def go_on(self, memory, tree):
        return torch.ones_like(tree.live[:, 0])

    def learn(self, memory, outcome, seconds):
        return memory + 1

    def keep(self, memory, rows):
        return memory


def test_the_drafters_memory_is_that_of_the_written_text_after_many_rounds(models):
    target, drafter = target_of(models[0]), Smaller(target_of(models[1]))
    how = Speculation(drafter, scheduler=Ragged(), policy=Plain(1.0))
    ask = asked(4, 9, [40, 33, 50, 25], target.vocab_size, target.begin)
    texts = [row[:n] for row, n in zip(ask.text.tokens.tolist(), ask.text.length, strict=True)]
    checked = 0

    def look(seen):
        nonlocal checked
        for i, row in enumerate(seen.rows):
            count = int(seen.outcome.tree.live[i].sum())
            if count > 1:  # the first draft's law, against that of a fresh reading
                text = torch.tensor([texts[row]])
                fresh = drafter.model.open(1).read(text, torch.tensor([text.shape[1]]), True)
                logq = fresh.logits.log_softmax(-1)[0, -1]
                assert seen.outcome.tree.logq[i, 1] == pytest.approx(float(logq.max()), abs=1e-4)
                checked += 1
            texts[row] += [t for t in seen.outcome.tokens[i].tolist() if t >= 0]

    speculate(how, target, ask, look)
    assert checked > 40


def test_a_row_does_not_see_its_batch_and_stops_at_its_end(models):
    target = target_of(models[0])
    how = Speculation(Smaller(target_of(models[1])), Chain(sampled=True), Token(), Fixed(3))
    ask = asked(4, 9, [24, 17, 30, 9], target.vocab_size, target.begin)._replace(ends=(1, 5))
    both = speculate(how, target, ask)
    stopped = 0
    for row in range(4):
        alone = speculate(how, target, picked(ask, row))
        assert alone.tokens[0] == both.tokens[row]
        assert not {1, 5} & set(both.tokens[row][:-1])
        stopped += both.tokens[row][-1] in (1, 5)
    assert stopped


def test_a_text_beyond_the_drafters_context_is_drafted_from_its_second_half(models):
    target = target_of(tiny.model("ar", length=64, strength=3.0))
    short = target_of(tiny.model("ar", length=16, strength=3.0, positions="learned"))
    how = Speculation(Smaller(short), scheduler=Fixed(3), policy=Plain(0.0))
    ask = asked(2, 40, [20, 60], target.vocab_size, target.begin)
    plain = speculate(Speculation(policy=Plain(0.0)), target, ask)
    assert speculate(how, target, ask).tokens == plain.tokens


def test_tokens_of_two_tokenizers_are_matched_by_spelling():
    target = train_tokenizer("char", ["abcd efgh"])
    draft = train_tokenizer("char", ["dcba xyz"])
    words = matched(target, draft, target.vocab_size + 2, draft.vocab_size)
    for char in "abcd ":
        assert words.own[target.encode(char)[0]] == draft.encode(char)[0]
    for char in "efgh":
        assert words.own[target.encode(char)[0]] == -1
    assert words.own[target.eos_id] == draft.eos_id
    assert words.own[target.vocab_size :] == (-1, -1)
    assert words.read(target.encode("bad")) == draft.encode("bad")


def test_a_token_is_read_as_several_where_the_drafter_has_shorter_ones():
    text = "banana bandana " * 20
    target = train_tokenizer("bpe", [text], 264)
    draft = train_tokenizer("byte", [text])
    words = matched(target, draft, target.vocab_size, draft.vocab_size)
    assert len(target.encode(text)) < len(text)
    assert words.read(target.encode(text)) == list(text.encode())
    assert sum(token >= 0 for token in words.own) == 257


def test_vocabularies_with_too_little_in_common_are_refused_with_the_numbers():
    target = train_tokenizer("char", ["".join(map(chr, range(0x4E00, 0x4E80)))])
    draft = train_tokenizer("char", ["abc"])
    with pytest.raises(ValueError, match=r"knows \d of the target's 130 tokens"):
        matched(target, draft, target.vocab_size, draft.vocab_size)


def test_models_of_one_tokenizer_are_paired_whatever_their_padding(models):
    words = between(*models)
    assert words == Vocabulary.same(models[0].process.vocab_size)
    padded = Vocabulary.same(5, 3)
    assert (padded.own, padded.size) == ((0, 1, 2, -1, -1), 3)
    assert Vocabulary.same(3, 5).own == (0, 1, 2)


def test_other_vocabularies_are_refused_where_nobody_matched_them():
    table = Table(speculating.random_law(1), 3)
    with pytest.raises(ValueError, match="target has 3 tokens and the drafter 4"):
        Smaller(Table(speculating.random_law(1, vocab=4), 4)).open(table, 1)
    with pytest.raises(ValueError, match="matched for a target of 2"):
        Smaller(table, vocabulary=Vocabulary.same(2, 3)).open(table, 1)
    with pytest.raises(ValueError, match="temperature"):
        Smaller(table, -1.0)

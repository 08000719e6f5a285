"""A gated law: every text is of the language, and the rest of the law is the model's own."""

import itertools
import re

import numpy as np
import pytest
import torch
from speculating import TableDrafter, joint, random_law

from unison.constrain import ConstraintError, compiled, grammar, regex
from unison.constrain.joint import Conditioner, Stretch
from unison.constrain.vocabulary import vocabulary
from unison.speculation import Ask, Speculation, Table, Text, prove, speculate
from unison.speculation.builders.chain import Chain
from unison.speculation.policies.grammar import Gate, Grammar
from unison.speculation.policies.plain import Plain
from unison.speculation.proof import own_law, written_law
from unison.speculation.schedulers.fixed import Fixed
from unison.speculation.verifiers.match import Match
from unison.speculation.verifiers.token import Token

SPELT = (b"a", b"b", b"ab", None)
END, V = 3, 4
WORDS = vocabulary(SPELT, [END], "toy grammar policy")
PATTERN = "(ab)*a?b{0,2}"
LANGUAGE = compiled(regex(PATTERN), WORDS)
PATTERNS = {"runs": PATTERN, "exactly": "abab|aab|bbba", "never short": "(a|b){3}"}


def said(text) -> bytes:
    return b"".join(SPELT[token] for token in text)


def of_language(pattern: str, text) -> bool:
    """Whether a text is a spelling of the language, and ends behind it."""
    body = list(text)
    while body and body[-1] == END:
        body.pop()
    return END not in body and re.fullmatch(pattern.encode(), said(body)) is not None


def gated(law, pattern: str, room: int):
    """The law of the next token by enumeration of all texts of the language that fit."""
    fits = [text for text in itertools.product(range(V), repeat=room) if of_language(pattern, text)]

    def next_law(text: tuple[int, ...]):
        possible = {one[len(text)] for one in fits if one[: len(text)] == text}
        chances = [p if token in possible else 0.0 for token, p in enumerate(law(text))]
        return [one / sum(chances) for one in chances] if possible else chances

    return next_law


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_the_law_is_the_models_gated_token_by_token(pattern: str):
    law = random_law(1, V)
    policy = Grammar((Gate(compiled(regex(pattern), WORDS), 0, 4),))
    found = own_law(policy, Table(law, V), [], 4)
    want = joint(gated(law, pattern, 4), (), 4, V)
    assert found.keys() == want.keys()
    assert len(want) > 2
    assert max(abs(found[text] - want[text]) for text in want) < 1e-12


@pytest.mark.parametrize("verifier", [Token(), Match()], ids=["token", "match"])
def test_speculation_on_top_writes_that_very_law(verifier):
    draft = random_law(8, V)  # knows nothing of the language
    how = Speculation(
        TableDrafter(draft, V),
        Chain(sampled=verifier == Token()),
        verifier,
        Fixed(2),
        Grammar((Gate(LANGUAGE, 0, 3),)),
    )
    target = Table(random_law(1, V), V)
    proof = prove(how, target, [], 3)
    assert proof.error < 1e-12
    assert proof.forwards < 3
    law = written_law(how, target, [], 3)[0]
    assert len(law) > 3
    assert all(of_language(PATTERN, text) for text in law)


def test_the_prompt_is_left_out_or_part_of_the_text():
    law = random_law(3, V)
    behind = own_law(Grammar((Gate(LANGUAGE, 2, 3),)), Table(law, V), [1, 1], 3)
    want = joint(lambda text: gated(lambda t: law((1, 1, *t)), PATTERN, 3)(text), (), 3, V)
    assert behind.keys() == want.keys()
    assert max(abs(behind[text] - want[text]) for text in want) < 1e-12
    within = own_law(Grammar((Gate(LANGUAGE, 0, 4),)), Table(law, V), [2, 0], 2)
    assert len(within) > 2
    assert all(of_language(PATTERN, (2, 0, *text)) for text in within)


def test_a_recursive_language_is_never_left_however_little_room_there_is():
    book = vocabulary([b"(", b")", b"()", None], [END], "brackets policy")
    language = compiled(grammar('start: "(" start* ")"'), book)
    assert not language.exact
    for room in (1, 2, 3, 5, 6):
        policy = Grammar((Gate(language, 0, room),))
        how = Speculation(TableDrafter(random_law(4, V), V), Chain(), Match(), Fixed(2), policy)
        texts, _, _ = written_law(how, Table(random_law(5, V), V), [], room)
        assert sum(texts.values()) == pytest.approx(1, abs=1e-12)
        for text in texts:
            said = "".join(["(", ")", "()"][token] for token in text if token != END)
            depths = np.cumsum([1 if c == "(" else -1 for c in said])
            assert depths[-1] == 0
            assert (depths[:-1] > 0).all()
            assert END not in text[: len(text) - list(text).count(END)]


def test_temperature_and_truncation_come_behind_the_gate():
    law = random_law(6, V, sharp=3.0)
    policy = Grammar((Gate(compiled(regex("bbba"), WORDS), 0, 4),), Plain(0.0, top_k=1))
    assert own_law(policy, Table(law, V), [], 4) == {(1, 1, 1, 0): 1.0}


def test_rows_have_their_own_languages():
    one = compiled(regex("abab"), WORDS)
    two = compiled(regex("b+"), WORDS)
    policy = Grammar((Gate(one, 1, 4), None, Gate(two, 0, 3)), Plain(0.0))
    tokens = torch.tensor([[0, 1, 9], [0, 1, 1], [0, 1, 9]])
    ask = Ask(Text(tokens, torch.tensor([2, 3, 2])), [4, 3, 2], torch.arange(3), ends=[END])
    law = random_law(7, V)
    how = Speculation(TableDrafter(law, V), Chain(), Match(), Fixed(2), policy)
    first, second, third = speculate(how, Table(law, V), ask).tokens
    assert said(token for token in first if token != END) == b"abab"
    text = [1, 1]
    for token in second:
        assert token == int(np.argmax(law(tuple(text))))
        text.append(token)
    assert len(second) == 3 or second[-1] == END
    assert set(third) <= {1, END}


def test_the_gate_of_the_first_token_is_that_of_generating_under_a_constraint():
    gate = Gate(LANGUAGE, 0, 3)
    logp = torch.tensor(random_law(2, V)(()), dtype=torch.float64).log()
    stretch = Stretch(np.array([-1, -1, -1]), np.array([0, -1, -1]), np.zeros(3, np.int64))
    want = np.exp(np.asarray(Conditioner(LANGUAGE).law(stretch, logp[None]).marginals()))[0]
    found = own_law(Grammar((gate,)), Table(random_law(2, V), V), [], 1)
    assert np.allclose(want, [found.get((token,), 0.0) for token in range(V)], atol=1e-12)


def test_what_cannot_be_obeyed_is_refused():
    language = compiled(regex("abab"), WORDS)
    with pytest.raises(ConstraintError, match="takes 2 tokens and there is room for 1"):
        Gate(language, 0, 1)
    table = Table(random_law(1, V), V)
    with pytest.raises(ConstraintError, match="begins as the prompt does"):
        own_law(Grammar((Gate(language, 0, 4),)), table, [1], 1)
    with pytest.raises(ValueError, match="behind its first 3 tokens, and the prompt has 1"):
        own_law(Grammar((Gate(language, 3, 4),)), table, [1], 1)
    with pytest.raises(ValueError, match="2 constraints and 1 rows"):
        Grammar((None, None)).open(table, 1)
    with pytest.raises(ValueError, match="knows 4 tokens and the target 3"):
        Grammar((Gate(language, 0, 4),)).open(Table(random_law(1), 3), 1)

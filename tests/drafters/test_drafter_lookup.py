"""Copies of the text's own earlier words."""

import numpy as np
import pytest
import speculating
import torch

from unison.drafters.lookup import Lookup, Occurrences
from unison.speculation import Ask, Speculation, Table, Text, prove, speculate
from unison.speculation.builders.given import Given
from unison.speculation.policies.plain import Plain
from unison.speculation.schedulers.fixed import Fixed


def matching_copies(text, lookup, depth):
    """By the definition: all places behind the longest suffix of ``shortest`` to ``longest``."""
    copies = []
    for size in range(lookup.longest, lookup.shortest - 1, -1):
        places = [
            i
            for i in range(size, len(text))
            if size <= len(text) and text[i - size : i] == text[len(text) - size :]
        ]
        for place in places if lookup.first else reversed(places):
            copy = list(text)
            for i in range(depth):
                copy.append(copy[place + i])
            if copy[len(text) :] not in copies:
                copies.append(copy[len(text) :])
    return copies[: lookup.candidates]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("candidates", [1, 2])
def test_it_copies_what_followed_the_longest_match(first, candidates):
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        text = rng.integers(0, 4, rng.integers(0, 12)).tolist()
        lookup = Lookup(3, int(rng.integers(1, 4)), candidates, first)
        row = Occurrences(lookup)
        for token in text:
            row.extend([token])
        expected = matching_copies(text, lookup, 5)
        found += bool(expected)
        assert row.continuations(5, 99) == expected
    assert found > 50


def test_a_repetition_is_continued_beyond_the_end_of_the_text():
    row = Occurrences(Lookup())
    row.extend([7, 1, 2, 3, 1, 2])
    assert row.continuations(7, 99) == [[3, 1, 2, 3, 1, 2, 3]]


def test_a_match_shorter_than_asked_for_is_no_match():
    row = Occurrences(Lookup(longest=4, shortest=2))
    row.extend([1, 2, 3, 4, 2])
    assert row.continuations(3, 99) == []
    row.extend([3])
    assert row.continuations(1, 99) == [[4]]


def test_reading_a_token_costs_the_same_at_any_length():
    row = Occurrences(Lookup(longest=3))
    row.extend(np.random.default_rng(1).integers(0, 5, 4000).tolist())
    assert sum(map(len, row.places.values())) <= 3 * 4000
    row.extend([9] * 3)
    assert row.continuations(4, 99) == [[9] * 4]


@pytest.mark.parametrize("lookup", [Lookup(), Lookup(2, 1, 3), Lookup(3, 2, 2, True)])
def test_what_is_written_has_the_law_of_the_target(lookup):
    law = speculating.random_law(3)
    how = Speculation(lookup, Given(), scheduler=Fixed(2))
    assert prove(how, Table(law, 3), [1, 2, 0, 1, 2], 4).error <= 1e-12
    assert prove(how, Table(law, 3), [], 3).error <= 1e-12


def repeating(period):
    """A law that is sure to repeat the text with a period."""

    def law(text):
        token = text[-period] if len(text) >= period else 0
        return np.eye(5)[token].tolist()

    return law


def test_a_target_that_repeats_itself_accepts_every_draft():
    how = Speculation(Lookup(3), Given(), policy=Plain(0.0), scheduler=Fixed(4))
    tokens = torch.tensor([[0, 1, 2, 3, 1, 2, 3]])
    ask = Ask(Text(tokens, torch.tensor([7])), [25], torch.tensor([0]))
    spoken = speculate(how, Table(repeating(3), 5), ask)
    assert spoken.tokens[0] == ([1, 2, 3] * 9)[:25]
    assert max(spoken.rounds[0]) == 5


def test_a_row_does_not_see_its_batch():
    law = speculating.random_law(5)
    rng = np.random.default_rng(2)
    tokens = torch.tensor(rng.integers(0, 3, (3, 9)))
    length, room = torch.tensor([9, 4, 1]), [12, 20, 7]
    how = Speculation(Lookup(candidates=2), Given(), scheduler=Fixed(3))
    seed = torch.tensor([5, 6, 7])
    both = speculate(how, Table(law, 3), Ask(Text(tokens, length), room, seed))
    for i in range(3):
        ask = Ask(Text(tokens[i : i + 1], length[i : i + 1]), room[i : i + 1], seed[i : i + 1])
        alone = speculate(how, Table(law, 3), ask)
        assert alone.tokens[0] == both.tokens[i]
        assert alone.rounds[0] == both.rounds[i]


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="shortest must be at least 1"):
        Lookup(longest=2, shortest=3)
    with pytest.raises(ValueError, match="candidates"):
        Lookup(candidates=0)

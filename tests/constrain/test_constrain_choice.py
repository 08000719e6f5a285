import pytest
from recognising import accepted

from unison.constrain.language import ConstraintError
from unison.constrain.sources.choice import choice


def test_a_choice_holds_its_texts_and_nothing_else():
    grammar = choice(["yes", "no", "no way", "\u00fcber"])
    assert all(accepted(grammar, text) for text in ("yes", "no", "no way", "\u00fcber"))
    assert not any(accepted(grammar, text) for text in ("", "ye", "yesno", "no ", "no w", "uber"))


def test_a_text_that_is_listed_twice_counts_once():
    assert choice(["a", "b", "a"]) == choice(["a", "b"])


def test_the_empty_text_may_be_chosen():
    assert accepted(choice(["", "a"]), "")


def test_no_texts_are_refused():
    with pytest.raises(ConstraintError, match="the choice is empty: list at least one text"):
        choice([])


def test_one_text_instead_of_a_list_is_refused():
    with pytest.raises(ConstraintError, match="must be a list of texts, got one text: 'yes'"):
        choice("yes")


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(ConstraintError, match="half of a surrogate pair"):
        choice(["a", "\ud83d"])

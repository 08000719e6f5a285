"""Labels of answers, on models that look a value up and know nothing else."""

import math

import pytest
from looking import SURE, model

from unison.serve.labels import Document, composed, influence


def document(name, text, *labels):
    return Document(name, text, frozenset(labels))


PLANTED = (
    document("one", "a=5;", "red", "old"),
    document("two", "b=7;", "blue"),
    document("three", "c=9;", "green", "old"),
)


def test_only_the_planted_documents_labels_come_out():
    lookup = model(causal=True)
    found = influence(lookup, PLANTED, "b?", "7", 0.5)
    assert found.labels == {"blue"}
    assert found.all_labels == {"red", "old", "blue", "green"}
    assert found.kept == ("two",)


@pytest.mark.parametrize(
    ("key", "value", "labels"), [("a", "5", {"red", "old"}), ("c", "9", {"green", "old"})]
)
def test_a_document_brings_all_its_labels(key, value, labels):
    found = influence(model(causal=True), PLANTED, f"{key}?", value, 0.5)
    assert found.labels == labels


def test_influences_are_the_exact_differences_of_log_likelihood():
    lookup = model(causal=True)
    found = influence(lookup, PLANTED, "b?", "7", 0.5)
    gain = math.log(SURE * lookup.tokenizer.vocab_size)
    assert found.influences["two"].nats.value == pytest.approx(gain, abs=1e-6)
    assert found.influences["one"].nats.value == pytest.approx(0, abs=1e-6)
    assert found.influences["three"].nats.value == pytest.approx(0, abs=1e-6)
    assert found.loss.nats.value == pytest.approx(0, abs=1e-6)
    assert all(each.low == each.high for each in found.influences.values())


def test_an_answer_that_no_document_gave_carries_no_label():
    found = influence(model(causal=True), PLANTED, "d?", "5", 0.5)
    assert found.labels == frozenset()
    assert found.kept == ()


def test_what_is_lost_stays_below_the_tolerance_and_no_label_could_go():
    lookup = model(causal=True)
    gain = math.log(SURE * lookup.tokenizer.vocab_size)
    for tolerance in (gain - 1e-3, gain + 1e-3):
        found = influence(lookup, PLANTED, "b?", "7", tolerance)
        assert found.loss.high < tolerance
        assert found.labels == ({"blue"} if tolerance < gain else frozenset())


def test_a_tie_with_the_tolerance_keeps_the_label():
    lookup = model(causal=True)
    exact = influence(lookup, PLANTED, "b?", "7", 0.5).influences["two"].nats.value
    assert influence(lookup, PLANTED, "b?", "7", exact).labels == {"blue"}


def test_two_documents_that_say_the_same_are_not_both_dropped():
    """Leaving out either alone costs nothing; leaving out both does."""
    twice = (document("one", "b=7;", "red"), document("two", "b=7;", "blue"))
    found = influence(model(causal=True), twice, "b?", "7", 0.5)
    assert all(abs(each.nats.value) < 1e-6 for each in found.influences.values())
    assert len(found.labels) == 1
    assert len(found.kept) == 1
    assert found.loss.high < 0.5


def test_unlabelled_documents_are_always_there_for_the_answer():
    free = (document("open", "b=7;"), document("two", "b=7;", "blue"))
    found = influence(model(causal=True), free, "b?", "7", 0.5)
    assert found.labels == frozenset()
    assert found.kept == ("open",)


def test_a_label_that_misled_may_go_once_it_is_tried_with_the_others():
    """The last value of a key counts: a later, other value makes the answer less likely."""
    spoilt = (document("true", "b=7;", "blue"), document("false", "b=3;", "red"))
    found = influence(model(causal=True), spoilt, "b?", "7", 0.5)
    assert found.influences["false"].nats.value < -1
    assert found.labels == frozenset()  # the answer was less likely than by chance to begin with


def test_a_masked_models_planted_document_is_found_from_bounds():
    found = influence(model(causal=False), PLANTED, "b?", "7", 0.5, draws=16)
    assert found.labels == {"blue"}
    assert found.influences["two"].bound


LONG = (document("one", "a=123456;", "red"), document("two", "b=654321;", "blue"))


def test_an_uncertain_label_is_kept_where_its_interval_straddles_the_tolerance():
    lookup = model(causal=False)
    sure = influence(lookup, LONG, "b?", "654321", 0.5, draws=16).influences["two"]
    assert sure.low < sure.nats.value < sure.high  # the order of unmasking decides
    inside = (sure.nats.value + sure.high) / 2
    assert influence(lookup, LONG, "b?", "654321", inside, draws=16).labels == {"blue"}
    assert influence(lookup, LONG, "b?", "654321", sure.high + 1, draws=16).labels == frozenset()


def test_intervals_hold_the_difference_of_bounds_that_many_draws_find():
    lookup = model(causal=False)
    few = influence(lookup, LONG, "b?", "654321", 0.5, draws=16).influences["two"]
    many = influence(lookup, LONG, "b?", "654321", 0.5, draws=256, seed=1).influences["two"]
    assert few.low < many.nats.value < few.high
    assert many.high - many.low < few.high - few.low


def test_the_order_of_documents_is_the_order_read():
    assert composed(["x", "y"], "q") == "x\n\ny\n\nq"


@pytest.mark.parametrize("tolerance", [0.0, -1.0, math.nan, math.inf])
def test_a_tolerance_that_says_nothing_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a positive number"):
        influence(model(causal=True), PLANTED, "b?", "7", tolerance)


def test_two_documents_of_one_id_are_refused():
    with pytest.raises(ValueError, match="two documents have the id 'one'"):
        influence(model(causal=True), (PLANTED[0], PLANTED[0]), "b?", "7", 0.5)

"""The models that come with the package: found by name, small, honest about what they are."""

import json

import pytest

import unison
from unison import box, checkpoints
from unison.evaluate.samples import unigram_entropy
from unison.generation import generate
from unison.models.formats.blueprint import CheckpointError


@pytest.fixture(scope="module", params=box.NAMES)
def model(request):
    return unison.load(request.param, "cpu")


def test_both_models_together_take_at_most_twenty_megabytes():
    sizes = [path.stat().st_size for name in box.NAMES for path in box.folder(name).iterdir()]
    assert sum(sizes) <= 20_000_000


def test_a_model_has_eight_to_twelve_million_weights(model):
    assert 8e6 <= sum(weight.numel() for weight in model.network.parameters()) <= 12e6


def test_packing_it_for_speed_changes_no_weight(model):
    packed = unison.quantised(model, "exact").network.state_dict()
    for name, weight in model.network.state_dict().items():
        assert packed[name].equal(weight), name


def test_it_knows_stories_better_than_the_frequencies_of_their_tokens(model, tmp_path):
    story = (
        "once upon a time, there was a little girl named lily. she loved to play outside in the "
        "park with her dog. one day, she saw a big tree. she wanted to climb it. her mom said, "
        '"be careful, lily!" lily smiled and said, "i will, mom." she was very happy.'
    )
    path = tmp_path / "story.txt"
    path.write_text(story)
    bits = unison.evaluate(model, [str(path)], split="file")["bits_per_byte"].value
    assert bits < 2.2  # an order-0 code of these tokens takes more


def test_the_student_writes_a_prompt_on_and_repeats_nothing_forever():
    texts = generate(unison.load(box.DEFAULT, "cpu"), "once upon a time", num=3, seed=0)
    assert all(sample.text.startswith("once upon a time") for sample in texts)
    assert unigram_entropy([sample.tokens for sample in texts]).value > 3.0


def test_a_name_that_is_neither_a_folder_nor_in_the_box_is_refused_with_the_names():
    with pytest.raises(CheckpointError, match="stories, stories-base"):
        checkpoints.locate("storys")


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    (tmp_path / box.DEFAULT).mkdir()
    monkeypatch.chdir(tmp_path)
    assert checkpoints.locate(box.DEFAULT).resolve() == (tmp_path / box.DEFAULT).resolve()


def test_the_card_states_what_a_reader_must_know():
    card = box.CARD.read_text(encoding="utf-8")
    for wanted in ("CDLA-Sharing-1.0", "bits per byte", "Perplexity", "Limits", "stories.jsonl"):
        assert wanted in card
    for name in box.NAMES:
        config = json.loads((box.folder(name) / "config.json").read_text())
        assert config["notes"]["card"] == box.CARD.name

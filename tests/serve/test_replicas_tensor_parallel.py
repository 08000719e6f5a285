"""A model on two processes answers as on one, and its loss is noticed at once."""

import functools
import os
import signal
import time

import causal
import pytest
import tiny
import torch

import unison
from unison import checkpoints
from unison.data import train_tokenizer
from unison.language_model import Defaults, LanguageModel
from unison.models import KeyValues, View
from unison.process import Sequential
from unison.serve.replicas.tensor_parallel import LostRankError, Spread, spread

distributed = pytest.importorskip("torch.distributed")
pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="no gloo"
)


def loaded(folder, device):
    return unison.load(folder, device)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = train_tokenizer("char", [tiny.TEXT])
    process = Sequential(tokenizer.vocab_size)
    network = causal.network(
        vocab=process.vocab_size, num_states=process.num_states, heads=4, kv_heads=2
    )
    model = LanguageModel(network, process, tokenizer, Defaults("left_to_right", 4, 24))
    place = tmp_path_factory.mktemp("models") / "causal"
    checkpoints.save(model, place)
    return place


@pytest.fixture(scope="module")
def both(folder):
    """The model on one process, and on two."""
    whole = loaded(folder, "cpu")
    with spread(functools.partial(loaded, folder), 2) as two:
        yield whole, two


class TestTwoProcesses:
    def test_logits_are_those_of_one(self, both):
        whole, two = both
        draw = torch.Generator().manual_seed(0)
        tokens = torch.randint(0, whole.network.config.num_states, (3, 20), generator=draw)
        valid = torch.arange(20) < torch.tensor([[20], [7], [12]])
        for view in (None, View(read=torch.tensor([[4, 2], [1, 6], [11, 3]]))):
            asked = tokens, torch.zeros(3), valid, None, view
            with torch.no_grad():
                want = whole.network(*asked)
            torch.testing.assert_close(two.network(*asked), want, rtol=1e-5, atol=1e-5)

    def test_each_holds_a_part(self, both):
        whole, two = both
        assert isinstance(two.network, Spread)
        part = two.network.state_dict()["blocks.0.attention.qkv.weight"]
        want = whole.network.state_dict()["blocks.0.attention.qkv.weight"]
        assert 2 * part.numel() == want.numel()

    def test_texts_are_those_of_one(self, both):
        whole, two = both
        want = unison.generate(whole, "Paragraph ", num=3, seed=5)
        got = unison.generate(two, "Paragraph ", num=3, seed=5)
        assert [one.text for one in got] == [one.text for one in want]

    def test_a_bad_question_is_refused_and_the_next_one_is_answered(self, both):
        whole, two = both
        tokens = torch.zeros(1, 4, dtype=torch.long)
        memory = KeyValues((torch.zeros(1),), (torch.zeros(1),))
        with pytest.raises(ValueError, match="no cache"):
            two.network(tokens, torch.zeros(1), view=View(memory=memory))
        with pytest.raises(ValueError, match="memory"):  # by every rank, before it adds anything
            two.network(tokens, torch.zeros(1), view=View(compute=torch.zeros(1, 1).long()))
        with torch.no_grad():
            want = whole.network(tokens, torch.zeros(1))
        got = two.network(tokens, torch.zeros(1))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)

    def test_a_second_one_in_the_same_process_is_refused(self, both, folder):
        with (
            pytest.raises(ValueError, match="already used"),
            spread(functools.partial(loaded, folder), 2),
        ):
            pass

    def test_a_lost_process_is_noticed(self, both):  # the last: nothing works after it
        _, two = both
        assert two.network.alive
        process = two.network.ranks.processes[0]
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)
        began = time.monotonic()
        with pytest.raises(LostRankError):
            two.network(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1))
        assert time.monotonic() - began < 10
        assert not two.network.alive

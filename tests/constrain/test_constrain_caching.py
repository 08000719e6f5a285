"""What remembered machines promise."""

import io
import pickle
import threading

import numpy as np
import pytest

from unison.constrain import caching as room
from unison.constrain.caching import compiled
from unison.constrain.language import Alt, Chars, ConstraintError, Grammar, Ref, Repeat, Seq, Text
from unison.constrain.vocabulary import vocabulary

DIGITS = Grammar({"n": Repeat(Chars(((48, 57),)), 1)}, "n")
NESTED = Grammar({"b": Alt((Text("x"), Seq((Text("("), Ref("b"), Text(")")))))}, "b")
VOCAB = vocabulary([b"0", b"12", b"7", b"(", b")", b"((", b"x", b"x)"], [], "few")


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    """Every test starts as a new process does."""
    monkeypatch.setattr(room, "_machines", type(room._machines)())


def forget():
    room._machines.clear()


def told(tokens):
    states = np.arange(len(tokens.distance(np.arange(2, dtype=np.int32))), dtype=np.int32)
    offset, target, group = tokens.edges(states)
    members = [tokens.members(g).tolist() for g in group.tolist()]
    return offset.tolist(), target.tolist(), members, tokens.distance(states).tolist()


def test_equal_grammars_and_vocabularies_share_a_machine():
    again = Grammar(dict(DIGITS.rules), "n", about="numbers")
    assert compiled(DIGITS, VOCAB) is compiled(again, VOCAB)


def test_other_grammars_tokenizers_and_nulls_have_their_own():
    others = [
        compiled(DIGITS, VOCAB),
        compiled(Grammar({"n": Chars(((48, 57),))}, "n"), VOCAB),
        compiled(DIGITS, vocabulary(VOCAB.spellings, [], "other")),
        compiled(DIGITS, vocabulary(VOCAB.spellings, [2], "few")),
    ]
    assert len({id(tokens) for tokens in others}) == 4
    assert [len(tokens.allowed(0, 9)) for tokens in others] == [3, 2, 3, 2]


def test_only_the_machines_used_last_are_remembered(monkeypatch):
    monkeypatch.setattr(room, "KEPT", 2)
    grammars = [Grammar({"n": Text("0" * n)}, "n") for n in (1, 2, 3)]
    first, second = (compiled(grammar, VOCAB) for grammar in grammars[:2])
    assert compiled(grammars[0], VOCAB) is first
    compiled(grammars[2], VOCAB)
    assert compiled(grammars[0], VOCAB) is first
    assert compiled(grammars[1], VOCAB) is not second


def test_threads_get_one_and_the_same():
    got, barrier = [], threading.Barrier(4)

    def ask():
        barrier.wait()
        got.append(compiled(DIGITS, VOCAB))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert all(tokens is compiled(DIGITS, VOCAB) for tokens in got)


def test_a_file_is_read_instead_of_finding_edges_again(tmp_path, monkeypatch):
    before = told(compiled(DIGITS, VOCAB, tmp_path / "new" / "folder"))
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 1
    forget()

    def never(*_):
        raise AssertionError("edges were found again")

    monkeypatch.setattr("unison.constrain.tokens.machine.walk", never)
    monkeypatch.setattr(room, "machine", never)
    again = compiled(DIGITS, VOCAB, tmp_path / "new" / "folder")
    assert told(again) == before
    assert again.shortest(again.start) == [0]
    assert again.atoms().order.tolist() == [0, 1, 2]
    assert told(pickle.loads(pickle.dumps(again))) == before


def changed(**new):
    """Write a file again with some arrays replaced."""

    def change(data):
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            content = {name: stored[name] for name in stored.files}
        out = io.BytesIO()
        np.savez(out, **(content | new))
        return out.getvalue()

    return change


def alone(data):
    """Write a sound file of one array, which is no archive."""
    out = io.BytesIO()
    np.save(out, np.arange(3))
    return out.getvalue()


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


class Bomb:
    """An object whose unpickling would be noticed."""

    went_off = False

    def __reduce__(self):
        return setattr, (Bomb, "went_off", True)


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "a flipped byte": flipped,
    "noise": lambda data: b"\x93NUMPY nothing of the kind",
    "an array alone": alone,
    "a pickle": lambda data: pickle.dumps(Bomb()),
    "a pickle inside": changed(table=np.array([Bomb()], object)),
    "another version": changed(version=np.array(room.VERSION + 1)),
    "another name": changed(name=np.frombuffer(b"x" * 64, np.uint8)),
    "one array more": changed(more=np.zeros(1)),
    "another type": changed(target=np.zeros(2)),
    "targets outside": changed(target=np.array([0, 9], np.int32)),
    "groups outside": changed(group=np.array([-1, 0], np.int32)),
    "tokens outside": changed(member=np.array([0, 1, 99])),
    "rows that overlap": changed(offset=np.array([0, 2, 1])),
    "bytes outside": changed(classes=np.full(256, 77, np.uint8)),
    "a dead start": changed(start=np.array(-1)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_that_is_not_wholly_sound_is_written_anew(kind, tmp_path):
    before = told(compiled(DIGITS, VOCAB, tmp_path))
    (file,) = tmp_path.iterdir()
    sound = file.read_bytes()
    damaged = DAMAGE[kind](sound)
    assert damaged != sound
    file.write_bytes(damaged)
    forget()
    assert told(compiled(DIGITS, VOCAB, tmp_path)) == before
    assert not Bomb.went_off
    with np.load(file, allow_pickle=False) as stored:
        assert int(stored["version"]) == room.VERSION
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_machine_that_finds_its_states_on_the_way_leaves_no_file(tmp_path):
    tokens = compiled(NESTED, VOCAB, tmp_path)
    assert not tokens.exact
    assert tokens.tables() is None
    assert tokens.allowed(tokens.start, 1).tolist() == [6]
    assert tokens.allowed(tokens.start, 2).tolist() == [3, 6]
    assert tokens.allowed(tokens.start, 3).tolist() == [3, 5, 6]
    assert list(tmp_path.iterdir()) == []
    assert compiled(NESTED, VOCAB, tmp_path) is tokens


def test_a_refusal_is_not_remembered(tmp_path):
    letters = Grammar({"n": Text("y")}, "n")
    for _ in range(2):
        with pytest.raises(ConstraintError, match="'y'"):
            compiled(letters, VOCAB, tmp_path)
    assert list(tmp_path.iterdir()) == []

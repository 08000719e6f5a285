"""A file of keys lets in whom it names and nobody else, and holds nothing anybody could use."""

import hmac
import json
import os
import stat
import threading

import pytest

from unison.cli.main import main
from unison.files import NotWrittenError
from unison.serve.access import keys
from unison.serve.access.keys import Allowance, KeyFile, KeysError


def added(path, name, now=1_000, expires=None, **allowed):
    """Add a key to a file; return the key."""
    made = []

    def more(ring):
        made.append(ring.added(name, Allowance(**allowed), now, expires))
        return made[0].ring

    keys.change(path, more, new=True)
    return made[0].shown


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


def test_a_key_is_found_with_all_that_it_may_do_after_a_round_through_the_file(path):
    allowed = {
        "requests_per_minute": 3, "tokens_per_minute": 99, "concurrent": 2, "priority": 5,
        "models": ("a", "b"), "admin": True,
    }  # fmt: skip
    shown = added(path, "ann", expires=2_000, **allowed)
    other = added(path, "bob")
    ring = keys.read(path)
    found = ring.find(shown, now=1_500.0)
    assert found is not None
    assert (found.name, found.created, found.expires) == ("ann", 1_000, 2_000)
    assert found.allowance == Allowance(**allowed)
    plain = ring.find(other, now=1e12)
    assert plain is not None
    assert plain.allowance == Allowance()


def test_keys_are_256_random_bits_and_no_two_are_the_same(path):
    shown = {added(path, f"key{i}") for i in range(20)}
    assert len(shown) == 20
    for one in shown:
        assert one.startswith("usk-")
        assert len(one) == len("usk-") + 43  # 32 bytes, six bits a character


def test_the_file_holds_no_key_and_nobody_else_may_read_it(path):
    shown = added(path, "ann")
    assert shown not in path.read_text()
    assert shown.removeprefix("usk-") not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys.change(path, lambda ring: ring.without("ann", 5))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_key_has_other_digests_in_other_files():
    one, other = keys.empty(), keys.empty()
    assert keys.digest_of(one.salt, "usk-x") != keys.digest_of(other.salt, "usk-x")


@pytest.mark.parametrize("wrong", ["", "usk-", "usk-A", "\udcff\x00", "ключ", "x" * 100_000])
def test_what_is_no_key_lets_nobody_in(wrong, path):
    shown = added(path, "ann")
    ring = keys.read(path)
    assert ring.find(wrong, 1_500.0) is None
    for near in (shown[:-1], shown + "A", shown.swapcase(), " " + shown):
        assert ring.find(near, 1_500.0) is None


def test_the_digest_in_the_file_is_no_key(path):
    added(path, "ann")
    ring = keys.read(path)
    assert ring.find(ring.keys[0].digest, 1_500.0) is None


def test_every_entry_is_compared_in_constant_time_wherever_the_key_stands(path, monkeypatch):
    shown = [added(path, name) for name in ("ann", "bob", "eve")]
    ring, compared, real = keys.read(path), [], hmac.compare_digest

    def compare(one, other):
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    for asked, name in [*zip(shown, ("ann", "bob", "eve"), strict=True), ("usk-no", None)]:
        compared.clear()
        found = ring.find(asked, 1_500.0)
        assert (found and found.name) == name
        assert [other for _, other in compared] == [key.digest for key in ring.keys]


def test_a_key_is_void_from_the_second_it_expires(path):
    shown = added(path, "ann", now=1_000, expires=2_000)
    ring = keys.read(path)
    assert ring.find(shown, 1_999.9) is not None
    assert ring.find(shown, 2_000.0) is None


def test_a_revoked_key_is_refused_by_a_server_that_runs_and_its_name_stays_taken(path):
    shown, other = added(path, "ann"), added(path, "bob")
    running = KeyFile(path)
    assert running.find(shown, 1_500.0) is not None
    keys.change(path, lambda ring: ring.without("ann", 1_600))
    assert running.find(shown, 1_500.0) is None
    assert running.find(other, 1_500.0) is not None
    with pytest.raises(KeysError, match="already"):
        added(path, "ann")
    with pytest.raises(KeysError, match="no longer a key 'ann'; there are: bob"):
        keys.change(path, lambda ring: ring.without("ann", 1_700))


def test_a_new_key_is_let_in_by_a_server_that_runs(path):
    added(path, "ann")
    running = KeyFile(path)
    assert running.find(added(path, "bob"), 1_500.0) is not None


def test_a_file_that_is_damaged_or_gone_lets_nobody_in_until_it_is_whole_again(path):
    shown = added(path, "ann")
    running, whole = KeyFile(path), path.read_text()
    path.write_text(whole[:-40])
    with pytest.raises(KeysError, match="damaged"):
        running.find(shown, 1_500.0)
    path.unlink()
    with pytest.raises(KeysError, match="keys add NAME"):
        running.find(shown, 1_500.0)
    path.write_text(whole)
    path.chmod(0o600)
    assert running.find(shown, 1_500.0) is not None


def test_a_file_that_others_may_change_is_refused(path):
    added(path, "ann")
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        with pytest.raises(KeysError, match="chmod 600"):
            keys.read(path)
    path.chmod(0o644)  # as a cluster mounts its secrets: digests may be read
    assert len(keys.read(path).keys) == 1


def broken():
    """Documents somebody's hand or a cut made of a good one."""

    def without(name):
        return lambda d: d["keys"][0].pop(name)

    def put(where, name, value):
        def edit(document):
            entry = document["keys"][0]
            (entry["allowance"] if where else entry)[name] = value

        return edit

    return {
        "no digest": without("digest"),
        "no name": without("name"),
        "digest is a number": put(False, "digest", 3),
        "expires is a text": put(False, "expires", "soon"),
        "created is a truth": put(False, "created", True),
        "unknown field": put(False, "colour", "red"),
        "admin is a text": put(True, "admin", "no"),
        "models is a number": put(True, "models", 3),
        "priority is a text": put(True, "priority", "high"),
        "name with a line end": put(False, "name", "a\nb"),
        "no salt": lambda d: d.pop("salt"),
        "keys is a text": lambda d: d.update(keys="usk-"),
        "a name twice": lambda d: d["keys"].append(d["keys"][0]),
        "nothing may be asked": put(True, "concurrent", 0),
    }


@pytest.mark.parametrize("fault", broken())
def test_a_file_somebody_tampered_with_is_refused_whole(fault, path):
    added(path, "ann")
    document = json.loads(path.read_text())
    broken()[fault](document)
    path.write_text(json.dumps(document))
    with pytest.raises(KeysError):
        keys.read(path)


@pytest.mark.parametrize("text", ["", "null", "[]", "3", "{", '{"version": 1}', "[" * 100_000])
def test_what_is_no_file_of_keys_is_refused(text, path):
    path.write_text(text)
    with pytest.raises(KeysError, match="not a file of keys, or is damaged"):
        keys.read(path)


def test_a_file_of_a_later_version_says_so(path):
    added(path, "ann")
    document = json.loads(path.read_text()) | {"version": 2}
    path.write_text(json.dumps(document))
    with pytest.raises(KeysError, match="later version"):
        keys.read(path)


def test_changes_at_once_are_all_kept(path):
    def add(number):
        for i in range(5):
            added(path, f"key{number}.{i}")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys.read(path).keys) == 20


def test_a_file_that_cannot_be_written_stays_as_it_was(path, monkeypatch):
    added(path, "ann")
    before = path.read_bytes()

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(NotWrittenError):
        added(path, "bob")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["keys.json"]


def test_the_command_line_shows_a_key_once_lists_it_without_and_revokes_it(path, capsys):
    add = ["keys", "add", "ann", "--file", str(path), "--concurrent", "3", "--expires", "30d"]
    assert main([*add, "--models", "a", "b", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["key"]
    assert keys.read(path).find(shown, 0.0) is not None
    assert main(["keys", "list", "--file", str(path), "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["name"], listed["state"], listed["concurrent"]) == ("ann", "valid", 3)
    assert listed["models"] == ["a", "b"]
    assert "digest" not in listed
    assert main(["keys", "list", "--file", str(path)]) == 0
    said = capsys.readouterr()
    assert "3 at once" in said.out + said.err
    assert main(["keys", "revoke", "ann", "--file", str(path)]) == 0
    assert keys.read(path).find(shown, 0.0) is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "say what to do"),
        (("ad", "ann"), "did you mean"),
        (("add",), "whose key"),
        (("add", "a b"), "must be up to 64 letters"),
        (("add", "ann", "--expires", "soon"), "such as 30d"),
        (("add", "ann", "--concurrent", "0"), "at least 1"),
        (("add", "ann", "--file", "/nowhere/keys.json"), "no folder /nowhere"),
        (("list",), "there is no file"),
        (("revoke", "ann"), "there is no file"),
    ],
)
def test_what_cannot_be_done_to_keys_is_one_line_and_exit_code_2(
    arguments, reason, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["keys", *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert os.listdir(tmp_path) == []

"""Which machine reads a grammar token by token? The one made before, here or in a file.

A file holds numbers alone, in NumPy's format without pickled objects: reading one runs no code,
whoever wrote it. One that is damaged, of another version, or does not fit the grammar and the
vocabulary counts as absent, and is written anew.
"""

from collections import OrderedDict
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy import ndarray

from unison.constrain.automaton import Dfa
from unison.constrain.compiling import fingerprint, machine
from unison.constrain.language import Grammar
from unison.constrain.machine import DEAD
from unison.constrain.tokens import Tables, TokenMachine
from unison.constrain.vocabulary import Vocabulary
from unison.files import write_atomically

KEPT = 32  # machines in memory
VERSION = 1  # of the files; another one is not read

_FORM = {  # what a file holds: types and numbers of axes
    "version": ("int64", 0),
    "name": ("uint8", 1),
    "classes": ("uint8", 1),
    "table": ("int32", 2),
    "accepting": ("bool", 1),
    "start": ("int64", 0),
    "offset": ("int64", 1),
    "target": ("int32", 1),
    "group": ("int32", 1),
    "distance": ("int32", 1),
    "member_offset": ("int64", 1),
    "member": ("int64", 1),
}

_machines: OrderedDict[str, TokenMachine] = OrderedDict()
_lock = Lock()


def compiled(grammar: Grammar, vocabulary: Vocabulary, cache: Path | None = None) -> TokenMachine:
    """Return what reads a grammar in the tokens of a vocabulary.

    It is made once for equal grammars and vocabularies, while it is remembered; threads share it.

    Args:
        grammar: What the text may be.
        vocabulary: What tokens spell.
        cache: A folder of files to look in and to leave one in. Machines that find their states
            on the way have nothing to leave.

    Raises:
        ConstraintError: No text follows the grammar, or none can be written in these tokens.
        NotWrittenError: The cache cannot be written.
    """
    key = _key(grammar, vocabulary)
    with _lock:
        known = _machines.get(key)
        if known is not None:
            _machines.move_to_end(key)
            return known
    made = _made(grammar, vocabulary, None if cache is None else cache / f"{key}.npz")
    with _lock:
        kept = _machines.setdefault(key, made)  # of two threads the first to finish counts
        _machines.move_to_end(key)
        while len(_machines) > KEPT:
            _machines.popitem(last=False)
    return kept


def _key(grammar: Grammar, vocabulary: Vocabulary) -> str:
    said = (fingerprint(grammar), vocabulary.name, vocabulary.nulls, len(vocabulary.spellings))
    return sha256(repr(said).encode()).hexdigest()


def _made(grammar: Grammar, vocabulary: Vocabulary, file: Path | None) -> TokenMachine:
    if file is None:
        return TokenMachine(machine(grammar), vocabulary)
    found = _read(file, vocabulary)
    if found is not None:
        return found
    made = TokenMachine(machine(grammar), vocabulary)
    tables = made.tables()
    if tables is not None and isinstance(made.machine, Dfa):
        _write(file, made.machine, tables)
    return made


def _write(file: Path, dfa: Dfa, tables: Tables) -> None:
    content: dict[str, Any] = {
        "version": np.array(VERSION),
        "name": np.frombuffer(file.stem.encode(), np.uint8),
        "classes": dfa.classes,
        "table": dfa.table,
        "accepting": dfa.accepting,
        "start": np.array(dfa.start),
        **tables._asdict(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda path: np.savez(path, **content))


def _read(file: Path, vocabulary: Vocabulary) -> TokenMachine | None:
    """Return what a file holds; ``None`` if that is not wholly to be trusted."""
    try:
        with ZipFile(BytesIO(file.read_bytes())) as stored:
            members = {name: _array(stored.read(name)) for name in stored.namelist()}
    except (OSError, ValueError, EOFError, BadZipFile, NotImplementedError):
        return None
    content = {name.removesuffix(".npy"): array for name, array in members.items()}
    if {name: (str(array.dtype), array.ndim) for name, array in content.items()} != _FORM:
        return None
    if int(content["version"]) != VERSION or content["name"].tobytes() != file.stem.encode():
        return None
    tables = Tables(*(content[field] for field in Tables._fields))
    dfa = Dfa(content["classes"], content["table"], content["accepting"], int(content["start"]))
    if not (_is_automaton(dfa) and _is_sound(tables, dfa.size, len(vocabulary.spellings))):
        return None
    return TokenMachine(dfa, vocabulary, tables)


def _array(data: bytes) -> ndarray:
    return np.lib.format.read_array(BytesIO(data), allow_pickle=False)


def _is_automaton(dfa: Dfa) -> bool:
    """Return whether every look-up in an automaton's tables finds something."""
    states, columns = dfa.table.shape
    return (
        len(dfa.classes) == 256
        and dfa.accepting.shape == (states,)
        and _within(dfa.classes, 0, columns)
        and _within(dfa.table, DEAD, states)
        and 0 <= dfa.start < states
    )


def _is_sound(tables: Tables, states: int, tokens: int) -> bool:
    groups = len(tables.member_offset) - 1
    return (
        _divides(tables.offset, states, len(tables.target))
        and len(tables.group) == len(tables.target)
        and len(tables.distance) == states
        and _within(tables.target, 0, states)
        and _within(tables.group, 0, groups)
        and _divides(tables.member_offset, groups, len(tables.member))
        and _within(tables.member, 0, tokens)
    )


def _divides(offset: ndarray, rows: int, values: int) -> bool:
    """Return whether offsets cut so many values into so many rows."""
    return (
        len(offset) == rows + 1
        and (int(offset[0]), int(offset[-1])) == (0, values)
        and bool((offset[1:] >= offset[:-1]).all())
    )


def _within(numbers: ndarray, low: int, end: int) -> bool:
    return bool(((numbers >= low) & (numbers < end)).all())

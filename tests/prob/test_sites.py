"""Two draws of one step need two names: the sites that modules own are each used once."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import unison

ROOT = Path(unison.__file__).parent
FIRST = 0x7FFFF000  # smaller sites are counted by one module each, from 0
SITE = re.compile(r"_?SITE_\w+$")
RESERVED = re.compile(r"# and the next (\d+)")


def owned(source):
    """Return (name, value) of every site that a module's source states, its ranges spelt out."""
    lines = source.splitlines()
    found = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign):
            continue
        (target,) = node.targets[:1]
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        more = RESERVED.search(lines[node.lineno - 1])
        for name, value in zip(names, values, strict=False):
            first = value.value if isinstance(value, ast.Constant) else None
            if isinstance(name, ast.Name) and SITE.match(name.id) and isinstance(first, int):
                last = first + (int(more[1]) if more else 0)
                found += [(name.id, number) for number in range(first, last + 1)]
    return found


def test_a_source_says_which_sites_it_owns():
    source = "SITE_A, _SITE_B = 0x7FFFF001, 7\nSITE_C = 0x7FFFF010  # and the next 2\nOTHER = 3\n"
    assert owned(source) == [
        ("SITE_A", 0x7FFFF001),
        ("_SITE_B", 7),
        ("SITE_C", 0x7FFFF010),
        ("SITE_C", 0x7FFFF011),
        ("SITE_C", 0x7FFFF012),
    ]


def test_no_two_modules_name_their_draws_alike():
    users = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for name, value in owned(path.read_text(encoding="utf-8")):
            if value >= FIRST:
                users[value].append(f"{path.relative_to(ROOT)}: {name}")
    assert len(users) > 40
    shared = {hex(value): names for value, names in users.items() if len(names) > 1}
    assert not shared, f"give each of these a value of its own: {shared}"

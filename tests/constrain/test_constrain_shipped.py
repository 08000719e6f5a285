"""Shipped grammars hold texts that their languages' own readers read, and what people write."""

import ast
import json
import warnings
from functools import cache

import numpy as np
import pytest
from sentences import Sentences

from unison.constrain.compiling import machine
from unison.constrain.machine import DEAD
from unison.constrain.sources import shipped

BLANKS = {"SPACE": (" ", " ", "\n"), "COMMENT": ("#",)}


def parsed(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ast.parse(text)


def sentences(name: str, seed: int, number: int, budget: int) -> list[str]:
    made = Sentences(shipped.GRAMMARS[name](), seed, {})
    return [made.draw(budget) for _ in range(number)]


@cache
def reader(name: str):
    short = {"python": lambda: shipped.python(depth=3), "smiles": lambda: shipped.smiles(3)}
    return machine(short.get(name, shipped.GRAMMARS[name])())


def reads(name: str, text: str) -> bool:
    states = np.array([reader(name).start], np.int32)
    for byte in text.encode():
        states = reader(name).advance(states, np.array([byte], np.uint8))
        if states[0] == DEAD:
            return False
    return bool(reader(name).accepts(states)[0])


def cpp_parser():
    tree_sitter = pytest.importorskip("tree_sitter")
    language = pytest.importorskip("tree_sitter_cpp").language()
    return tree_sitter.Parser(tree_sitter.Language(language))


def chemistry():
    chem = pytest.importorskip("rdkit.Chem")
    pytest.importorskip("rdkit.RDLogger").DisableLog("rdApp.*")
    return chem


def test_every_json_sentence_is_a_json_value_of_unicode_text():
    for text in sentences("json", 0, 1000, 100):
        json.dumps(json.loads(text), ensure_ascii=False).encode()


def test_every_python_sentence_parses_without_a_warning():
    for text in sentences("python", 0, 200, 15):
        parsed(text)


def test_every_cpp_sentence_parses_without_an_error():
    parser = cpp_parser()
    for text in sentences("cpp", 0, 300, 40):
        assert not parser.parse(text.encode()).root_node.has_error, text


@pytest.mark.parametrize("rings", [2, 3])
def test_every_smiles_sentence_is_a_molecule(rings):
    chem = chemistry()
    made = Sentences(shipped.smiles(rings), rings, {})
    for text in (made.draw(60) for _ in range(300)):
        assert chem.MolFromSmiles(text, sanitize=False) is not None, text


def test_what_is_shipped_is_read_once():
    for make in shipped.GRAMMARS.values():
        assert make() is make()


JSON = [
    "0", "-0.5e+10", "true", " null\n", '"\\u00e9\\ud83d\\ude00 \\n é"', "[]", "{}", "[1, [2], {}]",
    '{"a": {"b": [1.5, "x", false]}, "": null}', '\t{ "k" :\r\n[ ] } ',
]  # fmt: skip
NOT_JSON = [
    "", "01", "+1", ".5", "1.", "1e", "tru", "'a'", '"\n"', '"\\x"', "[1,]", '{"a":1,}', "{a:1}",
    "[1 2]", '"a', "nan", "[", "1 1", '{"a"}', "-",
]  # fmt: skip
LONE_SURROGATES = ['"\\ud83d"', '"\\ude00"', '"\\ude00\\ud83d"', '"\\ud83dx"']


@pytest.mark.parametrize("text", JSON)
def test_json_values_are_read(text):
    json.loads(text)
    assert reads("json", text)


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        json.loads(text)
    assert not reads("json", text)


@pytest.mark.parametrize("text", LONE_SURROGATES)
def test_json_text_that_no_unicode_text_means_is_refused(text):
    assert not reads("json", text)


MOLECULES = [
    "C", "CCO", "c1ccccc1", "CC(=O)Oc1ccccc1C(=O)O", "[Na+].[Cl-]", "C[C@@H](N)C(=O)O", "F/C=C/F",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "c1ccc2c(c1)CCC2", "C1CC2CC1C2", "C1CC11CCC1", "[13CH4]",
    "[nH]1cccc1", "O=C(O)C1CC2CCC1C2", "C1CCC=1", "[2H]C([2H])[2H]", "C12C3C1C23", "[Fe+2]",
]  # fmt: skip
NOT_MOLECULES = [
    "", "C(", "C)", "C1CC", "C11", "C1C1", "C12CC12", "C1(C1)", "[C", "[Xx]", "C==C", "(C)C",
    "C..C",
    "C()C", "x", "C=(O)C", "[C+-]", "1CC1", "C-", ".C", "C12CCC12",
]  # fmt: skip


@pytest.mark.parametrize("text", MOLECULES)
def test_molecules_are_read(text):
    assert reads("smiles", text)


@pytest.mark.parametrize("text", NOT_MOLECULES)
def test_what_is_no_molecule_is_refused(text):
    assert not reads("smiles", text)


@pytest.mark.parametrize("text", [*MOLECULES, *NOT_MOLECULES])
def test_the_lists_of_molecules_are_right(text):
    found = chemistry().MolFromSmiles(text, sanitize=False)
    assert bool(found and found.GetNumAtoms()) == (text in MOLECULES)


PYTHON = [
    "x = 1", "x, *y = a, b\n", "x: int = 3", "x.y[0] += 1", "a = b = c", "f(1, *a, k=2, **d)",
    "def f(a, b: int = 1, *c, d, **e) -> int:\n    '''Text.'''\n    return a + b\n",
    "if x < 1 <= y and not z:\n    pass\nelif a is not b:\n    pass\nelse:\n    x = [1,\n 2]\n",
    "for i, (a, b) in enumerate(x):\n    if a:\n        continue\n    break\nelse:\n    pass\n",
    "try:\n    x\nexcept (A, B) as e:\n    raise C from e\nfinally:\n    y\n",
    "with open('f') as f, g:\n    h = {k: v for k, v in f if k not in v}\n",
    "@cache\nclass A(B, metaclass=C):\n\n    # why\n    x: int\n\n    def f(self): return self.x\n",
    "x = (a\n     # why\n     or b)[1:-1, ::2]",
    "print({**a, 'b': 1}, {1, *c}, (yes if no else [i for i in x]))",
    "def f():\n"
    "    x = yield\n    yield from f(i for i in x)\n    return lambda a, *b, c=1: a ** -c\n",
    "import a.b as c, d\nfrom . import e\nfrom ..f import (g as h,\n  i)\n", "while True: x; break",
    "assert x, 'a' \"b\" r'\\d' and b'\\x00'", "del x[0], y.z",
    "x = 0x1F + 1_000 + 1.5e-3j + .5\n# end",
]  # fmt: skip
NOT_PYTHON = [
    " x", "x = ", "1 = x", "f() = 1", "if x:\npass", "if x:\n  pass\n    pass", "x\n    y",
    "None = 1",
    "def f(a=1, b): pass", "f(a=1, b)", "f(**a, *b)", "f(x for x in y, 1)", "(*a)", "a b",
    "a not b",
    "x = 01", "1x", "'a", "'\\d'", "'\\400'", "b'é'", "'a' b'b'", "x +", "for 1 in x: pass",
    "else:",
    "class A(x for x in y): pass", "{**a for a in b}", "x == not y", "lambda: yield",
    "import a.b.", "x y",
    "try:\n    x\n", "f(None=1)", "x = [1\n", "(x = 1)", "a..b", "'''a", "x[]", "def f(*): pass",
    "del f()",
    "1if x else y", "async = 1", "x++", "a <> b", "if x: y\n  else: z", "'\\x1'",
    "f(a=1, *b, c)", "...x",
]  # fmt: skip
OUT_OF_PLACE = ["return 1", "break", "def f():\n    break", "class A:\n    yield"]


@pytest.mark.parametrize("text", PYTHON)
def test_python_is_read(text):
    parsed(text)
    assert reads("python", text)


@pytest.mark.parametrize("text", NOT_PYTHON)
def test_what_is_no_python_is_refused(text):
    with pytest.raises((SyntaxError, Warning)):
        parsed(text)
    assert not reads("python", text)


@pytest.mark.parametrize("text", OUT_OF_PLACE)
def test_python_statements_out_of_place_are_refused(text):
    with pytest.raises(SyntaxError):
        compile(text, "text", "exec")
    assert not reads("python", text)


CPP = [
    "#include <vector>\n#include <string>\nusing namespace std;\n\n"
    "bool hasClose(vector<float> numbers, float threshold) {\n"
    "    for (int i = 0; i < numbers.size(); i++)\n"
    "        for (int j = i + 1; j < numbers.size(); j++)\n"
    "            if (abs(numbers[i] - numbers[j]) < threshold) return true;\n"
    "    return false;\n}\n",
    "class Solution {\npublic:\n    vector<int> twoSum(vector<int>& nums, int target) {\n"
    "        unordered_map<int, int> seen;  // value to place\n"
    "        for (int i = 0; i < (int)nums.size(); ++i) {\n"
    "            auto it = seen.find(target - nums[i]);\n"
    "            if (it != seen.end()) return {it->second, i};\n"
    "            seen[nums[i]] = i;\n        }\n        return {};\n    }\n};\n",
    "struct ListNode {\n    int val;\n    ListNode* next;\n"
    "    ListNode(int x) : val(x), next(nullptr) {}\n};\n"
    "ListNode* reversed(ListNode* head) {\n    ListNode* before = nullptr;\n    while (head) {\n"
    "        ListNode* next = head->next;\n        head->next = before;\n        before = head;\n"
    "        head = next;\n    }\n    return before;\n}\n",
    "int climb(int n) {\n    vector<vector<int>> memo(n + 1, vector<int>(2, 0));\n"
    "    memo[0][0] = memo[1][0] = 1;\n"
    "    for (int i = 2; i <= n; i++) memo[i][0] = memo[i - 1][0] + memo[i - 2][0];\n"
    "    return memo[n][0];\n}\n",
    "int main() {\n    int n;\n    cin >> n;\n    cout << \"n = \" << n * 2 << endl;\n"
    "    return 0;\n}\n",
    "void order(vector<pair<int, string>>& v) {\n"
    "    sort(v.begin(), v.end(), [](const pair<int, string>& a, const pair<int, string>& b) {\n"
    "        return a.first < b.first;\n    });\n}\n",
    "template <typename T>\nT largest(const vector<T>& v) {\n    T best = v[0];\n"
    "    for (const auto& x : v) best = x > best ? x : best;\n    return best;\n}\n",
    "int kind(char c) {\n    switch (c) {\n        case 'a':\n        case 'b': return 1;\n"
    "        default: break;\n    }\n    return c >= '0' && c <= '9' ? 2 : 0;\n}\n",
    "long long gcd(long long a, long long b) {\n"
    "    do {\n        long long t = a % b;\n        a = b;\n"
    "        b = t;\n    } while (b != 0);\n    return a;\n}\n",
    "static const int SIZE = 26;\n"
    "int count[SIZE];\nstd::map<std::string, std::vector<int>> index;\n"
    "bool anagram(const std::string& s, const std::string& t) {\n    int seen[26] = {0};\n"
    "    for (char c : s) seen[c - 'a']++;\n    for (char c : t) --seen[c - 'a'];\n"
    "    for (int i = 0; i < 26; ++i) if (seen[i]) return false;\n    return true;\n}\n",
    "/* trees */\nint depth(TreeNode* root) {\n    if (!root) return 0;\n    queue<TreeNode*> q;\n"
    "    q.push(root);\n    int d = 0;\n    while (!q.empty()) {\n"
    "        for (int k = q.size(); k > 0; k--) {\n            TreeNode* t = q.front(); q.pop();\n"
    "            if (t->left) q.push(t->left);\n            else if (t->right) q.push(t->right);\n"
    "        }\n        d += 1;\n    }\n    return max(d, std::numeric_limits<int>::min());\n}\n",
]  # fmt: skip
NOT_CPP = [
    "int f() { return 1 }", "int x", "int f( { }", "int f() {", "x = ;", "int 1x;",
    "int f() { if x; }",
    "int f() { a b c; }", "char c = 'a;", "int x = 1 +;", "struct A { int x; }}", "vector<int x;",
    "#include\nint x;", "int f() { else {} }", "int x = \"a;", "int f() { case 1: ; ]",
]  # fmt: skip


@pytest.mark.parametrize("text", CPP)
def test_cpp_is_read(text):
    assert reads("cpp", text)


@pytest.mark.parametrize("text", NOT_CPP)
def test_what_is_no_cpp_is_refused(text):
    assert not reads("cpp", text)


@pytest.mark.parametrize("text", [*CPP, *NOT_CPP])
def test_the_lists_of_cpp_are_right(text):
    assert cpp_parser().parse(text.encode()).root_node.has_error == (text in NOT_CPP)

"""Is every text valid? Shipped grammars and real JSON schemas, models trained and untrained.

Each ``--schemas`` folder holds JSON files, each a schema. A schema that the reader refuses is
counted by the reason; of the others every text must parse and be valid by the library jsonschema.
Texts of the shipped grammars are judged by json, ast, tree-sitter-cpp and RDKit where installed.
Models are checkpoints, or ``random:TOKENIZER`` and ``random-uniform:TOKENIZER`` for random weights
under masks or uniform noise. Keywords that no draft knows are annotations (``unknown="ignore"``).
Run: ``python -m benchmarks.constraint_validity random:tokenizer.json --schemas DIR --out x.json``.
"""

import ast
import importlib.util
import json
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

from benchmarks import measure
from unison import constrain, generate, load
from unison.data.tokenizer import Tokenizer
from unison.generation import vocabulary_of
from unison.language_model import Defaults, LanguageModel
from unison.models import Transformer, TransformerConfig
from unison.process import Absorbing, Uniform

RANDOM = {"random": Absorbing, "random-uniform": Uniform}


def random_model(path, kind, seed):
    """Return a small model of random weights."""
    tokenizer = Tokenizer.load(path)
    process = kind(tokenizer.vocab_size)
    shape = TransformerConfig(
        hidden=32, depth=1, heads=2, max_length=1024, time="none",
        vocab_size=process.vocab_size, num_states=process.num_states,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    network = Transformer(shape).eval()
    with torch.no_grad():
        for weight in network.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(2 * noise / weight.shape[-1] ** 0.5)
    return LanguageModel(network, process, tokenizer, Defaults("composed"))


def models(names, seed):
    """Return models by name."""
    found = {}
    for name in names:
        kind, _, path = name.partition(":")
        if kind in RANDOM:
            found[kind] = random_model(path, RANDOM[kind], seed)
        else:
            found[Path(name).name] = load(name, "cpu")
    return found


def _python(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ast.parse(text)


def _cpp(text):
    import tree_sitter
    import tree_sitter_cpp

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_cpp.language()))
    if parser.parse(text.encode()).root_node.has_error:
        raise ValueError("tree-sitter finds an error")


def _smiles(text):
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    if Chem.MolFromSmiles(text, sanitize=False) is None:
        raise ValueError("RDKit reads no molecule")


JUDGES = {
    "json": (json.loads, "json"),
    "python": (_python, "ast"),
    "cpp": (_cpp, "tree_sitter_cpp"),
    "smiles": (_smiles, "rdkit"),
}


def judged(judge, text):
    """Return what is wrong with a text; nothing where it is valid."""
    try:
        judge(text)
    except Exception as error:  # noqa: BLE001  # judges raise what they like
        return f"{type(error).__name__}: {error}"[:200]
    return ""


def grammars(model, arguments):
    """Return how many texts of each shipped grammar are valid."""
    rows = {}
    for name, language in constrain.GRAMMARS.items():
        judge, library = JUDGES[name]
        if importlib.util.find_spec(library) is None:
            rows[name] = {"skipped": f"{library} is not installed"}
            continue
        begun, wrong, texts = time.process_time(), [], []
        for temperature in (0.0, 1.0):
            samples = generate(
                model, num=arguments.texts, new_tokens=arguments.room, steps=16,
                strategy="composed", temperature=temperature, constraint=language(),
                seed=arguments.seed,
            )  # fmt: skip
            texts += [sample.text for sample in samples]
        wrong = [(why, text) for text in texts if (why := judged(judge, text))]
        rows[name] = {
            "texts": len(texts),
            "valid": len(texts) - len(wrong),
            "distinct": len(set(texts)),
            "wrong": wrong[:3],
            "cpu_seconds": time.process_time() - begun,
        }
        print(name, json.dumps(rows[name])[:300], flush=True)
    return rows


def read(folders):
    """Return schemas as text, by file."""
    paths = [path for folder in folders for path in sorted(Path(folder).glob("*.json"))]
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def schemas(model, texts, arguments):
    """Return what became of each schema."""
    import jsonschema

    vocabulary = vocabulary_of(model)
    rows = []
    for name, text in texts.items():
        row, begun = {"schema": name}, time.process_time()
        try:
            language = constrain.json_schema(text, unknown="ignore")
            tokens = constrain.compiled(language, vocabulary)
        except constrain.ConstraintError as error:
            rows.append(
                row | {"refused": str(error)[:300], "cpu_seconds": time.process_time() - begun}
            )
            continue
        row["compile_cpu_seconds"] = time.process_time() - begun
        room = len(tokens.shortest(tokens.start)) + arguments.spare
        if room > model.max_length:
            rows.append(row | {"refused": f"its shortest text takes {room} tokens"})
            continue
        samples = generate(
            model, num=2, new_tokens=room, steps=16, strategy="composed", temperature=1.0,
            constraint=language, seed=arguments.seed,
        )  # fmt: skip
        wanted = json.loads(text)
        valid = jsonschema.validators.validator_for(wanted)(wanted).validate

        def checker(said, valid=valid):
            valid(json.loads(said))

        wrong = [(why, sample.text) for sample in samples if (why := judged(checker, sample.text))]
        row |= {"texts": len(samples), "wrong": wrong, "room": room}
        rows.append(row | {"cpu_seconds": time.process_time() - begun})
        if wrong:
            print(name, wrong[0], flush=True)
    return rows


def told(rows):
    """Return the counts that matter."""
    written = [row for row in rows if "texts" in row]
    refused = Counter(" ".join(row["refused"].split()[:12]) for row in rows if "refused" in row)
    return {
        "schemas": len(rows),
        "written": len(written),
        "valid texts": sum(row["texts"] - len(row["wrong"]) for row in written),
        "texts": sum(row["texts"] for row in written),
        "refused": sum(refused.values()),
        "reasons": refused.most_common(20),
    }


def main():
    """Write texts with every model under every constraint, and judge them."""
    parser = measure.options(__doc__, rounds=1)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--schemas", nargs="*", default=[])
    parser.add_argument("--limit", type=int, help="schemas read")
    parser.add_argument("--texts", type=int, default=25, help="of each shipped grammar")
    parser.add_argument("--room", type=int, default=96, help="tokens of those texts")
    parser.add_argument("--spare", type=int, default=24, help="tokens beyond a schema's shortest")
    arguments = parser.parse_args()
    measure.one_thread(arguments.seed)
    texts = dict(list(read(arguments.schemas).items())[: arguments.limit])
    record = {"arguments": vars(arguments), "machine": measure.machine(), "models": {}}
    for name, model in models(arguments.models, arguments.seed).items():
        print(f"== {name}", flush=True)
        record["models"][name] = found = {
            "grammars": grammars(model, arguments),
            "schemas": schemas(model, texts, arguments),
        }
        print(json.dumps(told(found["schemas"]), indent=1), flush=True)
    if arguments.out is not None:
        Path(arguments.out).write_text(json.dumps(record, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()

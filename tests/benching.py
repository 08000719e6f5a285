"""Made-up benches: results and answers as a runner would have written them."""

import json
import random

from unison.bench.record import (
    ANSWERS,
    RESULTS,
    Answer,
    Asked,
    Batch,
    Interval,
    Result,
    answers_path,
    line,
)
from unison.suites import wilson
from unison.types import Estimate

ENVIRONMENT = {
    "versions": {"unison": "0.1.0", "python": "3.11.9", "torch": "2.9.1"},
    "machine": {"platform": "Linux-6.1", "processor": "x86_64", "threads": 2, "gpus": []},
    "git": {"commit": "0123456789abcdef", "clean": True},
    "load": [0.1, 0.2, 0.3],
}


def model_facts(name, parameters=1_000_000):
    return {
        "name": name,
        "format": "unison",
        "process": "absorbing",
        "parameters": parameters,
        "dtype": "float32",
        "device": "cpu",
        "max_length": 256,
        "tokenizer": "t0",
        "weights_sha256": f"{abs(hash_of(name)):064x}",
    }


def hash_of(text):
    return sum(ord(letter) * 31**i for i, letter in enumerate(text))


def answer(problem, score, sample=0, nfe=8, tokens=16, group="", text=None, why="wanted more"):
    text = f" text of {problem}" if text is None else text
    why = why if score < 1 else ""
    return Answer(problem, sample, group, text, text.strip(), float(score), why, nfe, tokens)


def answers_of(scores, nfe=8, tokens=16, task="copy", groups=("n=3",)):
    """Answers with the given scores, one problem each."""
    return [
        answer(f"{task}/{i:04}", s, nfe=nfe, tokens=tokens, group=groups[i % len(groups)])
        for i, s in enumerate(scores)
    ]


def interval(scores):
    scores = list(scores)
    mean = sum(scores) / len(scores)
    return Interval(mean, *wilson(sum(scores), len(scores)), len(scores))


def mean(values, unit):
    values = [float(v) for v in values]
    n, m = len(values), sum(values) / len(values)
    spread = sum((v - m) ** 2 for v in values) / max(n - 1, 1)
    return Estimate(m, (spread / n) ** 0.5, n, unit)


def done(asked, answers, seconds=2.0, **changes):
    """The result that these answers come to."""
    by_problem = {}
    for a in answers:
        by_problem.setdefault(a.problem, []).append(a)
    scores = {p: sum(a.score for a in of) / len(of) for p, of in by_problem.items()}
    groups = dict.fromkeys(a.group for a in answers if a.group)
    tokens, nfe = sum(a.tokens for a in answers), sum(a.nfe for a in answers)
    facts = {
        "problems": len(by_problem),
        "samples": len(answers) // len(by_problem),
        "accuracy": interval(scores.values()),
        "groups": {
            g: interval([scores[p] for p, of in by_problem.items() if of[0].group == g])
            for g in groups
        },
        "nfe": mean([a.nfe for a in answers], "evaluations"),
        "tokens": mean([a.tokens for a in answers], "tokens"),
        "tokens_per_forward": tokens / nfe,
        "tokens_per_second": tokens / seconds,
        "tokens_per_cpu_second": tokens / seconds / 1.9,
        "first_token": Estimate(0.01 * seconds, 0.001, 4, "s"),
        "first_block": Estimate(0.1 * seconds, 0.01, 4, "s"),
        "seconds": seconds,
        "overhead": 0.012,
        "peak_memory": 321 * 2**20,
        "new_tokens": 16,
        "batch_size": 16,
        "seed": 0,
        "prompts_sha256": f"{hash_of(asked.task):064x}",
        "settings": {"strategy": {"kind": asked.strategy}, "temperature": 0.0, "cache": "none"},
        "model": model_facts(asked.model),
        "environment": ENVIRONMENT,
    }
    return Result(asked, "done", **(facts | changes))


def batches_of(answers, seconds=2.0, size=16):
    rows = [len(answers[i : i + size]) for i in range(0, len(answers), size)]
    total = sum(rows)
    return [Batch(n, seconds * n / total, seconds * n / total * 1.9, 0.01, 0.1, 0.2) for n in rows]


def write_bench(folder, cells, seconds=2.0, size=16):
    """Write a bench of (result, answers) pairs as the runner does."""
    (folder / ANSWERS).mkdir(parents=True, exist_ok=True)
    (folder / RESULTS).write_text("".join(line(result) + "\n" for result, _ in cells))
    for result, answers in cells:
        if not answers:
            continue
        lines, start = [], 0
        for batch in batches_of(answers, result.seconds or seconds, size):
            lines += [vars(a) for a in answers[start : start + batch.rows]] + [vars(batch)]
            start += batch.rows
        text = "".join(json.dumps(each) + "\n" for each in lines)
        answers_path(folder, result.asked).write_text(text)
    return folder


MODELS = {"runs/small": 0.35, "runs/medium-86M": 0.6, "/data/large-student-distilled": 0.78}
STRATEGIES = {
    "ancestral": (32, 0.1),
    "threshold:threshold=0.9": (11, 0.06),
    "threshold:threshold=0.7": (6, -0.02),
    "entropy_bounded:bound=0.1": (8, 0.03),
}
TASKS = {"copy:items=5": ("n=3", "n=5", "n=9"), "sudoku": ("4x4",), "recall": ("d=64", "d=256")}


def large_bench(count=96):
    """Three models, four strategies, three tasks; one cell skipped, one failed."""
    dice = random.Random("bench")
    cells = []
    for m, (model, skill) in enumerate(MODELS.items()):
        for t, (task, groups) in enumerate(TASKS.items()):
            for way, (nfe, gain) in STRATEGIES.items():
                asked = Asked(model, task, way)
                if (m, t, way) == (0, 1, "ancestral"):
                    reason = "the prompt has 300 tokens; the model takes at most 256"
                    facts = {"reason": reason, "environment": ENVIRONMENT}
                    cells.append((Result(asked, "skipped", **facts), []))
                    continue
                if (m, t, way) == (2, 2, "ancestral"):
                    reason = "RuntimeError: [enforce fail] not enough memory"
                    facts = {"reason": reason, "environment": ENVIRONMENT}
                    cells.append((Result(asked, "failed", **facts), []))
                    continue
                answers = [
                    answer(
                        f"{task}/{i:04}",
                        dice.random() < skill + gain - 0.15 * t - 0.08 * (i % len(groups)),
                        nfe=max(1, nfe + int(4 * dice.random()) - 2) if nfe < 32 else 32,
                        tokens=14 + int(5 * dice.random()),
                        group=groups[i % len(groups)],
                        text=f" [Ann, Bob | {i}, `C*d`]\n<b>more</b>" if i % 7 else " 42",
                    )
                    for i in range(count)
                ]
                seconds = count * nfe * 0.004 * (m + 1) * (0.9 + 0.2 * dice.random())
                load = {"load": [round(dice.random(), 2) for _ in range(3)]}
                result = done(asked, answers, seconds, environment=ENVIRONMENT | load)
                cells.append((result, answers))
    return cells

"""What does llama.cpp write, and how fast? For interpreters that have its binding and little else.

Called by ``benchmarks.speculative`` with the path of a GGUF file, prompts as token ids in JSON, the
number of tokens, the number of rounds, and ``lookup`` for prompt lookup decoding.
"""

import json
import sys
import time
from typing import Any

from llama_cpp import Llama  # pyright: ignore
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding  # pyright: ignore


def write(model: Any, inputs: list[int], count: int) -> dict[str, Any]:
    """Return seconds and tokens of a greedy answer."""
    model.reset()
    tokens: list[int] = []
    cpu, wall = time.process_time(), time.perf_counter()
    for token in model.generate(inputs, temp=0.0, top_k=1, repeat_penalty=1.0):
        tokens.append(token)
        if len(tokens) == count:
            break
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "tokens": tokens,
    }


def main() -> None:
    """Print a line of JSON for each round and prompt."""
    path, asked, new, rounds, threads, lookup = sys.argv[1:]
    draft = LlamaPromptLookupDecoding(num_pred_tokens=10) if lookup == "lookup" else None
    model = Llama(
        path,
        n_ctx=512,
        n_threads=int(threads),
        n_threads_batch=int(threads),
        verbose=False,
        draft_model=draft,
        logits_all=draft is not None,
    )
    inputs: dict[str, list[int]] = json.loads(asked)
    for text in inputs.values():
        write(model, text, 4)
    for _ in range(int(rounds)):
        for name, text in inputs.items():
            first, whole = write(model, text, 1), write(model, text, int(new))
            line = {
                "prompt": name,
                "cpu": whole["cpu"] - first["cpu"],
                "wall": whole["wall"] - first["wall"],
                "cpu with prompt": whole["cpu"],
                "tokens": whole["tokens"],
            }
            print(json.dumps(line), flush=True)


main()

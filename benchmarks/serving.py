"""What does a server make of one machine, and does it last?

``measure``: sixteen different requests, one by one and then all at once, against a real server on
loopback; the same process, rounds in turn. Throughput is the ratio of the two times. The latency
of each request at once is divided by its own latency alone, and the 95th percentile told; beside
it stands the 95th percentile at once over that alone. The engine's overhead is what its rounds
take beyond networks and strategies. The time to the first draft is divided by one evaluation of
the same canvas.

``load``: minutes of saturation with random requests, cancellations and malformed bodies; every
answer is compared with ``unison.generate`` for its seed, memory is watched.

Run: ``python -m benchmarks.serving measure --model NAME=PATH --out x.json``, and the same with
``load --minutes 10``. Nothing is sent beyond loopback.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import torch

import unison
from benchmarks import measure
from unison.language_model import LanguageModel
from unison.process import Sequential
from unison.serve.running import Server, hosting
from unison.serve.service import Hosted
from unison.serve.settings import Settings
from unison.types import Focus

PROMPTS = ["The ", "Once upon a time", "In the year ", "He said that ", "A list of"]
AT_ONCE = 16
STOP = {"strategy": "left_to_right", "cache": "exact", "settings": {"stop_at_end": True}}


class Reply(NamedTuple):
    """An answer and how long it took."""

    status: int
    body: dict[str, Any]
    seconds: float


def ways(model: LanguageModel) -> list[dict[str, Any]]:
    """Return the settings that requests of a model are mixed of."""
    if isinstance(model.process, Sequential):
        return [STOP, STOP | {"temperature": 0.8}, STOP | {"top_k": 20}]
    if model.network.config.block_length is not None:
        return [
            {"strategy": "bd3", "cache": "exact"},
            {"strategy": "bd3", "cache": "exact", "temperature": 0.8},
            {"strategy": "fast-dllm", "cache": "exact"},
        ]
    return [
        {"strategy": "fast-dllm"},
        {"strategy": "llada", "steps": 24},
        {"strategy": "ancestral", "steps": 32},
    ]


def requests(
    name: str, model: LanguageModel, count: int, seed: int, prompts: Sequence[str] = PROMPTS
) -> list[dict[str, Any]]:
    """Return different requests: prompts, lengths, settings and seeds."""
    rnd, kinds = random.Random(seed), ways(model)
    room = min(model.max_length, 64)
    made = []
    for number in range(count):
        prompt = rnd.choice(prompts)
        free = room - len(model.tokenizer.encode(prompt))
        block = model.network.config.block_length or 1
        size = rnd.choice([free // 2, 3 * free // 4, free]) if block == 1 else free
        body = {"model": name, "prompt": prompt, "max_tokens": size, "seed": number + 100 * seed}
        made.append(body | kinds[number % len(kinds)])
    return made


async def ask(client: httpx.AsyncClient, body: dict[str, Any]) -> Reply:
    """Send one request."""
    began = time.perf_counter()
    answer = await client.post("/v1/completions", json=body)
    return Reply(answer.status_code, answer.json(), time.perf_counter() - began)


async def turns(
    client: httpx.AsyncClient, bodies: Sequence[dict[str, Any]]
) -> tuple[list[Reply], list[Reply], float]:
    """Return the answers one by one, all at once, and how long the latter took."""
    alone = [await ask(client, body) for body in bodies]
    began = time.perf_counter()
    together = await asyncio.gather(*(ask(client, body) for body in bodies))
    return alone, list(together), time.perf_counter() - began


def text(reply: Reply) -> str:
    """Return what was written; an answer that is none is shown whole."""
    if reply.status != 200:
        raise SystemExit(f"a request failed: {reply.status} {reply.body}")
    return reply.body["choices"][0]["text"]


async def measured(
    server: Server, name: str, model: LanguageModel, rounds: int
) -> dict[str, list[float]]:
    """Return what was measured of one model, a number for each round."""
    found: dict[str, list[float]] = {
        "throughput": [], "latency p95": [], "p95 over p95": [], "overhead": [], "first draft": []
    }  # fmt: skip
    engine = server.service.engine
    async with httpx.AsyncClient(base_url=server.url, timeout=600) as client:
        await turns(client, requests(name, model, AT_ONCE, 0))
        for number in range(rounds):
            before = engine.stats()
            alone, together, wall = await turns(client, requests(name, model, AT_ONCE, number + 1))
            after = engine.stats()
            if [text(one) for one in alone] != [text(one) for one in together]:
                raise SystemExit("a text changed with what ran beside it.")
            single = sum(one.seconds for one in alone)
            slower = [b.seconds / a.seconds for a, b in zip(alone, together, strict=True)]
            busy, inside = (
                after.busy_seconds - before.busy_seconds,
                after.model_seconds + after.step_seconds
                - before.model_seconds - before.step_seconds,
            )  # fmt: skip
            found["throughput"].append(single / wall)
            found["latency p95"].append(tail(slower))
            found["p95 over p95"].append(
                tail([one.seconds for one in together]) / tail([one.seconds for one in alone])
            )
            found["overhead"].append((busy - inside) / inside)
            found["first draft"].append(await first_draft(client, name, model))
    return found


def tail(values: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


async def first_draft(client: httpx.AsyncClient, name: str, model: LanguageModel) -> float:
    """Return the time to the first draft of an idle server over that of one evaluation."""
    length = model.max_length
    body = requests(name, model, 1, 0)[0] | {"stream": True, "drafts": True}
    body["max_tokens"] = length - len(model.tokenizer.encode(body["prompt"]))
    began = time.perf_counter()
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if "unison" in line or '"text":"' in line:
                break
    return (time.perf_counter() - began) / evaluation(model, length)


def evaluation(model: LanguageModel, length: int) -> float:
    """Return the seconds of one evaluation of a canvas, the least of five."""
    xt = torch.zeros(1, length, dtype=torch.int64, device=model.device)
    place = torch.arange(length, device=model.device)[None]
    focus = Focus(place, torch.tensor([[0, length]], device=model.device))
    denoise, seconds = model.denoiser(), []
    for _ in range(5):
        began = time.perf_counter()
        denoise(xt, torch.ones(1, dtype=torch.float64), focus)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


TARGETS = {
    "throughput": ">= 3",
    "latency p95": "<= 2.5",
    "p95 over p95": "",
    "overhead": "<= 0.05",
    "first draft": "<= 1.2 + queue",
}


def table(found: Mapping[str, dict[str, list[float]]]) -> None:
    """Print the median of every number, and the extremes."""
    print(f"{'model':12} {'number':14} {'median':>8} {'min':>8} {'max':>8}  target")
    for name, numbers in found.items():
        for what, values in numbers.items():
            row = f"{statistics.median(values):8.3f} {min(values):8.3f} {max(values):8.3f}"
            print(f"{name:12} {what:14} {row}  {TARGETS[what]}")


class Load:
    """Random requests for some minutes; what came of them.

    Attributes:
        statuses: How many answers had each status.
        wrong: Texts that were not ``generate``'s.
        cancelled: Requests that were given up on purpose.
        memory: Resident bytes, once a second.
    """

    def __init__(
        self, models: Mapping[str, LanguageModel], seed: int, prompts: Sequence[str] = PROMPTS
    ) -> None:
        self.models, self.rnd, self.prompts = models, random.Random(seed), prompts
        self.statuses: dict[str, int] = {}
        self.wrong: list[dict[str, Any]] = []
        self.cancelled = 0
        self.memory: list[int] = []
        self.compared = 0

    async def run(self, url: str, seconds: float, workers: int) -> None:
        """Keep that many requests in flight."""
        until = time.monotonic() + seconds
        limits = httpx.Limits(max_connections=2 * workers)
        async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
            watch = asyncio.create_task(self._watch(until))
            await asyncio.gather(*(self._worker(client, until) for _ in range(workers)))
            await watch

    async def _watch(self, until: float) -> None:
        while time.monotonic() < until:
            self.memory.append(resident())
            await asyncio.sleep(1)

    async def _worker(self, client: httpx.AsyncClient, until: float) -> None:
        while time.monotonic() < until:
            kind = self.rnd.random()
            if kind < 0.15:
                await self._malformed(client)
            elif kind < 0.7:
                await self._cancelled(client)
            else:
                await self._written(client)

    def _body(self) -> dict[str, Any]:
        name = self.rnd.choice(list(self.models))
        number = self.rnd.randrange(12)
        body = requests(name, self.models[name], AT_ONCE, 7, self.prompts)[number]
        return body | ({"stream": True} if self.rnd.random() < 0.3 else {})

    async def _written(self, client: httpx.AsyncClient) -> None:
        body = self._body()
        answer = await client.post("/v1/completions", json=body)
        self._count(answer.status_code)
        if answer.status_code != 200:
            return
        said = (
            streamed_text(answer.text)
            if body.get("stream")
            else answer.json()["choices"][0]["text"]
        )
        self.compared += 1
        if said != self.expected(body):
            self.wrong.append(body)

    async def _cancelled(self, client: httpx.AsyncClient) -> None:
        body = self._body() | {"stream": True}
        try:
            async with asyncio.timeout(self.rnd.random() * 0.5):
                async with client.stream("POST", "/v1/completions", json=body) as answer:
                    async for _ in answer.aiter_lines():
                        pass
                self._count(answer.status_code)
        except TimeoutError:
            self.cancelled += 1

    async def _malformed(self, client: httpx.AsyncClient) -> None:
        content = self.rnd.choice(
            [
                b"{",
                b"[]",
                b'{"prompt": NaN}',
                b'{"prompt": "\xff"}',
                b'{"prompt": 3}',
                b'{"prompt": "a", "max_tokens": -1}',
                b'{"prompt": "a", "no_such_field": 1}',
                b'{"prompt": "a", "strategy": "no_such"}',
                b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}",
                b'{"prompt": "a", "regex": "(a|b){9999999}"}',
            ]
        )
        kind = {"content-type": "application/json"}
        answer = await client.post("/v1/completions", content=content, headers=kind)
        self._count(answer.status_code)

    def _count(self, status: int) -> None:
        self.statuses[str(status)] = self.statuses.get(str(status), 0) + 1

    def expected(self, body: dict[str, Any]) -> str:
        """Return the text ``generate`` writes for a body; each is asked once."""
        key = json.dumps({k: v for k, v in body.items() if k != "stream"}, sort_keys=True)
        if key not in self._known:
            self._known[key] = solo(self.models[body["model"]], body)
        return self._known[key]

    @property
    def _known(self) -> dict[str, str]:
        return self.__dict__.setdefault("known", {})


def solo(model: LanguageModel, body: dict[str, Any]) -> str:
    """Return what ``unison.generate`` writes for a body of ours."""
    from unison.decode.autoregressive import LeftToRight
    from unison.generation import filled

    how = {k: v for k, v in body.items() if k in ("steps", "temperature", "top_k", "cache")}
    named = body["strategy"]
    strategy = LeftToRight(stop_at_end=True) if named == "left_to_right" else named
    (sample,) = unison.generate(
        model,
        body["prompt"],
        new_tokens=body["max_tokens"],
        seed=body["seed"],
        strategy=strategy,
        **how,
    )
    return filled(model, sample)[0]


def streamed_text(sent: str) -> str:
    """Return the deltas of an event stream, put together."""
    parts = [line[6:] for line in sent.splitlines() if line.startswith("data: {")]
    return "".join(
        choice.get("text", "") for part in parts for choice in json.loads(part)["choices"]
    )


def resident() -> int:
    """Return the bytes of this process in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return 1024 * int(line.split()[1])
    return 0


def drift(memory: Sequence[int]) -> float:
    """Return by how much memory grew from the second fifth of a run to its last."""
    fifth = max(len(memory) // 5, 1)
    early, late = memory[fifth : 2 * fifth] or memory, memory[-fifth:]
    return statistics.mean(late) / statistics.mean(early) - 1


def loaded(named: Sequence[str]) -> dict[str, LanguageModel]:
    """Return models by name, from NAME=PATH."""
    models = {}
    for one in named:
        name, _, path = one.partition("=")
        models[name] = unison.load(path, "cpu")
    return models


def main() -> None:
    """Measure, or put under load, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["measure", "load"])
    parser.add_argument("--model", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    models = loaded(options.model)
    hosted = {name: Hosted(name, model) for name, model in models.items()}
    service = hosting(hosted, Settings(port=0, rows=32, waiting=512))
    lines: list[str] = []
    with Server(service, log=lines.append) as server:
        if options.what == "measure":
            found = {
                name: asyncio.run(measured(server, name, model, options.rounds))
                for name, model in models.items()
            }
            table(found)
            record: dict[str, Any] = {"ratios": found}
        else:
            record = {"load": under_load(server, models, options)}
    if options.out is not None:
        record |= {"machine": measure.machine(), "models": options.model}
        options.out.write_text(json.dumps(record, indent=2) + "\n")


def under_load(
    server: Server, models: Mapping[str, LanguageModel], options: argparse.Namespace
) -> dict[str, Any]:
    """Run the load and print what came of it."""
    load = Load(models, options.seed)
    for name, model in models.items():  # before anything is timed
        for body in requests(name, model, AT_ONCE, 7):
            load.expected(body)
    asyncio.run(load.run(server.url, 60 * options.minutes, options.workers))
    time.sleep(1)
    stats = server.service.engine.stats()
    result = {
        "statuses": load.statuses,
        "compared": load.compared,
        "wrong": len(load.wrong),
        "cancelled": load.cancelled,
        "left running": stats.rows + stats.waiting,
        "memory drift": drift(load.memory),
        "memory": [min(load.memory), max(load.memory)],
        "stats": stats._asdict(),
    }
    print(json.dumps(result, indent=2))
    return result


if __name__ == "__main__":
    main()

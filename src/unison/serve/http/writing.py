"""How does a request become text? The way all writing endpoints share.

For example, an endpoint that answers when all is written::

    wish = Wish(service.model(body.model), Asked(prompt="Once", new_tokens=8), body)
    job = await prepared(service, request, wish)  # ValueError: cannot be done
    texts = await written(service, request, job)  # one Wrote per text, in order
    return {"text": texts[0].answer, "usage": usage(job, texts)}

and one that streams: ``return await unison.serve.http.streaming.streamed(service, job, chunks)``.
"""

import asyncio
import contextlib
import contextvars
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from unison.constrain import ConstraintError
from unison.generation.ordering import Asked, Order, ordered
from unison.serve.batching import Event, Failed, Terms, Work, Write, Wrote, listen
from unison.serve.http.controls import Standard, constraint, constraint_field, covered, sampling
from unison.serve.http.errors import Refused, refusal
from unison.serve.http.fields import Usage
from unison.serve.service import Hosted, Service

T = TypeVar("T")
_COMPILING = ThreadPoolExecutor(2, "unison-compiling")


@dataclass(frozen=True)
class Wish:
    """What a request wants written.

    Attributes:
        hosted: Who writes.
        asked: Prompt, suffix or parts, and the number of new tokens. Length, number of texts,
            seed and constraint of the request are filled in by ``prepared``; a constraint that is
            here already stays.
        body: The request: how it is written, and the names of its fields for messages.
        stop: Strings that end a text, besides those of the request.
    """

    hosted: Hosted
    asked: Asked
    body: Standard
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """Work that was looked at and can be done.

    Attributes:
        hosted: Who writes.
        write: For the engine.
        seed: Of its randomness.
    """

    hosted: Hosted
    write: Write
    seed: int

    @property
    def order(self) -> Order:
        """What is written."""
        return self.write.order


async def prepared(service: Service, request: Request, wish: Wish) -> Job:
    """Return work for the engine; everything that can be refused is refused here.

    Raises:
        ValueError: It cannot be done; a ``Refused`` names the field of the request.
    """
    client = getattr(request.state, "client", "")
    heavy = constraint_field(wish.body) is not None
    return await aside(heavy, lambda: job_of(service, wish, client))


async def aside(heavy: bool, make: Callable[[], T]) -> T:
    """Return what is made in a worker thread.

    Args:
        heavy: Whether a language is compiled, which takes seconds for a large one. Those wait for
            each other, so that many of them leave threads for all other requests.
        make: Makes it.
    """
    workers = _COMPILING if heavy else None
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(workers, context.run, make)


def job_of(service: Service, wish: Wish, client: str = "") -> Job:
    """Return the same, in the calling thread.

    Args:
        service: Whose limits hold.
        wish: What is wanted.
        client: Whose it is.

    Raises:
        ValueError: It cannot be done; a ``Refused`` names the field of the request.
    """
    body, settings = wish.body, service.settings
    seed = secrets.randbits(31) if body.seed is None else body.seed
    _check_count(service, wish)
    fields = type(body).model_fields
    try:
        how = sampling(
            wish.hosted.model,
            body,
            body.temperature,
            body.top_p,
            ending=wish.asked.parts is None and not wish.asked.suffix,
        )
        asked = replace(
            wish.asked,
            length=wish.asked.length if body.length is None else body.length,
            constraint=constraint(body) or wish.asked.constraint,
            covers=covered(body) if body.covers else wish.asked.covers,
            num=body.n,
            seed=seed,
        )
        order = _limited(service, wish, asked, ordered(wish.hosted.model, asked, how))
    except RecursionError:
        raise Refused("what is asked for has too much inside each other.") from None
    except ConstraintError as error:
        raise refusal(error, fields, constraint_field(body)) from error
    except ValueError as error:
        raise refusal(error, fields) from error
    _check_prompts(service, order, fields)
    deadline = settings.timeout if body.deadline is None else min(body.deadline, settings.timeout)
    terms = Terms(client, body.priority, deadline)
    stop = tuple(dict.fromkeys((*body.stops, *wish.stop)))
    return Job(wish.hosted, Write(order, stop, body.stream, terms), seed)


def _check_count(service: Service, wish: Wish) -> None:
    prompt = wish.asked.prompt
    prompts = 1 if isinstance(prompt, str) else len(prompt)
    if wish.body.n * prompts > service.settings.texts:
        raise Refused(
            f"{wish.body.n} texts for each of {prompts} prompts are more than the "
            f"{service.settings.texts} texts this server writes for one request.",
            "n" if wish.body.n > 1 else "prompt",
        )


def _limited(service: Service, wish: Wish, asked: Asked, order: Order) -> Order:
    """Return an order that writes no more than the server lets it.

    Where the request does not say how much, it is as much as the server allows.

    Raises:
        Refused: The request says more.
    """
    most = service.settings.new_tokens
    if most is None or max(_open(order)) <= most:
        return order
    if asked.length is None and asked.new_tokens is None and asked.parts is None:
        asked = replace(asked, new_tokens=most)
        return ordered(order.model, asked, order.sampling, order.how)
    fields = type(wish.body).model_fields
    said = [name for name in ("length", *_SIZES) if getattr(wish.body, name, None) is not None]
    field = next((name for name in said if name in fields), None)
    raise Refused(
        f"{max(_open(order))} new tokens are more than the {most} this server writes for one text.",
        field,
    )


_SIZES = ("max_tokens", "max_completion_tokens", "canvas")


def _open(order: Order) -> list[int]:
    return [len(text.row.given) - sum(text.row.given) for text in order.texts]


def _check_prompts(service: Service, order: Order, fields: Collection[str]) -> None:
    most = service.settings.prompt_tokens
    longest = max(sum(text.row.given) for text in order.texts)
    if most is not None and longest > most:
        field = next((name for name in ("prompt", "messages", "canvas") if name in fields), None)
        raise Refused(
            f"what is given takes {longest} tokens, more than the {most} this server reads.", field
        )


async def events(service: Service, work: Work) -> AsyncGenerator[Event, None]:
    """Yield what the engine tells of work, ``Finished`` last; closing it gives the work up.

    Raises:
        Full: The engine takes no more work.
        Exception: Why the work failed.
    """
    async with contextlib.aclosing(listen(service.engine, work)) as told:
        async for event in told:
            if isinstance(event, Failed):
                raise event.error
            yield event


async def written(service: Service, request: Request, job: Job) -> list[Wrote]:
    """Return all texts, in the order's order; given up where the client goes.

    Raises:
        ClientDisconnect: The client has gone.
        Exception: Why it failed.
    """

    async def collected() -> list[Wrote]:
        async with contextlib.aclosing(events(service, job.write)) as told:
            texts = [event async for event in told if isinstance(event, Wrote)]
        return sorted(texts, key=lambda one: one.text)

    return await attended(request, collected())


async def attended(request: Request, answer: Awaitable[T]) -> T:
    """Return what is awaited, for a client that waits too; cancel it when the client goes.

    Raises:
        ClientDisconnect: The client has gone.
    """
    work = asyncio.ensure_future(answer)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientDisconnect
    finally:
        for task in (work, watch):
            task.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def usage(job: Job, texts: Sequence[Wrote]) -> dict[str, Any]:
    """Return what a request took, as the fields of ``Usage``."""
    prompts = {text.prompt: sum(text.row.given) for text in job.order.texts}
    prompt, completion = sum(prompts.values()), sum(one.tokens for one in texts)
    nfe = sum(one.sample.nfe for one in texts)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        nfe=nfe,
        tokens_per_forward=completion / nfe if nfe else 0.0,
    ).model_dump()

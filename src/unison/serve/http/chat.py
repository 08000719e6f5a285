"""How is a conversation continued? ``POST /v1/chat/completions``, as OpenAI's, with controls."""

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from unison.constrain import ConstraintError, Grammar
from unison.generation.ordering import Asked
from unison.serve.batching import Wrote
from unison.serve.http import tools as calling
from unison.serve.http.bodies import strict_json
from unison.serve.http.chat_fields import ChatCompletion, ChatRequest
from unison.serve.http.controls import CONSTRAINTS, check_stream, constraint_field
from unison.serve.http.errors import WRITES, Refused
from unison.serve.http.likelihoods import check_logprobs, likelihoods
from unison.serve.http.messages import conversation
from unison.serve.http.response_format import language
from unison.serve.http.streaming import Begun, Delta, Done, Note, Told, streamed
from unison.serve.http.templates import Chat, chat_of
from unison.serve.http.writing import Job, Wish, aside, job_of, usage, written
from unison.serve.service import Hosted, Service

Said = dict[str, Any]


@dataclass(frozen=True)
class _Answer:
    """What is known of an answer before it is written."""

    body: ChatRequest
    job: Job
    digits: int | None
    calls: bool
    id: str
    created: int

    def head(self, kind: str) -> Said:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.job.hosted.name,
        }

    def choice(self, wrote: Wrote) -> Said:
        """Return a finished text as a choice."""
        call = calling.read(wrote.answer) if self.calls and calling.is_call(wrote.answer) else None
        message: Said = {"role": "assistant", "content": wrote.answer, "refusal": None}
        if call is not None:
            made = _call_object(_call_name(), call)
            message = {**message, "content": None, "tool_calls": [made]}
        return {
            "index": wrote.text,
            "message": message,
            "logprobs": self.logprobs(wrote),
            "finish_reason": wrote.ended if call is None else "tool_calls",
        }

    def logprobs(self, wrote: Wrote) -> Said | None:
        """Return log-probabilities where they were asked for."""
        if not self.body.logprobs:
            return None
        told = likelihoods(self.job, wrote, self.digits, (0, False))
        pairs = zip(told["tokens"], told["token_logprobs"], strict=True)
        return {"content": [self._likelihood(*pair) for pair in pairs], "refusal": None}

    def _likelihood(self, token: str, logprob: float | None) -> Said:
        said = {"token": token, "logprob": logprob, "bytes": list(token.encode())}
        return {**said, "top_logprobs": [said] if self.body.top_logprobs else []}


def router(service: Service) -> APIRouter:
    """Return the route."""
    routes = APIRouter(tags=["writing"], dependencies=[Depends(strict_json)])
    chats: dict[str, tuple[int, Chat]] = {}  # by model, with its version

    def chat(hosted: Hosted) -> Chat:
        version, known = chats.get(hosted.name, (0, None))
        if known is None or version != hosted.version:
            known = chat_of(hosted.model, hosted.source)
            chats[hosted.name] = hosted.version, known
        return known

    def ready(body: ChatRequest, client: str) -> Job:
        hosted = service.model(body.model)
        return _job(service, body, hosted, chat(hosted), client)

    @routes.post(
        "/v1/chat/completions",
        operation_id="create_chat_completion",
        summary="Continue a conversation",
        responses={
            200: {
                "model": ChatCompletion,
                "description": "The answers; with `stream`, chunks of them as server-sent events.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **WRITES,
        },
    )
    async def converse(body: ChatRequest, request: Request) -> Response:
        check(service, body)
        client = getattr(request.state, "client", "")
        heavy = constraint_field(body) is not None
        job = await aside(heavy, lambda: ready(body, client))
        answer = _Answer(
            body,
            job,
            service.settings.logprob_digits,
            bool(body.tools) and body.tool_choice != "none",
            f"chatcmpl-{secrets.token_hex(12)}",
            int(time.time()),
        )
        if body.stream:
            return await streamed(service, request, job, _Chunks(answer).of, drafts=body.drafts)
        texts = await written(service, request, job)
        return JSONResponse(
            {
                **answer.head("chat.completion"),
                "choices": [answer.choice(one) for one in texts],
                "usage": usage(job, texts),
                "seed": job.seed,
            }
        )

    return routes


def check(service: Service, body: ChatRequest) -> None:
    """Refuse what contradicts itself, or the server's settings.

    Raises:
        Refused: Naming the field.
    """
    check_stream(body)
    if body.top_logprobs is not None and not body.logprobs:
        raise Refused("top_logprobs speaks of logprobs; set these, too.", "top_logprobs")
    most = service.settings.logprobs
    if body.top_logprobs is not None and 0 < most < body.top_logprobs:
        raise Refused(
            f"top_logprobs must be at most {most} on this server, got {body.top_logprobs}.",
            "top_logprobs",
        )
    check_logprobs(most, 0 if body.logprobs else None)
    sizes = [size for size in (body.max_tokens, body.max_completion_tokens) if size is not None]
    if len(set(sizes)) > 1:
        raise Refused(
            f"max_tokens={sizes[0]} and max_completion_tokens={sizes[1]} are the same thing said "
            "twice; give one.",
            "max_completion_tokens",
        )


def _job(service: Service, body: ChatRequest, hosted: Hosted, chat: Chat, client: str) -> Job:
    """Return work that was looked at.

    Raises:
        ValueError: It cannot be done; a ``Refused`` names the field.
    """
    told = [] if body.tools is None or body.tool_choice == "none" else body.tools
    field, allowed = _allowed(body)
    prompt = conversation(chat, body.messages, told)
    size = body.max_tokens or body.max_completion_tokens
    if size is None and body.length is None:
        size = _room(chat, prompt)
    free = allowed is None and not any(getattr(body, name) is not None for name in CONSTRAINTS)
    wish = Wish(
        replace(hosted, model=chat.model),
        Asked(prompt=prompt, new_tokens=size, constraint=allowed),
        body,
        chat.stop if free else (),
    )
    try:
        return job_of(service, wish, client)
    except Refused as error:
        named = error.field
        if allowed is not None and isinstance(error.__cause__, ConstraintError):
            named = field
        elif named is None and "prompt" in str(error):
            named = "messages"
        raise Refused(str(error), named, error.code) from error


def _allowed(body: ChatRequest) -> tuple[str | None, Grammar | None]:
    """Return the language of the answer, and the field that asks for it.

    Raises:
        Refused: Two say what is allowed, or what one says cannot be met.
    """
    said = [name for name in CONSTRAINTS if getattr(body, name) is not None]
    if body.response_format is not None and body.response_format.type != "text":
        said.append("response_format")
    if body.tools and body.tool_choice != "none":
        said.append("tools")
        if body.stops:
            raise Refused(
                "stop would cut a call short; leave it out where there are tools.", "stop"
            )
    if len(said) > 1:
        raise Refused(
            f"{' and '.join(said)} all say what text is allowed; give one of them"
            f"{', or tool_choice none' if 'tools' in said else ''}.",
            said[-1],
        )
    called = calling.calls(body.tools, body.tool_choice)
    if called is not None:
        return "tools", called
    try:
        return "response_format", language(body.response_format)
    except ConstraintError as error:
        raise Refused(str(error), "response_format") from error


def _room(chat: Chat, prompt: str) -> int:
    """Return how many tokens to write where nobody says: the usual number, or what there is.

    Raises:
        Refused: There is no room for any.
    """
    model = chat.model
    size = len(model.tokenizer.encode(prompt))
    if size >= model.max_length:
        raise Refused(
            f"the messages take {size} tokens, and prompt and answer together at most "
            f"{model.max_length}; shorten them.",
            "messages",
        )
    return min(model.defaults.length, model.max_length - size)


def _call_name() -> str:
    return f"call_{secrets.token_hex(12)}"


def _call_object(name: str, call: calling.Call) -> Said:
    return {"id": name, "type": "function", "function": call._asdict()}


class _Chunks:
    """Turns what is told of answers into chunks; remembers how far each has come."""

    def __init__(self, answer: _Answer) -> None:
        options = answer.body.stream_options
        self._answer = answer
        self._counted = options is not None and options.include_usage
        self._head = answer.head("chat.completion.chunk")
        self._texts: dict[int, str] = {}  # all that is known of each
        self._calls: dict[int, calling.Call] = {}  # as far as they were sent

    def of(self, told: Told) -> Iterable[Said]:
        """Return the chunks of what is told."""
        match told:
            case Begun(texts):
                return [self._chunk(i, {"role": "assistant", "content": ""}) for i in range(texts)]
            case Note(_, said):
                return [{**self._usual, "choices": [], "unison": said}]
            case Done(texts) if self._counted:
                return [{**self._head, "choices": [], "usage": usage(self._answer.job, texts)}]
            case Delta():
                return self._grown(told)
        return []

    @property
    def _usual(self) -> Said:
        return {**self._head, **({"usage": None} if self._counted else {})}

    def _chunk(self, index: int, delta: Said, wrote: Wrote | None = None, end: str = "") -> Said:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": None if wrote is None else self._answer.logprobs(wrote),
            "finish_reason": end or None,
        }
        return {**self._usual, "choices": [choice], "seed": self._answer.job.seed}

    def _grown(self, told: Delta) -> list[Said]:
        text = self._texts[told.index] = self._texts.get(told.index, "") + told.text
        wrote = told.wrote
        call = None
        if self._answer.calls and calling.is_call(text):
            call = calling.begun(text) if wrote is None else calling.read(text)
            deltas = [] if call is None else self._called(told.index, call)
        else:
            deltas = [{"content": told.text}] if told.text else []
        chunks = [self._chunk(told.index, delta) for delta in deltas]
        if wrote is not None:
            end = wrote.ended if call is None else "tool_calls"
            chunks.append(self._chunk(told.index, {}, wrote, end))
        return chunks

    def _called(self, index: int, call: calling.Call) -> list[Said]:
        """Return how a call has grown."""
        sent = self._calls.get(index)
        self._calls[index] = call
        if sent is None:
            made = _call_object(_call_name(), call)
            return [{"tool_calls": [{"index": 0, **made}]}]
        grown = call.arguments[len(sent.arguments) :]
        return [{"tool_calls": [{"index": 0, "function": {"arguments": grown}}]}] if grown else []

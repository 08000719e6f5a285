"""What may a chat request say, and what does its answer hold?"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from unison.serve.http.controls import Standard
from unison.serve.http.fields import Usage
from unison.serve.http.messages import Message, ToolCall
from unison.serve.http.response_format import ResponseFormat
from unison.serve.http.tools import MOST, Tool, ToolChoice

_Tokens = Annotated[int, Field(ge=1, le=1 << 31)]


class ChatRequest(Standard):
    """A conversation to be continued."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"messages": [{"role": "user", "content": "Hello"}]}]}
    )

    messages: Annotated[list[Message], Field(min_length=1, max_length=1024)] = Field(
        description="What was said, in order. The model's chat template writes it down; a model "
        "without one reads `User: ...` and `Assistant: ...` on lines of their own."
    )
    max_tokens: _Tokens | None = Field(
        default=None,
        description="Tokens to write. If left out, as many as the model's usual canvas, as far "
        "as there is room behind the prompt.",
    )
    max_completion_tokens: _Tokens | None = Field(
        default=None, description="The same by its newer name."
    )
    response_format: ResponseFormat | None = Field(
        default=None,
        description="What the answer must be: json_object, json_schema, and as extensions regex "
        "and grammar. Every answer obeys.",
    )
    tools: Annotated[list[Tool], Field(min_length=1, max_length=MOST)] | None = Field(
        default=None, description="Functions the model may call, one at a time."
    )
    tool_choice: ToolChoice | None = Field(
        default=None,
        description="Whether a function is called: none, auto (the model decides; its answer is "
        "talk or a valid call), required, or the one named.",
    )
    parallel_tool_calls: bool | None = Field(
        default=None, description="Taken for compatibility: an answer has one call at most."
    )
    logprobs: bool = Field(
        default=False,
        description="Tell the log-probability each token had when it was written.",
    )
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None,
        description="Only the token itself is ever among the alternatives; 0 leaves them out.",
    )
    modalities: list[Literal["text"]] | None = Field(
        default=None, description="Only text is supported."
    )
    store: Literal[False] | None = Field(default=None, description="Nothing is stored.")
    service_tier: Literal["auto", "default"] | None = Field(
        default=None, description="Taken for compatibility; there is one tier."
    )


class AnswerMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None = Field(description="Its words; null where it called a function.")
    refusal: None = None
    tool_calls: list[ToolCall] | None = Field(
        default=None, description="The call it made; left out where it spoke."
    )


class Alternative(BaseModel):
    """A token and its log-probability.

    A null stands where the strategy does not say.
    """

    token: str
    logprob: float | None
    bytes: list[int] | None


class TokenLikelihood(Alternative):
    """A token of the answer."""

    top_logprobs: list[Alternative]


class ChatLikelihoods(BaseModel):
    """Log-probabilities of an answer's tokens, when they were written."""

    content: list[TokenLikelihood]
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLikelihoods | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(BaseModel):
    """The answers that were written."""

    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="Unix time.")
    model: str
    choices: list[ChatChoice]
    usage: Usage
    seed: int = Field(description="The request's, or the one drawn for it.")

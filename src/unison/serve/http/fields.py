"""What may a request say? Strict fields: nothing is coerced, nothing unknown is passed over."""

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from unison.suggest import nearest


class Strict(BaseModel):
    """A JSON object whose fields are all known, and of the types they are declared with."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, said: Any) -> Any:
        """Refuse an unknown field by its name, with the nearest known one."""
        if isinstance(said, dict):
            for name in said:
                if name not in cls.model_fields:
                    hint = nearest(name, cls.model_fields)
                    raise PydanticCustomError(
                        "unknown_field",
                        'unknown field "{name}"{hint}.',
                        {"name": name, "hint": hint},
                    )
        return said


def one_of(what: str, known: Collection[str]) -> Any:
    """Return the type of a field that holds one of the names in a table."""

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(
                f"unknown {what} {name!r}{nearest(name, known)}; known: {', '.join(known)}"
            )
        return name

    schema = {"type": "string", "enum": list(known)}
    return Annotated[str, AfterValidator(check), WithJsonSchema(schema)]


def _zero(value: float) -> float:
    if value != 0:
        raise ValueError(f"only 0 is supported, got {value:g}")
    return value


def _empty(value: dict[str, Any]) -> dict[str, Any]:
    if value:
        raise ValueError("no biases are supported; leave it out")
    return value


Zero = Annotated[float, AfterValidator(_zero), WithJsonSchema({"type": "number", "const": 0})]
Empty = Annotated[
    dict[str, Any], AfterValidator(_empty), WithJsonSchema({"type": "object", "maxProperties": 0})
]
StopString = Annotated[str, Field(min_length=1, max_length=1000)]


class StreamOptions(Strict):
    """What a stream tells besides text."""

    include_usage: bool = Field(
        default=False, description="Whether a last chunk, without choices, tells the usage."
    )


class Usage(BaseModel):
    """What a request took."""

    prompt_tokens: int = Field(description="Tokens given, of each prompt once.")
    completion_tokens: int = Field(description="Tokens written, ends of texts included.")
    total_tokens: int = Field(description="The sum of both.")
    nfe: int = Field(description="Evaluations of the network, summed over all texts.")
    tokens_per_forward: float = Field(
        description="Tokens written per evaluation of the network; 0 where none was needed."
    )

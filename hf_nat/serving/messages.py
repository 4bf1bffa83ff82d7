"""What the server reads and writes, as its schema shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from ..decoding import Translation


def _whole_text(text: str) -> str:
    """Refuses what JSON can write and no encoding can: one half of a pair of surrogates."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = f"{ord(text[error.start]):04x}"
            raise PydanticCustomError(
                "surrogate", "Text must be Unicode, got half of a pair of surrogates: \\u{half}", {"half": half}
            ) from None
    return text


class TranslationRequest(BaseModel):
    """Sentences to translate."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": False})

    sentences: Annotated[
        list[Annotated[str, AfterValidator(_whole_text)]],
        FailFast(),
        Field(description="one sentence each; a blank one stays blank"),
    ]

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        """Refuses unknown keys at the first: pydantic's own list of them takes seconds where a request is full."""
        unknown = [key for key in data if key not in cls.model_fields][:1] if isinstance(data, dict) else []
        if unknown:
            raise PydanticCustomError("unknown_key", "There is no key {key}", {"key": f"{unknown[0]!r:.100}"})
        return data


class TranslatedSentence(BaseModel):
    """One of them, with what says how it was written."""

    text: str
    score: float | None = Field(description="mean log-probability of its tokens, in nats; null where there is none")
    num_tokens: int
    truncated: bool = Field(
        description="the source was cut to the model's positions, or an autoregressive model's output to its limit"
    )
    iterations: int | None = Field(description="decoder rounds of a non-autoregressive model")


class TranslationResponse(BaseModel):
    """Their translations, in the order of the request."""

    translations: list[TranslatedSentence]

    @classmethod
    def of(cls, translations: Sequence[Translation]) -> TranslationResponse:
        """Makes the response of what a model wrote."""
        scored = [output if output.has_scored_tokens else replace(output, score=None) for output in translations]
        return cls.model_validate({"translations": scored}, from_attributes=True)


class Problem(BaseModel):
    """Why there is no translation."""

    detail: str


class Health(BaseModel):
    """How the server is."""

    status: str = Field(description="ok, or stopping")
    model: str = Field(description="what translates")
    waiting_sentences: int = Field(description="sentences in the queue")

"""Configuration of the Insertion Transformer, the paper's InsT."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_nat import InsertionNATConfig


@strict
class InsertionTransformerConfig(InsertionNATConfig):
    """Configuration of [`InsertionTransformerForConditionalGeneration`].

    For the other fields see [`InsertionNATConfig`].

    Args:
        span_temperature (`float`, *optional*): temperature, in tokens, of the softmax that makes tokens near the
            centre of a missing span its first targets (balanced binary tree). By default all tokens of a span are
            equal targets (uniform loss), which is the limit of high temperatures and the paper's choice.

    Raises:
        ValueError: if `span_temperature` is not positive.

    Source: Stern et al. 2019, balanced binary tree and uniform losses; Zhou et al. 2020, appendix A.2, uniform.
    """

    model_type = "insertion_transformer"

    span_temperature: float | int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.span_temperature is not None and self.span_temperature <= 0:
            raise ValueError(
                f"`span_temperature` must be > 0, got {self.span_temperature}. Use None for the uniform loss."
            )
        super().__post_init__(**kwargs)

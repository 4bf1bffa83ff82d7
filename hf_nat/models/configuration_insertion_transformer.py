"""Configuration of the Insertion Transformer, the paper's InsT."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_nat import NATConfig


@strict
class InsertionTransformerConfig(NATConfig):
    """Configuration of [`InsertionTransformerForConditionalGeneration`]; see [`NATConfig`] for the other fields.

    Args:
        bos_token_id (`int`, defaults to 1): opens the canvas; the slot before the first token lies behind it.
        span_temperature (`float`, *optional*): temperature, in tokens, of the softmax that makes tokens near the
            centre of a missing span its first targets (balanced binary tree). By default all tokens of a span are
            equal targets (uniform loss), which is the limit of high temperatures and the paper's choice.

    Raises:
        ValueError: if `bos_token_id` is the padding, or `span_temperature` is not positive.

    Source: Stern et al. 2019, balanced binary tree and uniform losses; Zhou et al. 2020, appendix A.2, uniform.
    """

    model_type = "insertion_transformer"

    bos_token_id: int = 1
    span_temperature: float | int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.bos_token_id == self.pad_token_id:
            raise ValueError(f"`bos_token_id` must not be the padding, got {self.bos_token_id}. It opens the canvas.")
        if self.span_temperature is not None and self.span_temperature <= 0:
            raise ValueError(
                f"`span_temperature` must be > 0, got {self.span_temperature}. Use None for the uniform loss."
            )
        super().__post_init__(**kwargs)

    @property
    def longest_target(self) -> int:
        """See [`NATConfig.longest_target`]; the decoder also reads BOS."""
        return self.max_position_embeddings - 1

"""Configuration of CMLM, the paper's MaskT."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_nat import LengthNATConfig


@strict
class CMLMConfig(LengthNATConfig):
    """Configuration of [`CMLMForConditionalGeneration`]; see [`LengthNATConfig`] and [`NATConfig`] for other fields.

    Args:
        correction_ratio (`float`, defaults to 0.0): share of the tokens shown in training that the model's own
            predictions replace, for it to correct them, in [0, 1]; above 0 decoding writes every token anew in each
            round.

    Raises:
        ValueError: if `correction_ratio` is out of range.

    Source: Huang et al. 2022 (CMLMC), `correction_ratio` 0.3.
    """

    model_type = "cmlm"

    correction_ratio: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        if not 0 <= self.correction_ratio <= 1:
            raise ValueError(f"`correction_ratio` must be in [0, 1], got {self.correction_ratio}. Use 0 for none.")
        super().__post_init__(**kwargs)

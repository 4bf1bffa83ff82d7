"""Configuration of CMLM, the paper's MaskT."""

from huggingface_hub.dataclasses import strict

from .configuration_nat import LengthNATConfig


@strict
class CMLMConfig(LengthNATConfig):
    """Configuration of [`CMLMForConditionalGeneration`]; see [`LengthNATConfig`] and [`NATConfig`] for the fields."""

    model_type = "cmlm"

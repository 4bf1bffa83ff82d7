"""Configuration of the vanilla NAT."""

from huggingface_hub.dataclasses import strict

from .configuration_nat import LengthNATConfig, SourceCopyMode


@strict
class VanillaNATConfig(LengthNATConfig):
    """Configuration of [`VanillaNATForConditionalGeneration`]; see [`LengthNATConfig`] for the other fields.

    Args:
        source_copy (`str`, defaults to `"uniform"`): what the decoder reads in place of the unknown tokens, see
            [`SourceCopy`].
    """

    model_type = "vanilla_nat"

    source_copy: SourceCopyMode = "uniform"

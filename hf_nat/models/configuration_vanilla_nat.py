"""Configuration of the vanilla NAT."""

from huggingface_hub.dataclasses import strict

from .configuration_nat import GlancingConfig, LengthNATConfig, SourceCopyMode


@strict
class VanillaNATConfig(GlancingConfig, LengthNATConfig):
    """Configuration of [`VanillaNATForConditionalGeneration`].

    See [`LengthNATConfig`] and [`GlancingConfig`] for the other fields; with glancing this is GLAT.

    Args:
        source_copy (`str`, defaults to `"uniform"`): what the decoder reads in place of the unknown tokens, see
            [`SourceCopy`].
    """

    model_type = "vanilla_nat"

    source_copy: SourceCopyMode = "uniform"

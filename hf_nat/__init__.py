"""hf_nat: knowledge distillation for non-autoregressive machine translation with Hugging Face libraries."""

from .models import (
    ARCHITECTURES,
    SIZES,
    CMLMConfig,
    CMLMForConditionalGeneration,
    LengthNATConfig,
    NATConfig,
    NATGenerateOutput,
    NATPreTrainedModel,
    NATSeq2SeqLMOutput,
    VanillaNATConfig,
    VanillaNATForConditionalGeneration,
    marian_config,
    new_teacher,
    size_config,
)


__version__ = "0.1.0"

__all__ = [
    "ARCHITECTURES",
    "SIZES",
    "CMLMConfig",
    "CMLMForConditionalGeneration",
    "LengthNATConfig",
    "NATConfig",
    "NATGenerateOutput",
    "NATPreTrainedModel",
    "NATSeq2SeqLMOutput",
    "VanillaNATConfig",
    "VanillaNATForConditionalGeneration",
    "__version__",
    "marian_config",
    "new_teacher",
    "size_config",
]

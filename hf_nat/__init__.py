"""hf_nat: knowledge distillation for non-autoregressive machine translation with Hugging Face libraries."""

from importlib import import_module
from typing import Any

from .models import (
    ARCHITECTURES,
    SIZES,
    CMLMConfig,
    CMLMForConditionalGeneration,
    CTCNATConfig,
    CTCNATForConditionalGeneration,
    DATransformerConfig,
    DATransformerForConditionalGeneration,
    FlowSeqConfig,
    FlowSeqForConditionalGeneration,
    InsertionTransformerConfig,
    InsertionTransformerForConditionalGeneration,
    IterativeNATConfig,
    IterativeNATForConditionalGeneration,
    LengthNATConfig,
    LevenshteinTransformerConfig,
    LevenshteinTransformerForConditionalGeneration,
    MoEMarianConfig,
    MoEMarianMTModel,
    NATConfig,
    NATGenerateOutput,
    NATPreTrainedModel,
    NATSeq2SeqLMOutput,
    VanillaNATConfig,
    VanillaNATForConditionalGeneration,
    marian_config,
    moe_marian_config,
    new_teacher,
    size_config,
)


__version__ = "0.1.0"

# Imported at their first use, by module: `import hf_nat` needs torch and transformers alone.
_LAZY = {
    name: module
    for module, names in {
        "analysis": ("AnalyzeArguments",),
        "data": ("encode_corpus", "load_corpus", "load_tokenizer", "train_tokenizer"),
        "decoding": (
            "DecodingArguments",
            "Draft",
            "TermList",
            "Translation",
            "Translator",
            "load_model",
            "translate",
        ),
        "distillation": ("DistillArguments", "FilterArguments", "MixArguments"),
        "evaluation": ("CalibrateArguments", "EvaluateArguments", "TuneArguments"),
        "hub": ("PushArguments", "push"),
        "metrics": ("compare_systems", "score_translations"),
        "export": ("ExportArguments",),
        "steps": (
            "Analyze",
            "Calibrate",
            "Distill",
            "Evaluate",
            "Export",
            "Filter",
            "LanguageModel",
            "LanguageModelArguments",
            "Mix",
            "Train",
            "Tune",
            "distill",
        ),
        "training.arguments": ("DataArguments", "ModelArguments", "NATSeq2SeqTrainingArguments"),
        "training.trainer": ("NATSeq2SeqTrainer",),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "ARCHITECTURES",
    "SIZES",
    "Analyze",
    "AnalyzeArguments",
    "CMLMConfig",
    "CMLMForConditionalGeneration",
    "CTCNATConfig",
    "CTCNATForConditionalGeneration",
    "Calibrate",
    "CalibrateArguments",
    "DATransformerConfig",
    "DATransformerForConditionalGeneration",
    "DataArguments",
    "DecodingArguments",
    "Distill",
    "DistillArguments",
    "Draft",
    "Evaluate",
    "EvaluateArguments",
    "Export",
    "ExportArguments",
    "Filter",
    "FilterArguments",
    "FlowSeqConfig",
    "FlowSeqForConditionalGeneration",
    "InsertionTransformerConfig",
    "InsertionTransformerForConditionalGeneration",
    "IterativeNATConfig",
    "IterativeNATForConditionalGeneration",
    "LanguageModel",
    "LanguageModelArguments",
    "LengthNATConfig",
    "LevenshteinTransformerConfig",
    "LevenshteinTransformerForConditionalGeneration",
    "Mix",
    "MixArguments",
    "MoEMarianConfig",
    "MoEMarianMTModel",
    "ModelArguments",
    "NATConfig",
    "NATGenerateOutput",
    "NATPreTrainedModel",
    "NATSeq2SeqLMOutput",
    "NATSeq2SeqTrainer",
    "NATSeq2SeqTrainingArguments",
    "PushArguments",
    "TermList",
    "Train",
    "Translation",
    "Translator",
    "Tune",
    "TuneArguments",
    "VanillaNATConfig",
    "VanillaNATForConditionalGeneration",
    "__version__",
    "compare_systems",
    "distill",
    "encode_corpus",
    "load_corpus",
    "load_model",
    "load_tokenizer",
    "marian_config",
    "moe_marian_config",
    "new_teacher",
    "push",
    "score_translations",
    "size_config",
    "train_tokenizer",
    "translate",
]

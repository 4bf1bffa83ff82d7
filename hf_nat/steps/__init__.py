"""Steps: each knows what its result depends on, does its work once, and leaves a record and a card."""

from __future__ import annotations

from ..decoding import DecodingArguments
from .analyze import Analyze, AnalyzeArguments
from .calibrate import Calibrate, CalibrateArguments
from .distill import Distill, DistillArguments, distill
from .evaluate import Evaluate, EvaluateArguments
from .export import Export, ExportArguments
from .filter import Filter, FilterArguments
from .language_model import LanguageModel, LanguageModelArguments
from .mix import Mix, MixArguments
from .step import RECORD_FILE, Step, check_steps
from .train import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments, Train
from .tune import Tune, TuneArguments


__all__ = [
    "RECORD_FILE",
    "Analyze",
    "AnalyzeArguments",
    "Calibrate",
    "CalibrateArguments",
    "DataArguments",
    "DecodingArguments",
    "Distill",
    "DistillArguments",
    "Evaluate",
    "EvaluateArguments",
    "Export",
    "ExportArguments",
    "Filter",
    "FilterArguments",
    "LanguageModel",
    "LanguageModelArguments",
    "Mix",
    "MixArguments",
    "ModelArguments",
    "NATSeq2SeqTrainingArguments",
    "Step",
    "Train",
    "Tune",
    "TuneArguments",
    "check_steps",
    "distill",
]

"""Models, their configurations and generation; importing this package registers them with the Auto classes."""

from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_cmlm import CMLMConfig
from .configuration_ctc_nat import CTCNATConfig
from .configuration_da_transformer import DATransformerConfig
from .configuration_flowseq import FlowSeqConfig
from .configuration_insertion_transformer import InsertionTransformerConfig
from .configuration_iterative_nat import IterativeNATConfig
from .configuration_levenshtein_transformer import LevenshteinTransformerConfig
from .configuration_moe_marian import MoEMarianConfig
from .configuration_nat import GlancingConfig, LengthNATConfig, NATConfig
from .configuration_vanilla_nat import VanillaNATConfig
from .generation_flowseq import FlowSeqState
from .generation_insertion import InsertionNATGenerationMixin, InsertionState
from .generation_length import LengthNATGenerationMixin
from .generation_nat import NATGenerationMixin
from .generation_output import NATGenerateOutput
from .generation_state import NATState
from .generation_upsampled import UpsampledNATGenerationMixin, UpsampledState
from .modeling_cmlm import CMLMForConditionalGeneration
from .modeling_ctc_nat import CTCNATForConditionalGeneration
from .modeling_da_transformer import DATransformerForConditionalGeneration, DATransformerOutput
from .modeling_flowseq import FlowSeqForConditionalGeneration
from .modeling_insertion_transformer import InsertionTransformerForConditionalGeneration
from .modeling_iterative_nat import IterativeNATForConditionalGeneration
from .modeling_levenshtein_transformer import (
    LevenshteinTransformerForConditionalGeneration,
    LevenshteinTransformerOutput,
)
from .modeling_moe_marian import MoEMarianMTModel, MoESeq2SeqLMOutput
from .modeling_nat import NATModel, NATPreTrainedModel, NATSeq2SeqLMOutput
from .modeling_vanilla_nat import VanillaNATForConditionalGeneration
from .pipeline_nat_translation import NATTranslationPipeline
from .sizes import SIZES, TEACHER_CONFIGS, marian_config, moe_marian_config, new_teacher, size_config


# model_type -> (configuration, model): the students that can be trained.
ARCHITECTURES: dict[str, tuple[type[NATConfig], type[NATPreTrainedModel]]] = {
    config_class.model_type: (config_class, model_class)
    for config_class, model_class in (
        (VanillaNATConfig, VanillaNATForConditionalGeneration),
        (IterativeNATConfig, IterativeNATForConditionalGeneration),
        (CMLMConfig, CMLMForConditionalGeneration),
        (InsertionTransformerConfig, InsertionTransformerForConditionalGeneration),
        (LevenshteinTransformerConfig, LevenshteinTransformerForConditionalGeneration),
        (FlowSeqConfig, FlowSeqForConditionalGeneration),
        (CTCNATConfig, CTCNATForConditionalGeneration),
        (DATransformerConfig, DATransformerForConditionalGeneration),
    )
}

_REGISTERED: list[tuple[type[PreTrainedConfig], type[PreTrainedModel]]] = [
    *ARCHITECTURES.values(),
    (MoEMarianConfig, MoEMarianMTModel),
]
for _config_class, _model_class in _REGISTERED:
    AutoConfig.register(_config_class.model_type, _config_class, exist_ok=True)
    AutoModelForSeq2SeqLM.register(_config_class, _model_class, exist_ok=True)
    _config_class.register_for_auto_class()
    _model_class.register_for_auto_class("AutoModelForSeq2SeqLM")
PIPELINE_REGISTRY.register_pipeline(
    "nat-translation", pipeline_class=NATTranslationPipeline, pt_model=AutoModelForSeq2SeqLM, type="text"
)

__all__ = [
    "ARCHITECTURES",
    "SIZES",
    "TEACHER_CONFIGS",
    "CMLMConfig",
    "CMLMForConditionalGeneration",
    "CTCNATConfig",
    "CTCNATForConditionalGeneration",
    "DATransformerConfig",
    "DATransformerForConditionalGeneration",
    "DATransformerOutput",
    "FlowSeqConfig",
    "FlowSeqForConditionalGeneration",
    "FlowSeqState",
    "GlancingConfig",
    "InsertionNATGenerationMixin",
    "InsertionState",
    "InsertionTransformerConfig",
    "InsertionTransformerForConditionalGeneration",
    "IterativeNATConfig",
    "IterativeNATForConditionalGeneration",
    "LengthNATConfig",
    "LengthNATGenerationMixin",
    "LevenshteinTransformerConfig",
    "LevenshteinTransformerForConditionalGeneration",
    "LevenshteinTransformerOutput",
    "MoEMarianConfig",
    "MoEMarianMTModel",
    "MoESeq2SeqLMOutput",
    "NATConfig",
    "NATGenerateOutput",
    "NATGenerationMixin",
    "NATModel",
    "NATPreTrainedModel",
    "NATSeq2SeqLMOutput",
    "NATState",
    "NATTranslationPipeline",
    "UpsampledNATGenerationMixin",
    "UpsampledState",
    "VanillaNATConfig",
    "VanillaNATForConditionalGeneration",
    "marian_config",
    "moe_marian_config",
    "new_teacher",
    "size_config",
]

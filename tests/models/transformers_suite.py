"""transformers' own common model tests on every architecture; test_transformers_suite.py fetches them and runs this.

Not collected by name: it needs transformers' `tests` package, which only its source distribution has.
"""

from __future__ import annotations

import unittest
from typing import Any

import torch
from nat_model_tester import BOS, EOS, MASK, PAD, TINY, TINY_EXTRA
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin, ids_tensor
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from hf_nat.models import ARCHITECTURES


# Test, model_type:test or mixin -> why it cannot apply; all else must pass or be skipped by transformers itself.
INAPPLICABLE = {
    "GenerationTesterMixin": "tests left-to-right decoding, its caches and its beams: these models write whole "
    "canvases in a `generate` of their own. The source distribution leaves it out, too",
    "test_attention_outputs": "asks for 5 outputs: these models also have the logits of the length or of the edits",
    "test_encoder_decoder_loss_no_double_shift": "asks for a loss that comes from the logits of the call: the words' "
    "is computed in chunks that keep none, and its targets are not shifted",
    "test_inputs_embeds": "replaces the canvas by embeddings: masks and padding are told from its tokens",
    "da_transformer:test_batching_equivalence": "forbids infinite outputs: the link to an earlier vertex is -inf",
    "flowseq:test_batching_equivalence": "forbids infinite outputs: the logit of a length that cannot be is -inf",
}


class NATModelTester:
    """Sizes and inputs in the form that transformers' tests ask for."""

    def __init__(self, parent: unittest.TestCase, config_class: Any) -> None:
        self.parent, self.config_class = parent, config_class
        self.batch_size, self.seq_length, self.is_training = 13, 7, True
        self.encoder_seq_length = self.key_length = self.seq_length
        # The decoder reads BOS before the canvas, or latent variables in groups.
        extra_positions = {"insertion_transformer": 1, "levenshtein_transformer": 1, "flowseq": 1}
        self.decoder_seq_length = self.seq_length + extra_positions.get(config_class.model_type, 0)
        self.num_hidden_layers, self.hidden_size, self.num_attention_heads = 1, TINY["d_model"], 2
        self.vocab_size = TINY["vocab_size"]

    def get_config(self) -> Any:
        extra = {name: value for name, value in TINY_EXTRA.items() if hasattr(self.config_class, name)}
        special = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "mask_token_id": MASK}
        return self.config_class(
            **TINY, **extra, **special, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0
        )

    def tokens(self) -> torch.Tensor:
        """Rows of words that end with EOS, none of them padding."""
        ids = ids_tensor([self.batch_size, self.seq_length], self.vocab_size).clamp(min=MASK + 1)
        ids[:, -1] = EOS
        return ids

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        source, canvas = self.tokens(), self.tokens()
        canvas[:, 1:4] = MASK
        return self.get_config(), {
            "input_ids": source,
            "attention_mask": source.ne(PAD).long(),
            "decoder_input_ids": canvas,
        }


class NATSuite(ModelTesterMixin):
    """What the test classes of all architectures share."""

    is_encoder_decoder = True
    test_resize_embeddings = True
    test_can_init_all_missing_weights_before_2023 = True
    config_class: Any = None

    def setUp(self) -> None:
        self.model_tester = NATModelTester(self, self.config_class)
        self.labels = self.model_tester.tokens()
        self.config_tester = ConfigTester(self, config_class=self.config_class, d_model=16)
        own = f"{self.config_class.model_type}:{self._testMethodName}"
        reason = INAPPLICABLE.get(self._testMethodName) or INAPPLICABLE.get(own)
        if reason is not None:
            self.skipTest(reason)

    def _prepare_for_class(self, inputs_dict: Any, model_class: Any, return_labels: bool = False) -> Any:
        """Trains as these models train: on labels alone."""
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        if return_labels:
            inputs["labels"] = self.labels.to(inputs["input_ids"].device)
            inputs.pop("decoder_input_ids", None)
        return inputs

    def test_config(self) -> None:
        self.config_tester.run_common_tests()


for _model_type, (_config_class, _model_class) in ARCHITECTURES.items():
    MODEL_MAPPING_NAMES[_model_type] = "NATModel"
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES[_model_type] = _model_class.__name__
    _name = f"{_config_class.__name__.removesuffix('Config')}Suite"
    globals()[_name] = type(
        _name,
        (NATSuite, unittest.TestCase),
        {"all_model_classes": (_model_class,), "config_class": _config_class},
    )

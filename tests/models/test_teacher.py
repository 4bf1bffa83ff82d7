"""A mixture of experts as the teacher that students start from and that re-ranks their candidates."""

from __future__ import annotations

import pytest
import torch
from nat_model_tester import (
    BOS,
    EOS,
    MODEL_TYPES,
    PAD,
    TARGETS,
    VOCAB_SIZE,
    pad_rows,
    tiny_batch,
    tiny_model,
    tiny_teacher,
)
from test_modeling_moe_marian import K, tiny_moe
from torch.testing import assert_close
from transformers import MarianConfig

from hf_nat.models import ARCHITECTURES, MoEMarianConfig
from hf_nat.models.teacher import start_token_id, text_vocab_size


@pytest.mark.parametrize("prior", ["uniform", "learned"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_student_of_a_mixture_leaves_the_experts_behind(model_type: str, prior: str) -> None:
    teacher = tiny_moe(prior=prior)
    for fields, size in (({"vocab_size": VOCAB_SIZE, "mask_token_id": 4}, VOCAB_SIZE), ({}, VOCAB_SIZE + 1)):
        student = ARCHITECTURES[model_type][1].from_teacher(teacher, **fields)
        assert student.config.vocab_size == len(student.model.shared.weight) == size
        assert student.config.mask_token_id == fields.get("mask_token_id", VOCAB_SIZE)
        assert torch.equal(student.model.shared.weight[:VOCAB_SIZE], teacher.model.shared.weight[:VOCAB_SIZE])
        for row in student.model.shared.weight[VOCAB_SIZE:]:
            assert not teacher.model.shared.weight.eq(row).all(dim=1).any()
        weights = student.state_dict()
        for name, weight in teacher.state_dict().items():
            if name.startswith("model.") and "embed_tokens" not in name and "shared" not in name:
                assert torch.equal(weights[name], weight), name
        assert student.generate(tiny_batch()["input_ids"]).max() < size


def test_expert_tokens_among_those_of_the_text_are_an_error() -> None:
    teacher = tiny_moe(expert_token_ids=[7, VOCAB_SIZE + 1, VOCAB_SIZE + 2])
    with pytest.raises(ValueError, match=r"must be the last ids of its vocabulary, 24 to 26, got \[7, 25, 26\]"):
        ARCHITECTURES["cmlm"][1].from_teacher(teacher)
    with pytest.raises(ValueError, match="at least the teacher's 24, got 23"):
        ARCHITECTURES["cmlm"][1].from_teacher(tiny_moe(), vocab_size=VOCAB_SIZE - 1, mask_token_id=4)


def test_text_vocabulary() -> None:
    assert text_vocab_size(MarianConfig(vocab_size=50)) == 50
    assert text_vocab_size(MoEMarianConfig(vocab_size=50, num_experts=3, pad_token_id=0)) == 47
    assert text_vocab_size(MoEMarianConfig(vocab_size=50, expert_token_ids=[49, 47, 48], pad_token_id=0)) == 47


def test_start_token_is_the_one_that_generate_starts_from() -> None:
    plain, model = tiny_teacher(), tiny_moe()
    assert start_token_id(plain) == PAD
    plain.generation_config.decoder_start_token_id = BOS
    assert start_token_id(plain) == plain.generate(tiny_batch()["input_ids"])[0, 0] == BOS
    with pytest.raises(ValueError, match=r"`expert` must be in \[0, 3\), the model's experts, got 3"):
        start_token_id(model, K)
    for setting, expert in (({}, 0), ({"decoder_start_token_id": VOCAB_SIZE + 1}, 1), ({"expert": 2}, 2)):
        for name, value in setting.items():
            setattr(model.generation_config, name, value)
        assert start_token_id(model) == VOCAB_SIZE + expert == model.generate(tiny_batch()["input_ids"])[0, 0]
    assert start_token_id(model, 0) == VOCAB_SIZE


def test_reranking_by_a_mixture_is_by_the_expert_that_it_decodes_with() -> None:
    student, teacher, batch = tiny_model("vanilla_nat"), tiny_moe(), tiny_batch()
    source = {name: batch[name] for name in ("input_ids", "attention_mask")}
    candidates = pad_rows([row for target in TARGETS for row in (target, [*reversed(target[:-1]), EOS])], PAD)
    by_expert = []
    for expert in range(K):
        teacher.generation_config.expert = expert
        scores = student._teacher_scores(teacher, **source, sequences=candidates).view(-1, 2)
        for nth in range(2):
            labels = candidates[nth::2].masked_fill(candidates[nth::2].eq(PAD), -100)
            expected = teacher.expert_log_probs(labels, **source)[:, expert] / labels.ne(-100).sum(dim=1)
            assert_close(scores[:, nth], expected, rtol=1e-4, atol=1e-4)
        by_expert.append(scores)
    assert not torch.allclose(by_expert[0], by_expert[1])
    assert student.generate(**source, length_beam=4, teacher=teacher).shape[0] == len(TARGETS)
    larger = tiny_model("vanilla_nat", vocab_size=VOCAB_SIZE + K)
    with pytest.raises(ValueError, match=rf"must share the student's vocabulary \({VOCAB_SIZE + K} tokens"):
        larger.generate(**source, length_beam=4, teacher=teacher)

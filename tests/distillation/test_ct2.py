"""Distillation by CTranslate2: the rows that torch writes."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sacrebleu.metrics import CHRF
from transformers import BartConfig, BartForConditionalGeneration, MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json
from hf_nat.decoding import translate
from hf_nat.distillation import DistillArguments
from hf_nat.models import MoEMarianConfig, MoEMarianMTModel
from hf_nat.steps import distill


pytest.importorskip("ctranslate2")

from hf_nat.distillation.ct2 import CT2Teacher


# No tie that rounding could break: the two beams of one candidate differ by far more than 1e-4 nats.
SEARCHES = [
    {"strategy": "beam"},
    {"strategy": "beam", "num_beams": 3, "length_penalty": 0.5},
    {"strategy": "beam", "max_new_tokens": 4},
    {"strategy": "greedy"},
    {"strategy": "interpolation", "num_candidates": 4},
]


@pytest.fixture
def compare(
    arguments: Callable[..., DistillArguments],
    tiny_tokenizer: PreTrainedTokenizerFast,
    rows: Callable[[Path], list[dict[str, Any]]],
) -> Callable[..., list[dict[str, Any]]]:
    """Distills with both backends, demands equal rows and returns them."""

    def run(teacher: MarianMTModel, score_tolerance: float = 2e-4, **changes: object) -> list[dict[str, Any]]:
        expected = rows(distill(teacher, tiny_tokenizer, arguments("torch", **changes)))
        found = rows(distill(teacher, tiny_tokenizer, arguments("ct2", backend="ct2", **changes)))
        scores = [[row.pop("teacher_score") for row in side] for side in (found, expected)]
        assert found == expected
        assert scores[0] == pytest.approx(scores[1], abs=score_tolerance)
        return found

    return run


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_rows_are_those_of_torch(unsure_teacher: MarianMTModel, compare: Callable[..., list], search: dict) -> None:
    found = compare(unsure_teacher, **search)
    assert len({row["translation"]["xx"] for row in found}) >= 5


def random_marian(
    tokenizer: PreTrainedTokenizerFast, config_class: type = MarianConfig, **fields: Any
) -> MarianConfig:
    sides = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    defaults = {
        "vocab_size": len(tokenizer),
        "d_model": 16,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 20,
        "init_std": 0.7,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    return config_class(**{**defaults, **sides, **fields})


@pytest.mark.parametrize("activation", ["relu", "gelu", "swish"])
def test_activations_embeddings_and_suppressed_tokens_of_published_teachers(
    tiny_tokenizer: PreTrainedTokenizerFast, compare: Callable[..., list], activation: str
) -> None:
    """OPUS teachers use swish, scale their embeddings, forbid padding and force EOS at the limit."""
    fields = {"activation_function": activation, "scale_embedding": True, "forced_eos_token_id": None}
    teacher = MarianMTModel(random_marian(tiny_tokenizer, **fields)).eval()
    teacher.final_logits_bias.normal_()
    teacher.generation_config.bad_words_ids = [[tiny_tokenizer.pad_token_id]]
    teacher.generation_config.suppress_tokens = [tiny_tokenizer.unk_token_id]
    teacher.generation_config.renormalize_logits = True
    # What is forbidden has no share here.
    found = compare(teacher, score_tolerance=2e-3, strategy="beam", num_beams=4)
    assert len({row["translation"]["xx"] for row in found}) > 1


@pytest.mark.parametrize("limit", [1, 2, 12])
@pytest.mark.parametrize("forced", [False, True])
def test_eighty_rows_of_published_teachers_are_equal_also_where_they_are_cut(
    tiny_tokenizer: PreTrainedTokenizerFast, sentences: list[str], forced: bool, limit: int
) -> None:
    """OPUS teachers force EOS as the last token of an output at the limit, which counts in its length."""
    eos = tiny_tokenizer.eos_token_id
    fields = {"activation_function": "swish", "scale_embedding": True, "forced_eos_token_id": eos if forced else None}
    torch.manual_seed(3)
    teacher = MarianMTModel(random_marian(tiny_tokenizer, **fields | {"max_position_embeddings": 64})).eval()
    teacher.final_logits_bias.normal_()
    with torch.no_grad():
        teacher.final_logits_bias[0, eos] += 6  # Some outputs end, most do not.
    teacher.generation_config.bad_words_ids = [[tiny_tokenizer.pad_token_id]]
    teacher.generation_config.renormalize_logits = True
    draw, words = random.Random(0), sorted({word for sentence in sentences for word in sentence.split()})
    sources = [" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(80)]
    options = {"num_beams": 5, "length_penalty": 1.0, "max_new_tokens": limit, "max_length_a": 0.5, "max_length_b": 4}
    expected = translate(teacher, tiny_tokenizer, sources, early_stopping=True, with_scores=True, **options)
    backend = CT2Teacher(teacher, tiny_tokenizer, compute_type="float32", max_batch_tokens=512)
    found = backend.translate(sources, early_stopping=True, **options)
    for output, wanted in zip(found, expected, strict=True):
        assert (output.text, output.num_tokens, output.truncated) == (
            wanted.text,
            wanted.num_tokens,
            wanted.truncated,
        )
        if not wanted.truncated:
            assert output.score == pytest.approx(wanted.score, abs=2e-3)
    assert sum(output.truncated for output in found) > 20


def test_each_expert_of_a_mixture_speaks(
    tiny_tokenizer: PreTrainedTokenizerFast, compare: Callable[..., list], arguments: Callable, rows: Callable
) -> None:
    size = {"vocab_size": len(tiny_tokenizer) + 3, "num_experts": 3, "forced_eos_token_id": None}
    teacher = MoEMarianMTModel(random_marian(tiny_tokenizer, MoEMarianConfig, **size)).eval()
    with torch.no_grad():  # Without the bias that forbids them, the experts' tokens would win often.
        teacher.model.shared.weight[-3:] *= 3
    by_expert = []
    for expert in range(3):
        folder = distill(teacher, tiny_tokenizer, arguments(f"ct2-{expert}", backend="ct2", expert=expert))
        by_expert.append([row["translation"]["xx"] for row in rows(folder)])
        expected = distill(teacher, tiny_tokenizer, arguments(f"torch-{expert}", expert=expert))
        assert by_expert[-1] == [row["translation"]["xx"] for row in rows(expected)]
    assert by_expert[0] != by_expert[1] != by_expert[2]
    teacher.generation_config.expert = 2
    assert [row["translation"]["xx"] for row in compare(teacher)] == by_expert[2]


def test_blank_and_long_sources(
    unsure_teacher: MarianMTModel, compare: Callable[..., list], corpus: str, tmp_path: Path
) -> None:
    path, pair = tmp_path / "train.jsonl", '{{"translation": {{"en": "{0}", "xx": "real"}}}}\n'
    path.write_text("".join(map(pair.format, ["", " ", "", "two men walk " * 40, "hello"])))
    found = compare(unsure_teacher, long_source="truncate")
    assert [row["flags"] for row in found[:3]] == [["empty_source", "empty_output"]] * 3
    assert "truncated" in found[3]["flags"]


def test_over_long_sources_may_keep_the_real_target(
    unsure_teacher: MarianMTModel, compare: Callable[..., list], corpus: str, tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_text('{"translation": {"en": "' + "two men walk " * 40 + '", "xx": "real"}}\n')
    (row,) = compare(unsure_teacher, long_source="real")
    assert row["translation"]["xx"] == "real"


def test_an_interrupted_run_resumes_to_the_same_bytes(
    unsure_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    file_bytes: Callable[[Path], dict[str, bytes]],
) -> None:
    whole = distill(unsure_teacher, tiny_tokenizer, arguments("whole", backend="ct2"))
    folder = distill(unsure_teacher, tiny_tokenizer, arguments("resumed", backend="ct2"))
    assert file_bytes(folder) == file_bytes(whole)
    for name in ("train-00001-of-00004", "train-00003-of-00004", "test-00000-of-00001"):
        (folder / "data" / f"{name}.parquet").unlink()
    assert file_bytes(distill(unsure_teacher, tiny_tokenizer, arguments("resumed", backend="ct2"))) == file_bytes(
        whole
    )
    assert read_json(folder / "metrics.json")["num_sentences"] == 5


def test_int8_is_recorded_and_decodes(
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    rows: Callable,
    sources: list[str],
) -> None:
    folder = distill(copy_teacher, tiny_tokenizer, arguments(backend="ct2", compute_type="int8"))
    decoding = read_json(folder / "manifest.json")["decoding"]
    assert (decoding["backend"], decoding["compute_type"]) == ("ct2", "int8")
    expected = translate(copy_teacher, tiny_tokenizer, sources, num_beams=5, early_stopping=True, max_new_tokens=12)
    texts = [row["translation"]["xx"] for row in rows(folder)]
    similarity = CHRF().corpus_score(texts, [[output.text for output in expected]]).score
    assert similarity > 50, "8 bits change outputs of so small a model, but not most of their text"


def test_backends_do_not_mix_in_one_folder(
    copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, arguments: Callable[..., DistillArguments]
) -> None:
    distill(copy_teacher, tiny_tokenizer, arguments())
    with pytest.raises(ValueError, match=r"`decoding.backend` must be the same .* it was 'torch', got 'ct2'"):
        distill(copy_teacher, tiny_tokenizer, arguments(backend="ct2"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "onnx"}, r"`backend` must be one of \['auto', 'torch', 'ct2'\], got 'onnx'"),
        ({"backend": "ct2", "strategy": "sampling"}, "`backend` must be torch for the strategy 'sampling', got 'ct2'"),
        ({"backend": "ct2", "strategy": "top-k"}, "`backend` must be torch for the strategy 'top-k', got 'ct2'"),
        ({"backend": "ct2", "compute_type": "int4"}, "`compute_type` must be one of .* for the backend 'ct2'"),
        ({"compute_type": "int8"}, r"`compute_type` must be one of \['float32'\] for the backend 'torch', got 'int8'"),
    ],
)
def test_arguments_that_break_a_rule(changes: dict, message: str, arguments: Callable[..., DistillArguments]) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)


def test_teachers_that_it_cannot_decode_are_errors_before_anything_is_written(
    tiny_tokenizer: PreTrainedTokenizerFast, arguments: Callable[..., DistillArguments]
) -> None:
    args = arguments(backend="ct2")

    def refuses(teacher: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            distill(teacher, tiny_tokenizer, args)
        assert not Path(args.output_dir).exists()

    sizes = random_marian(tiny_tokenizer).to_dict()
    bart = BartConfig(**{name: sizes[name] for name in ("vocab_size", "d_model", "encoder_layers", "decoder_layers")})
    refuses(BartForConditionalGeneration(bart), "must be a MarianMTModel under `backend: ct2`, got a BartFor")
    tanh = MarianMTModel(random_marian(tiny_tokenizer, activation_function="tanh"))
    refuses(tanh, "`activation_function` must be one of .* for a teacher .*, got 'tanh'")
    diverse = MarianMTModel(random_marian(tiny_tokenizer))
    diverse.generation_config.encoder_no_repeat_ngram_size = 2
    refuses(diverse, "`encoder_no_repeat_ngram_size` of the teacher's generation config must be unset .* got 2")


def test_without_the_package_the_error_says_how_to_install_it(
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.delitem(sys.modules, "hf_nat.distillation.ct2", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'hf_nat\[ct2\]'"):
        distill(copy_teacher, tiny_tokenizer, arguments(backend="ct2"))

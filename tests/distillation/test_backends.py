"""What decodes where nobody says it, and how long an output may be."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, MarianMTModel, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json
from hf_nat.decoding import encode_sources, output_limits, token_batches
from hf_nat.distillation import DistillArguments
from hf_nat.distillation.backends import load_backend
from hf_nat.steps import distill


Arguments = Callable[..., DistillArguments]
pytest.importorskip("ctranslate2")


@pytest.fixture
def without_ct2(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes this a machine without CTranslate2."""

    def remove() -> None:
        monkeypatch.setitem(sys.modules, "ctranslate2", None)
        monkeypatch.delitem(sys.modules, "hf_nat.distillation.ct2", raising=False)

    return remove


def decoding(folder: Path) -> dict[str, Any]:
    return read_json(folder / "manifest.json")["decoding"]


def test_auto_takes_ctranslate2_where_it_is_and_says_so(
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Arguments,
    rows: Callable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert DistillArguments.__dataclass_fields__["backend"].default == "auto"
    with caplog.at_level(logging.INFO):
        folder = distill(copy_teacher, tiny_tokenizer, arguments("auto", backend="auto"))
    assert "`backend: auto` takes ct2" in caplog.text
    assert decoding(folder)["backend"] == "ct2"
    named = distill(copy_teacher, tiny_tokenizer, arguments("named", backend="ct2"))
    assert rows(folder) == rows(named)
    assert read_json(folder / "manifest.json")["max_batch_tokens"] == 512


def test_auto_takes_torch_elsewhere_and_says_why(
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Arguments,
    caplog: pytest.LogCaptureFixture,
    without_ct2: Callable[[], None],
) -> None:
    def takes_torch(reason: str, teacher: Any = copy_teacher, **changes: object) -> None:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            folder = distill(teacher, tiny_tokenizer, arguments(reason[:24].strip("`"), backend="auto", **changes))
        assert f"torch decodes, slower than CTranslate2, which does not: {reason}" in caplog.text
        assert decoding(folder)["backend"] == "torch"

    takes_torch("`backend` must be torch for the strategy 'sampling'", strategy="sampling")
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "encoder_attention_heads": 2}
    sizes |= {"decoder_attention_heads": 2, "max_position_embeddings": 40}
    bart = BartForConditionalGeneration(BartConfig(vocab_size=len(tiny_tokenizer), **sizes))
    takes_torch("The teacher must be a MarianMTModel", bart)
    with pytest.raises(ValueError, match="`compute_type` must be float32 where .* does not decode, got 'int8'"):
        distill(bart, tiny_tokenizer, arguments("int8", backend="auto", compute_type="int8"))
    without_ct2()
    takes_torch("`backend: ct2`, asked for or that of the folder's first run, needs CTranslate2")


def test_going_on_never_chooses_anew(
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Arguments,
    file_bytes: Callable[[Path], dict[str, bytes]],
    without_ct2: Callable[[], None],
) -> None:
    """A folder that torch began goes on in torch where CTranslate2 is; one of CTranslate2 is an error without it."""
    begun = {name: distill(copy_teacher, tiny_tokenizer, arguments(name, backend=name)) for name in ("torch", "ct2")}
    before = {name: file_bytes(folder) for name, folder in begun.items()}
    lost = "data/train-00001-of-00004.parquet"
    (begun["torch"] / lost).unlink()
    other_batches = arguments("torch", backend="auto", max_batch_tokens=None)
    assert file_bytes(distill(copy_teacher, tiny_tokenizer, other_batches)) == before["torch"]
    without_ct2()
    distill(copy_teacher, tiny_tokenizer, arguments("ct2", backend="auto"))  # finished: nothing to decode
    (begun["ct2"] / lost).unlink()
    with pytest.raises(ImportError, match=r"the folder's first run, needs CTranslate2: pip install .* `output_dir`"):
        distill(copy_teacher, tiny_tokenizer, arguments("ct2", backend="auto"))
    with pytest.raises(ValueError, match=r"`decoding.backend` must be the same .* it was 'ct2', got 'torch'"):
        distill(copy_teacher, tiny_tokenizer, arguments("ct2", backend="torch"))


def test_limits_follow_the_source() -> None:
    assert output_limits([1, 8, 9, 17, 400], 200, 1.5, 10) == [22, 22, 34, 46, 200]
    assert output_limits([1, 400], 200) == [200, 200]
    assert output_limits([3], 200, 0.0, 1) == [1]


def test_a_batch_has_one_limit() -> None:
    lengths = [3, 9, 8, 16, 2, 17]
    limits = output_limits(lengths, 200, 2.0, 0)
    assert token_batches(lengths, 1000, limits) == [[5], [3, 1], [2, 0, 4]]
    assert token_batches(lengths, 1000) == [[5, 3, 1, 2, 0, 4]]


@pytest.mark.parametrize("strategy", ["beam", "greedy", "interpolation"])
def test_outputs_that_never_end_stop_at_their_limit_and_are_flagged(
    strategy: str,
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Arguments,
    sources: list[str],
) -> None:
    teacher = copy.deepcopy(copy_teacher)
    with torch.no_grad():
        teacher.final_logits_bias[0, tiny_tokenizer.eos_token_id] = -1e4
    options = {"strategy": strategy, "max_new_tokens": 50, "max_length_a": 0.5, "max_length_b": 3}
    limits = output_limits([len(ids) for ids in encode_sources(tiny_tokenizer, sources)], 50, 0.5, 3)
    texts = []
    for backend in ("torch", "ct2"):
        args = arguments(backend=backend, max_batch_tokens=512, **options)
        outputs = load_backend(teacher, tiny_tokenizer, args).translate(
            sources, **args.translate_kwargs(range(len(sources)))
        )
        decoded = [(output, limit) for output, limit, source in zip(outputs, limits, sources, strict=True) if source]
        assert [output.num_tokens for output, _ in decoded] == [limit for _, limit in decoded]
        assert all(output.truncated for output, _ in decoded)
        texts.append([output.text for output in outputs])
    assert texts[0] == texts[1]
    assert len(set(limits)) > 1


def test_an_ordinary_output_is_the_same_with_and_without_the_source_limit(
    copy_teacher: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, arguments: Arguments, rows: Callable
) -> None:
    options = {"max_new_tokens": 60}
    limited = rows(distill(copy_teacher, tiny_tokenizer, arguments("limited", **options)))
    free = rows(distill(copy_teacher, tiny_tokenizer, arguments("free", max_length_a=100.0, **options)))
    ended = [(row, other) for row, other in zip(limited, free, strict=True) if "truncated" not in row["flags"]]
    assert len(ended) >= 8
    for row, other in ended:
        assert row == other


@pytest.mark.parametrize(
    ("name", "value"), [("max_length_a", -1.0), ("max_length_a", float("inf")), ("max_length_b", 0)]
)
def test_lengths_that_leave_no_room_are_errors(name: str, value: float, arguments: Arguments) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be .*>= "):
        arguments(**{name: value})

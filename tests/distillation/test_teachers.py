"""Teachers of other families: their tokenizers, start tokens, padding and forced language codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from sacrebleu.metrics import BLEU
from teachers import FAMILIES, Teacher
from torch import nn
from transformers import (
    AutoTokenizer,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
)

from hf_nat import VanillaNATForConditionalGeneration
from hf_nat.decoding import encode_sources, load_model, max_source_length, score_pairs, translate
from hf_nat.distillation import DistillArguments
from hf_nat.distillation.sampling import RowSampler
from hf_nat.steps import distill


LIMIT = 12


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def teacher(request: pytest.FixtureRequest, sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A model of one family that some training taught to copy: its outputs vary and most end."""
    torch.manual_seed(0)
    built = FAMILIES[request.param](tmp_path_factory.mktemp(request.param), sentences)
    model, tokenizer = built.model, built.tokenizer
    model.generation_config.forced_bos_token_id = built.forced
    start = [model.config.decoder_start_token_id, *([] if built.forced is None else [built.forced])]
    targets = [tokens(tokenizer, sentence) for sentence in sentences]
    inputs = tokenizer(sentences, padding=True, return_tensors="pt")
    length = max(map(len, targets))
    padded = [[*start, *target] + [tokenizer.pad_token_id] * (length - len(target)) for target in targets]
    decoder_input_ids = torch.tensor(padded)[:, :-1]
    labels = torch.tensor([[-100] * (len(start) - 1) + ids + [-100] * (length - len(ids)) for ids in targets])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=decoder_input_ids,
        ).logits
        nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return built


def tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a text and EOS, without what else the tokenizer adds."""
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def candidates(teacher: Teacher, source: str, number: int, strategy: str) -> list[list[int]]:
    """What `generate` alone makes of one sentence: the tokens behind the start and the forced token, EOS the last."""
    beam = {"num_beams": 5, "length_penalty": 1.0, "early_stopping": True}
    settings: dict[str, Any] = {
        "greedy": {},
        "beam": beam,
        "interpolation": beam | {"num_return_sequences": 3},
        "sampling": {"logits_processor": LogitsProcessorList([RowSampler(1, [number], LIMIT + 1)])},
    }[strategy]
    num_given = 1 if teacher.forced is None else 2
    inputs = teacher.tokenizer([source], return_tensors="pt")
    decoded = teacher.model.generate(
        inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=False,
        max_new_tokens=LIMIT + num_given - 1,
        **({"num_beams": 1} | settings),
    ).tolist()
    eos = teacher.tokenizer.eos_token_id
    if teacher.forced is not None:
        assert all(ids[1] == teacher.forced for ids in decoded)
    rest = [ids[num_given:] for ids in decoded]
    return [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in rest]


def mean_log_prob(teacher: Teacher, source: str, target: list[int]) -> float:
    """Mean log-probability of the tokens, every one from a forward pass over its own prefix."""
    prefix = [teacher.model.config.decoder_start_token_id, *([] if teacher.forced is None else [teacher.forced])]
    inputs, total = torch.tensor(teacher.tokenizer([source])["input_ids"]), 0.0
    for token in target:
        with torch.no_grad():
            logits = teacher.model(input_ids=inputs, decoder_input_ids=torch.tensor([prefix])).logits[0, -1]
        total += logits.log_softmax(-1)[token].item()
        prefix.append(token)
    return total / len(target)


@pytest.mark.parametrize(
    "strategy",
    [
        "beam",
        "sampling",
        pytest.param("greedy", marks=pytest.mark.slow),
        pytest.param("interpolation", marks=pytest.mark.slow),
    ],
)
def test_rows_are_what_the_teacher_says_alone(
    teacher: Teacher, strategy: str, arguments: Callable[..., DistillArguments], sources: list[str]
) -> None:
    folder = distill(teacher.model, teacher.tokenizer, arguments(strategy=strategy, max_new_tokens=LIMIT))
    rows = [row for path in sorted(folder.glob("data/train-*")) for row in pq.read_table(path).to_pylist()]
    assert [row["id"] for row in rows] == list(range(len(sources)))
    assert [row["translation"]["en"] for row in rows] == sources
    assert [row["real_target"] for row in rows] == [f"real {source}" for source in sources]
    bleu = BLEU(effective_order=True)
    for number, (row, source) in enumerate(zip(rows, sources, strict=True)):
        if not source:
            assert (row["translation"]["xx"], row["teacher_score"]) == ("", None)
            assert row["flags"] == ["empty_source", "empty_output"]
            continue
        outputs = candidates(teacher, source, number, strategy)
        texts = [teacher.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in outputs]
        quality = [bleu.sentence_score(text, [row["real_target"]]).score for text in texts]
        best = quality.index(max(quality))
        assert row["translation"]["xx"] == texts[best]
        assert row["teacher_score"] == pytest.approx(mean_log_prob(teacher, source, outputs[best]), abs=2e-4)
        at_limit = len(outputs[best]) == LIMIT
        num_output = len(outputs[best]) - (outputs[best][-1] == teacher.tokenizer.eos_token_id)
        num_source = len(tokens(teacher.tokenizer, source)) - 1
        shorter, longer = sorted((num_output, num_source))
        assert ("truncated" in row["flags"]) is at_limit
        assert ("length_ratio" in row["flags"]) is (bool(texts[best]) and longer > 2 * shorter + 5)


def test_text_has_no_language_code_and_lengths_count_content(teacher: Teacher, sentences: list[str]) -> None:
    outputs = translate(teacher.model, teacher.tokenizer, sentences, num_beams=1, max_new_tokens=38, with_scores=True)
    correct = [output for output, sentence in zip(outputs, sentences, strict=True) if output.text == sentence]
    assert len(correct) >= 3, "the teacher should have learnt to copy"
    for output in correct:
        assert output.num_tokens == len(tokens(teacher.tokenizer, output.text)) - 1
        assert not output.truncated
        assert output.score is not None
        assert -1 < output.score <= 0


def test_the_limit_counts_content(teacher: Teacher, sentences: list[str]) -> None:
    long = [sentence for sentence in sentences if len(tokens(teacher.tokenizer, sentence)) > 4]
    for limit in (1, 2, 3):
        for output in translate(
            teacher.model, teacher.tokenizer, long, num_beams=1, max_new_tokens=limit, with_scores=True
        ):
            assert limit - 1 <= output.num_tokens <= limit
            assert output.truncated
            assert output.score is not None
            assert output.score > -torch.inf


def test_a_source_beyond_the_positions_keeps_what_the_tokenizer_adds(teacher: Teacher) -> None:
    long = "two men walk " * 40
    (output,) = translate(teacher.model, teacher.tokenizer, [long], num_beams=1, max_new_tokens=LIMIT)
    limit = getattr(teacher.model.config, "max_position_embeddings", None)
    if limit is None:
        assert max_source_length(teacher.model) is None
        return
    assert output.truncated
    (whole,), (cut,) = (encode_sources(teacher.tokenizer, [long], length) for length in (None, limit))
    assert len(whole) > len(cut) == limit
    added = teacher.tokenizer("")["input_ids"]
    behind = len(added) - added.index(teacher.tokenizer.eos_token_id)
    assert cut[-behind:] == whole[-behind:]
    assert cut[:-behind] == whole[: limit - behind]


def test_a_saved_teacher_is_the_same(teacher: Teacher, sentences: list[str], tmp_path: Path) -> None:
    settings = {"num_beams": 2, "max_new_tokens": LIMIT, "with_scores": True}
    expected = translate(teacher.model, teacher.tokenizer, sentences, **settings)
    teacher.model.save_pretrained(tmp_path)
    teacher.tokenizer.save_pretrained(tmp_path)
    assert translate(*load_model(tmp_path, device="cpu"), sentences, **settings) == expected


def test_lengths_of_sources_count_content(
    teacher: Teacher,
    arguments: Callable[..., DistillArguments],
    sources: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths = []

    def record(source: str, output: str, **kwargs: Any) -> list[str]:
        lengths.append(kwargs["num_source_tokens"])
        return []

    monkeypatch.setattr(sys.modules["hf_nat.distillation.rewriting"], "row_flags", record)
    distill(teacher.model, teacher.tokenizer, arguments(strategy="greedy"))
    assert lengths == [len(tokens(teacher.tokenizer, source)) - 1 for source in sources]


def test_given_translations_are_scored_as_its_own(teacher: Teacher, sentences: list[str]) -> None:
    sources, targets = sentences, sentences[::-1]
    teacher.model.generation_config.forced_bos_token_id = teacher.forced
    found = score_pairs(teacher.model, teacher.tokenizer, sources, targets, max_batch_tokens=40)
    pairs = zip(sources, targets, strict=True)
    expected = [mean_log_prob(teacher, source, tokens(teacher.tokenizer, target)) for source, target in pairs]
    assert found == pytest.approx(expected, abs=2e-4)


def test_tokenizer_of_a_marian_teacher_loads_beside_a_student(sentences: list[str], tmp_path: Path) -> None:
    built = FAMILIES["marian"](tmp_path, sentences)
    VanillaNATForConditionalGeneration.from_teacher(built.model).save_pretrained(tmp_path / "student")
    built.tokenizer.save_pretrained(tmp_path / "student")
    found = AutoTokenizer.from_pretrained(tmp_path / "student")
    assert found(sentences)["input_ids"] == built.tokenizer(sentences)["input_ids"]

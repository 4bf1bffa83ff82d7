"""What a ready-made teacher is told: its languages, its prefix, its row in the table of configs/DISTILLATION.md."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from teachers import FAMILIES, Teacher, m2m100, madlad, marian, mbart50, nllb, opus_multilingual, t5_with_task
from transformers import (
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_nat.base.config import load_config
from hf_nat.decoding import encode_sources, translate
from hf_nat.distillation import DistillArguments
from hf_nat.steps import distill


# Row of the table in configs/DISTILLATION.md -> the family, the first token of its sources, the first of its outputs.
READY_MADES: dict[str, tuple[Callable[[Path, list[str]], Teacher], str | None, str | None]] = {
    "OPUS-MT, one pair": (marian, None, None),
    "OPUS-MT, several target languages": (opus_multilingual, ">>deu<<", None),
    "NLLB": (nllb, "eng_Latn", "deu_Latn"),
    "M2M-100": (m2m100, "__en__", "__de__"),
    "mBART-50": (mbart50, "en_XX", "de_DE"),
    "T5": (t5_with_task, None, None),
    "MADLAD-400": (madlad, "<2de>", None),
}


def table_of_teachers() -> dict[str, list[str]]:
    """The options of each row of the table, and whether CTranslate2 decodes it, as the last word."""
    page = (Path(__file__).parents[2] / "configs/DISTILLATION.md").read_text(encoding="utf-8")
    rows = [
        line.strip("| \n").split(" | ") for line in page.splitlines() if re.match(r"\| [\w-]+.* \| `\S+/\S+` \|", line)
    ]
    return {name: [*(shlex.split(given.strip("`")) if "--" in given else []), ct2] for name, _, given, ct2 in rows}


def test_the_table_of_teachers_is_tested_row_by_row() -> None:
    assert table_of_teachers().keys() == READY_MADES.keys()


@pytest.mark.parametrize("name", READY_MADES)
def test_what_the_table_tells_a_teacher_reaches_it(
    name: str, sentences: list[str], corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, first_of_source, first_of_output = READY_MADES[name]
    torch.manual_seed(0)
    built = build(tmp_path, sentences)
    *options, ct2 = table_of_teachers()[name]
    given = {"teacher": "x", "corpus": corpus, "output_dir": str(tmp_path / "out"), "train_split": "eval"}
    given |= {"source_lang": "en", "target_lang": "xx", "strategy": "greedy"}
    given |= {"validation_split": "null", "test_split": "null"}
    argv = [*(f"--{key}={value}" for key, value in given.items()), "--max_new_tokens=5", "--backend=torch", *options]
    (args,) = load_config((DistillArguments,), argv, prog="hf-nat distill")
    assert isinstance(built.model, MarianMTModel) is (ct2 == "yes")
    seen: list[torch.Tensor] = []
    generate = built.model.generate
    built.model.generate = lambda **inputs: (
        seen.append(inputs["input_ids"]) or seen.append(generate(**inputs)) or seen[-1]
    )
    distill(built.model, built.tokenizer, args)
    sources, outputs = seen[0], seen[1]
    if first_of_source:
        assert (sources[:, 0] == built.tokenizer.convert_tokens_to_ids(first_of_source)).all()
    if first_of_output:
        assert (outputs[:, 1] == built.tokenizer.convert_tokens_to_ids(first_of_output)).all()
    if name == "T5":
        prefix = encode_sources(built.tokenizer, ["translate English to German:"])[0][:-1]
        assert sources[:, : len(prefix)].tolist() == [prefix] * len(sources)


@pytest.mark.parametrize("family", ["mbart", "mbart50", "m2m100"])
def test_languages_of_a_multilingual_teacher_are_arguments(
    family: str, sentences: list[str], arguments: Callable[..., DistillArguments], tmp_path: Path
) -> None:
    built = FAMILIES[family](tmp_path, sentences)
    model, tokenizer = built.model.eval(), built.tokenizer
    codes = {"m2m100": ("fr", "cs")}.get(family, ("fr_XX", "cs_CZ"))
    languages = dict(zip(("model_source_lang", "model_target_lang"), codes, strict=True))
    folder = distill(model, tokenizer, arguments(strategy="greedy", **languages))
    source_id, target_id = (getattr(tokenizer, "get_lang_id", tokenizer.convert_tokens_to_ids)(code) for code in codes)
    (ids,) = encode_sources(tokenizer, ["hello"])
    assert source_id in ids
    start = [target_id] if family == "mbart" else [tokenizer.eos_token_id, target_id]
    decoded = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=12 + len(start) - 1)
    assert decoded[0, : len(start)].tolist() == start
    rows = [row for path in sorted(folder.glob("data/train-*")) for row in pq.read_table(path).to_pylist()]
    (text,) = {row["translation"]["xx"] for row in rows if row["translation"]["en"] == "hello"}
    assert text == tokenizer.decode(decoded[0, len(start) :], skip_special_tokens=True).strip()
    with pytest.raises(ValueError, match="must be the same in every run into"):
        distill(model, tokenizer, arguments(strategy="greedy", **languages | {"model_target_lang": codes[0]}))
    with pytest.raises(ValueError, match="A language must be one that the model's tokenizer has, .*, got 'tlh_QO'"):
        distill(model, tokenizer, arguments("other", model_source_lang="tlh_QO"))


@pytest.mark.parametrize("build", [mbart50, m2m100, nllb])
def test_a_multilingual_teacher_without_a_target_language_is_refused(
    build: Callable[..., Teacher], sentences: list[str], arguments: Callable[..., DistillArguments], tmp_path: Path
) -> None:
    built = build(tmp_path, sentences)
    built.model.generation_config.forced_bos_token_id = None
    with pytest.raises(ValueError, match="`teacher` must be told its languages where it has several, as this"):
        distill(built.model, built.tokenizer, arguments(strategy="greedy"))


def test_a_teacher_of_one_pair_has_no_languages(
    copy_teacher: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerBase, arguments: Callable[..., DistillArguments]
) -> None:
    with pytest.raises(ValueError, match="Languages must be left out for a TokenizersBackend, which has none, got"):
        distill(copy_teacher, tiny_tokenizer, arguments(model_target_lang="de"))


@pytest.mark.parametrize("backend", ["torch", "ct2"])
def test_a_prefix_is_for_the_teacher_alone(
    backend: str,
    copy_teacher: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerBase,
    arguments: Callable[..., DistillArguments],
    sources: list[str],
) -> None:
    folder = distill(copy_teacher, tiny_tokenizer, arguments(source_prefix="two dogs ", backend=backend))
    rows = [row for path in sorted(folder.glob("data/train-*")) for row in pq.read_table(path).to_pylist()]
    prefixed = [f"two dogs {source}" if source else "" for source in sources]
    search = {"num_beams": 5, "length_penalty": 1.0, "early_stopping": True, "max_new_tokens": 12}
    expected = translate(copy_teacher, tiny_tokenizer, prefixed, **search)
    assert [row["translation"]["xx"] for row in rows] == [output.text for output in expected]
    assert [row["translation"]["en"] for row in rows] == sources
    assert json.loads((folder / "manifest.json").read_text())["decoding"]["source_prefix"] == "two dogs "

"""Teachers of other families: their tokenizers, start tokens, padding and forced language codes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sentencepiece
import torch
from sacrebleu.metrics import BLEU
from tokenizers import processors
from torch import nn
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    LogitsProcessorList,
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    MBart50Tokenizer,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    NllbTokenizer,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PegasusTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from hf_nat import VanillaNATForConditionalGeneration
from hf_nat.base.config import load_config
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.decoding import encode_sources, load_model, max_source_length, score_pairs, translate
from hf_nat.distillation import DistillArguments
from hf_nat.distillation.sampling import RowSampler
from hf_nat.steps import distill


LIMIT = 12
SIZES = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 40,
    "dropout": 0.0,
}


@dataclass
class Teacher:
    """A teacher that has learnt to copy, and the token that it must put first."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    forced: int | None


def pieces(folder: Path, sentences: list[str], **ids: int) -> sentencepiece.SentencePieceProcessor:
    """Trains the SentencePiece model of a family, under the names that its tokenizer looks for."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 20),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    shutil.copy(folder / "spiece.model", folder / "sentencepiece.bpe.model")
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))


def vocabulary(folder: Path, model: sentencepiece.SentencePieceProcessor, first: list[str], last: list[str]) -> str:
    """Writes a vocabulary beside a SentencePiece model, whose own special tokens have the numbers 0 to 2."""
    tokens = [*first, *(model.id_to_piece(i) for i in range(3, len(model))), *last]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    return str(folder / "vocab.json")


def marian(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with padding, the last token of the vocabulary, which its bias forbids."""
    vocab = vocabulary(folder, pieces(folder, sentences), ["</s>", "<unk>"], ["<pad>"])
    spm = str(folder / "spiece.model")
    tokenizer = MarianTokenizer(source_spm=spm, target_spm=spm, vocab=vocab, source_lang="en", target_lang="xx")
    pad = tokenizer.pad_token_id
    config = MarianConfig(
        **SIZES,
        vocab_size=pad + 1,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=0,
    )
    model = MarianMTModel(config)
    model.final_logits_bias[0, pad] = -torch.inf
    return Teacher(model, tokenizer, None)


def bart(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with `</s>` and is made to go on with `<s>`; `<s>` leads its sources too."""
    tokenizer = train_tokenizer(sentences * 2, 80)
    special = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=special
    )
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    config = BartConfig(
        **SIZES,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=bos,
        eos_token_id=eos,
        decoder_start_token_id=eos,
        forced_eos_token_id=eos,
    )
    return Teacher(BartForConditionalGeneration(config), tokenizer, bos)


def mbart(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with the target language; its sources end in `</s>` and their language."""
    pieces(folder, sentences)
    tokenizer = MBartTokenizer.from_pretrained(folder, src_lang="en_XX", tgt_lang="de_DE")
    config = MBartConfig(
        **SIZES,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("de_DE"),
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    return Teacher(MBartForConditionalGeneration(config), tokenizer, None)


def mbart50(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with `</s>` and is made to go on with the target language; its sources begin with theirs."""
    pieces(folder, sentences)
    tokenizer = MBart50Tokenizer.from_pretrained(folder, src_lang="en_XX", tgt_lang="de_DE")
    forced = tokenizer.convert_tokens_to_ids("de_DE")
    config = MBartConfig(
        **SIZES,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    return Teacher(MBartForConditionalGeneration(config), tokenizer, forced)


def m2m100(folder: Path, sentences: list[str]) -> Teacher:
    """As mBART-50, with a slow tokenizer whose `decode` would leave the language in the text. NLLB is one of these."""
    vocab = vocabulary(folder, pieces(folder, sentences), ["<s>", "<pad>", "</s>", "<unk>"], [])
    spm = str(folder / "spiece.model")
    tokenizer = M2M100Tokenizer(vocab_file=vocab, spm_file=spm, src_lang="en", tgt_lang="de")
    forced = tokenizer.get_lang_id("de")
    config = M2M100Config(
        **SIZES,
        vocab_size=max(tokenizer.lang_token_to_id.values()) + 1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
    )
    return Teacher(M2M100ForConditionalGeneration(config), tokenizer, forced)


def t5(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with padding, number 0; relative positions, so no source is too long."""
    pieces(folder, sentences, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    tokenizer = T5Tokenizer.from_pretrained(folder)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return Teacher(T5ForConditionalGeneration(config), tokenizer, None)


def pegasus(folder: Path, sentences: list[str]) -> Teacher:
    """Starts with padding, number 0."""
    pieces(folder, sentences, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    tokenizer = PegasusTokenizer.from_pretrained(folder)
    config = PegasusConfig(
        **SIZES,
        vocab_size=len(tokenizer),
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=1,
    )
    return Teacher(PegasusForConditionalGeneration(config), tokenizer, None)


FAMILIES = {build.__name__: build for build in (marian, bart, mbart, mbart50, m2m100, t5, pegasus)}


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


@pytest.mark.parametrize("strategy", ["beam", "greedy", "sampling", "interpolation"])
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


def opus_multilingual(folder: Path, sentences: list[str]) -> Teacher:
    """A Marian teacher whose sources begin with the target language."""
    last = [">>deu<<", ">>nld<<", "<pad>"]
    vocab = vocabulary(folder, pieces(folder, sentences), ["</s>", "<unk>"], last)
    spm = str(folder / "spiece.model")
    tokenizer = MarianTokenizer(source_spm=spm, target_spm=spm, vocab=vocab)
    pad = tokenizer.pad_token_id
    special = {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0, "forced_eos_token_id": 0}
    return Teacher(MarianMTModel(MarianConfig(**SIZES, vocab_size=pad + 1, **special)), tokenizer, None)


def nllb(folder: Path, sentences: list[str]) -> Teacher:
    """A model as M2M-100 with a tokenizer of its own, whose codes name the script too."""
    pieces(folder, sentences)
    tokenizer = NllbTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["eng_Latn", "deu_Latn"]})
    eos = tokenizer.eos_token_id
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": eos, "decoder_start_token_id": eos}
    model = M2M100ForConditionalGeneration(M2M100Config(**SIZES, vocab_size=len(tokenizer), **special))
    return Teacher(model, tokenizer, tokenizer.convert_tokens_to_ids("deu_Latn"))


def madlad(folder: Path, sentences: list[str]) -> Teacher:
    """A T5 whose sources begin with the target language, a piece of its vocabulary."""
    pieces(folder, sentences, unk_id=0, pad_id=1, eos_id=2, bos_id=-1, user_defined_symbols=["<2de>"])
    tokenizer = T5Tokenizer.from_pretrained(folder, extra_ids=0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    special = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes, **special))
    return Teacher(model, tokenizer, None)


def t5_with_task(folder: Path, sentences: list[str]) -> Teacher:
    """A T5 that knows the words of its task."""
    return t5(folder, [*sentences, "translate English to German: hello"])


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
    given |= {"source_lang": "en", "target_lang": "xx", "validation_split": "", "test_split": "", "strategy": "greedy"}
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


def test_tokenizer_of_a_marian_teacher_loads_beside_a_student(sentences: list[str], tmp_path: Path) -> None:
    built = FAMILIES["marian"](tmp_path, sentences)
    VanillaNATForConditionalGeneration.from_teacher(built.model).save_pretrained(tmp_path / "student")
    built.tokenizer.save_pretrained(tmp_path / "student")
    found = AutoTokenizer.from_pretrained(tmp_path / "student")
    assert found(sentences)["input_ids"] == built.tokenizer(sentences)["input_ids"]

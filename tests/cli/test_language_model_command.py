"""`hf-nat language-model`, from a corpus to a beam search that reads its n-grams."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from datasets import Dataset
from marian_tokenizers import save_marian_tokenizer
from nat_model_tester import save, tiny_student
from rights import of_an_ordinary_user
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from hf_nat.base.utils import sha256_file
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.decoding.language_model import LANGUAGE_MODEL_FILE, NGramLanguageModel, language_model_file
from hf_nat.steps import Export, ExportArguments
from hf_nat.steps.step import _held
from hf_nat_cli import main


SOURCES, TARGETS = ["ab ba", "abba baab", "", "ba"], ["ba ab", "baba", "", "abab ba"]


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    tokenizer = train_tokenizer(SOURCES + TARGETS, vocab_size=12)
    save(tmp_path / "model", tiny_student("ctc_nat", tokenizer), tokenizer)
    for lang, lines in (("src", SOURCES), ("tgt", TARGETS)):
        Path(f"train.{lang}").write_text("".join(f"{line}\n" for line in lines))
    return ["--model=model", "--corpus={split}.{lang}", "--source_lang=src", "--target_lang=tgt"]


def test_n_grams_are_counted_once_and_come_with_the_model(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path("model") / LANGUAGE_MODEL_FILE
    assert main(["language-model", *options, "--order=3"]) == 0
    assert "`--language_model model`" in capsys.readouterr().out
    digest, written = sha256_file(file), file.stat().st_mtime_ns
    assert main(["language-model", *options, "--order=3"]) == 0
    assert file.stat().st_mtime_ns == written
    assert f"`{LANGUAGE_MODEL_FILE}` is an n-gram model" in Path("model/README.md").read_text(encoding="utf-8")
    # Another order, or text, is another model; the same text gives the same bytes.
    assert main(["language-model", *options]) == 2
    assert "order" in capsys.readouterr().err
    file.unlink()
    assert main(["language-model", *options, "--order=3"]) == 0
    assert sha256_file(file) == digest
    for order in (0, 11):
        assert main(["language-model", *options, f"--order={order}"]) == 2
        assert f"`order` must be >= 1 and <= 10, got {order}" in capsys.readouterr().err


def test_every_target_of_a_source_is_counted(options: list[str]) -> None:
    pairs = [{"src": source, "tgt": target} for source, target in zip(SOURCES, TARGETS, strict=True)]
    lists = [[target, "ab ba ab"] for target in TARGETS]
    Path("lists/data").mkdir(parents=True)
    rows = Dataset.from_dict({"translation": pairs, "targets": lists})
    rows.to_parquet("lists/data/train-00000-of-00001.parquet")
    Path("train.src").write_text("".join(f"{source}\n" * 2 for source in SOURCES))
    Path("train.tgt").write_text("".join(f"{text}\n" for own in lists for text in own))
    written = []
    for corpus in ([], ["--corpus=lists"]):
        assert main(["language-model", *options, *corpus]) == 0
        written.append((Path("model") / LANGUAGE_MODEL_FILE).read_bytes())
        for name in (LANGUAGE_MODEL_FILE, ".language-model.json"):
            (Path("model") / name).unlink()
    assert written[0] == written[1]


def test_a_beam_reads_it_from_the_folder_of_the_model(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    beam = ["translate", "--model=model", "--input=train.src", "--ctc_beam_size=4"]
    assert main([*beam, "--language_model=model"]) == 2
    assert f"a folder or Hub id with {LANGUAGE_MODEL_FILE}, got 'model' without" in capsys.readouterr().err
    assert main(["language-model", *options]) == 0
    outputs = {}
    for name in ("model", f"model/{LANGUAGE_MODEL_FILE}", None):
        given = [] if name is None else [f"--language_model={name}", "--lm_weight=5"]
        assert main([*beam, *given, "--output=out.txt"]) == 0
        outputs[name] = Path("out.txt").read_text()
    assert outputs["model"] == outputs[f"model/{LANGUAGE_MODEL_FILE}"] != outputs[None]
    tokenizer = train_tokenizer(SOURCES + TARGETS, vocab_size=12)
    model = NGramLanguageModel("model", tokenizer)
    first = {token: model((), token) for token in tokenizer("ba ab")["input_ids"][:1]}
    assert all(-5 < score < 0 for score in first.values())


def test_special_tokens_of_any_name_are_no_words(options: list[str]) -> None:
    words = {word: number for number, word in enumerate(["[PAD]", "[END]", "[UNK]", "[MASK]", "ba", "ab"])}
    tokens = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokens.pre_tokenizer = Whitespace()
    tokens.post_processor = TemplateProcessing(single="$0 [END]", special_tokens=[("[END]", 1)])
    names = {"pad_token": "[PAD]", "eos_token": "[END]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokens, **names).save_pretrained("model")
    assert main(["language-model", *options, "--order=2"]) == 0
    with gzip.open(Path("model") / LANGUAGE_MODEL_FILE, "rt", encoding="utf-8") as file:
        unigrams = [line.split("\t")[1] for line in file if line.count("\t") == 2]
    assert sorted(unigrams) == ["</s>", "<s>", "<unk>", "ab", "ba"]


def test_an_export_knows_the_n_grams_that_it_copies(options: list[str]) -> None:
    step = Export(ExportArguments(model="model", output_dir="graphs"))
    inputs = [step.inputs()]
    for order in ("2", "3"):
        Path("model/language_model.arpa.gz").unlink(missing_ok=True)
        Path("model/.language-model.json").unlink(missing_ok=True)
        assert main(["language-model", *options, f"--order={order}"]) == 0
        inputs.append(step.inputs())
    assert "language_model" not in inputs[0]
    assert inputs[1]["language_model"] != inputs[2]["language_model"]


def test_a_model_that_reads_no_n_grams_is_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = train_tokenizer(SOURCES + TARGETS, vocab_size=12)
    save(tmp_path / "other", tiny_student("vanilla_nat", tokenizer), tokenizer)
    assert main(["language-model", "--model=other", *options[1:]]) == 2
    assert "as ctc_nat and da_transformer have, got one of the type 'vanilla_nat'" in capsys.readouterr().err
    assert not list(Path("other").glob("*language_model*"))


def test_n_grams_of_another_tokenizer_are_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smaller = train_tokenizer(SOURCES + TARGETS, vocab_size=9)
    save(tmp_path / "other", tiny_student("ctc_nat", smaller), smaller)
    assert main(["language-model", "--model=other", *options[1:]]) == 0
    translate = ["translate", "--model=model", "--input=train.src", "--ctc_beam_size=4", "--lm_weight=1"]
    # A file of another name may be of any model.
    assert main(["language-model", *options]) == 0
    shutil.copy(f"model/{LANGUAGE_MODEL_FILE}", "other/mine.arpa.gz")
    assert main([*translate, "--language_model=other/mine.arpa.gz", "--output=out.txt"]) == 0
    for place in ("other", f"other/{LANGUAGE_MODEL_FILE}"):
        assert main([*translate, f"--language_model={place}"]) == 2
        assert "`language_model` must be of the model's own tokenizer, got 'other'" in capsys.readouterr().err


def test_a_file_that_was_damaged_is_made_anew(options: list[str], tmp_path: Path) -> None:
    file = Path("model") / LANGUAGE_MODEL_FILE
    assert main(["language-model", *options]) == 0
    whole = file.read_bytes()
    for damaged in (b"", whole[:-10], whole + b"x"):
        file.write_bytes(damaged)
        assert main(["language-model", *options]) == 0
        assert file.read_bytes() == whole


def test_a_model_that_cannot_be_written_to_is_told(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("model").chmod(0o555)
    with of_an_ordinary_user():
        assert main(["language-model", *options]) == 2
    assert "`model` must be a folder that can be written to, got 'model'." in capsys.readouterr().err
    Path("model").chmod(0o755)
    with _held(Path("model"), "model"):
        assert main(["language-model", *options]) == 2
    assert "`model` must be free, got 'model', in which process" in capsys.readouterr().err


def test_a_place_without_n_grams_is_told(options: list[str]) -> None:
    with pytest.raises(FileNotFoundError, match="`language_model` must be a Hub id, a folder or files, .* `lm.arpa`"):
        language_model_file("lm.arpa")
    with pytest.raises(FileNotFoundError, match=r"Run `hf-nat language-model`\."):
        language_model_file("model")


def test_targets_are_cut_as_a_student_learns_them(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    sources = ["a dog runs", "two men walk over the street", "the cat sleeps", "a woman reads a red book"]
    targets = [text.upper() for text in sources]
    for stale in Path("model").glob("*token*"):
        stale.unlink()
    save_marian_tokenizer(Path("model"), sources, targets, vocab_size=40)
    Path("train.src").write_text("".join(f"{line}\n" for line in sources))
    Path("train.tgt").write_text("".join(f"{line}\n" for line in targets))
    assert main(["language-model", *options]) == 0
    with gzip.open(Path("model") / LANGUAGE_MODEL_FILE, "rt", encoding="utf-8") as file:
        written = file.read()
    assert "D" in written and "O" in written
    # Another tokenizer is told, whatever its files.
    capsys.readouterr()
    with open("model/target.spm", "ab") as file:
        file.write(b"\0")
    assert main(["language-model", *options]) == 2
    assert "target.spm" in capsys.readouterr().err


@pytest.mark.parametrize("blank", ["\t", "\v", "\f"])
def test_a_tab_or_the_like_is_a_space(blank: str, options: list[str], tmp_path: Path) -> None:
    texts = [f"ab{blank}ba", "ba ab"]
    tokenizer = train_tokenizer(texts, vocab_size=12)
    assert blank in tokenizer.get_vocab()
    save(tmp_path / "model", tiny_student("ctc_nat", tokenizer), tokenizer)
    Path("train.src").write_text("".join(f"{line}\n" for line in texts))
    Path("train.tgt").write_text("".join(f"{line}\n" for line in texts))
    assert main(["language-model", *options, "--order=2"]) == 0
    with gzip.open(Path("model") / LANGUAGE_MODEL_FILE, "rt", encoding="utf-8") as file:
        unigrams = file.read().split("\\1-grams:\n")[1].split("\n\n")[0].splitlines()
    pieces = {line.split("\t")[1] for line in unigrams}
    assert pieces == {"<unk>", "<s>", "</s>", *tokenizer.tokenize("ab ba"), *tokenizer.tokenize("ba ab")}

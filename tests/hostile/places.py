"""A folder in which every command works, and how a command must fail."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from hub.distilled_corpus import MANIFEST
from sentencepiece import SentencePieceTrainer
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

from hf_nat import CMLMConfig, CMLMForConditionalGeneration, CTCNATConfig, CTCNATForConditionalGeneration
from hf_nat.base.utils import sha256_file, write_json
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.distillation.shards import corpus_features
from hf_nat.experiments.quickstart import TARGETS
from hf_nat_cli import main


# Lines on standard error that are not the error: messages of the libraries and of this package.
_LOGS = re.compile(r"(\[?(INFO|WARNING)|\[transformers\]|[\w ]*:? *\d+%\|)")
_SIZES = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2} | {
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 8,
    "decoder_ffn_dim": 8,
    "max_position_embeddings": 32,
}
_SOURCES = ["a dog runs", "two men walk", "the cat sleeps", "a red book", "hello", "the dog sleeps"] * 12
_TARGETS = [
    "ein hund rennt",
    "zwei maenner gehen",
    "die katze schlaeft",
    "ein rotes buch",
    "hallo",
    "der hund schlaeft",
] * 12


def _models(folder: Path) -> None:
    """A teacher, a student of the same vocabulary, a model of another, and a Marian checkpoint with SentencePiece."""
    tokenizer = train_tokenizer(_SOURCES + _TARGETS, vocab_size=60)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    for name, size in (("teacher", len(tokenizer)), ("other", 20)):
        config = MarianConfig(vocab_size=size, decoder_start_token_id=0, forced_eos_token_id=None, **special, **_SIZES)
        MarianMTModel(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    small = train_tokenizer(["a b"], vocab_size=20)
    small.save_pretrained(folder / "other")
    config = CMLMConfig(vocab_size=len(tokenizer), mask_token_id=4, **special, **_SIZES)
    CMLMForConditionalGeneration(config).save_pretrained(folder / "student")
    config = CTCNATConfig(vocab_size=len(tokenizer) + 1, blank_token_id=len(tokenizer), **special, **_SIZES)
    CTCNATForConditionalGeneration(config).save_pretrained(folder / "ctc")
    for name in ("student", "ctc"):
        tokenizer.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / "tokenizer")
    _sentence_pieces(folder / "marian")


def _language_model(path: Path) -> None:
    lines = ["\\data\\", "ngram 1=4", "ngram 2=1", "", "\\1-grams:", "-1\t<unk>\t0", "-99\t<s>\t0", "-1\t</s>\t0"]
    lines += ["-1\t▁a\t0", "", "\\2-grams:", "-1\t<s> ▁a", "", "\\end\\", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _sentence_pieces(folder: Path) -> None:
    folder.mkdir()
    (folder / "text").write_text("\n".join(_SOURCES + _TARGETS), encoding="utf-8")
    options = {"vocab_size": 40, "minloglevel": 2, "hard_vocab_limit": False}
    SentencePieceTrainer.train(input=str(folder / "text"), model_prefix=str(folder / "source"), **options)
    pieces = [line.split("\t")[0] for line in (folder / "source.vocab").read_text(encoding="utf-8").splitlines()]
    (folder / "source.vocab").unlink()
    (folder / "text").unlink()
    (folder / "source.model").rename(folder / "source.spm")
    shutil.copy(folder / "source.spm", folder / "target.spm")
    vocabulary = [piece for piece in pieces if piece not in ("<s>", "</s>", "<unk>")]
    vocabulary = ["</s>", "<unk>", *vocabulary, ">>deu<<", ">>nld<<", "<pad>"]
    write_json(folder / "vocab.json", {piece: row for row, piece in enumerate(vocabulary)})
    tokenizer = MarianTokenizer(
        source_spm=str(folder / "source.spm"), target_spm=str(folder / "target.spm"), vocab=str(folder / "vocab.json")
    )
    tokenizer.save_pretrained(folder)
    pad = len(vocabulary) - 1
    special = {"pad_token_id": pad, "eos_token_id": 0, "bos_token_id": None, "decoder_start_token_id": pad}
    config = MarianConfig(vocab_size=len(vocabulary), forced_eos_token_id=0, **special, **_SIZES)
    MarianMTModel(config).save_pretrained(folder)


def _corpora(folder: Path) -> None:
    """One corpus in every form, and a distilled one."""
    folder.mkdir()
    for split in ("train", "validation", "test"):
        for lang, lines in (("en", _SOURCES), ("de", _TARGETS)):
            (folder / f"{split}.{lang}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    pairs = [{"en": source, "de": target} for source, target in zip(_SOURCES, _TARGETS, strict=True)]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"translation": pair}) + "\n" for pair in pairs))
    for suffix, mark in (("csv", ","), ("tsv", "\t")):
        lines = [mark.join(("en", "de")), *(mark.join(pair.values()) for pair in pairs)]
        (folder / f"rows.{suffix}").write_text("".join(f"{line}\n" for line in lines))
    with gzip.open(folder / "rows.jsonl.gz", "wb") as file:
        file.write((folder / "rows.jsonl").read_bytes())
    pq.write_table(pa.Table.from_pylist([{"translation": pair} for pair in pairs]), folder / "rows.parquet")
    (folder / "hub" / "data").mkdir(parents=True)
    for split in ("train", "test"):
        shutil.copy(folder / "rows.parquet", folder / "hub" / "data" / f"{split}-00000-of-00001.parquet")
    _distilled(folder / "distilled", pairs)


def _distilled(folder: Path, pairs: list[dict[str, str]]) -> None:
    features = corpus_features("en", "de")
    rows = [
        {"id": i, "translation": pair, "real_target": pair["de"], "teacher_score": -0.5, "flags": []}
        for i, pair in enumerate(pairs)
    ]
    (folder / "data").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        columns = {name: [row[name] for row in rows] for name in features}
        Dataset.from_dict(columns, features=features).to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    checksums = {f"data/{path.name}": sha256_file(path) for path in sorted((folder / "data").iterdir())}
    counts = dict.fromkeys(("train", "validation", "test"), len(rows))
    flags = {"flag_counts": {}}
    write_json(folder / "manifest.json", MANIFEST | flags | {"counts": counts, "shards": checksums})


_COMMON = "source_lang: en\ntarget_lang: de\n"
CONFIGS = {
    "train.yaml": "corpus: corpus/{split}.{lang}\nmodel_type: cmlm\nsize: nano\ntokenizer: tokenizer\n"
    "output_dir: run\nuse_cpu: true\nmax_steps: 1\nreport_to: none\nmax_source_length: 30\nmax_target_length: 30\n"
    "model_config: {max_position_embeddings: 32}\n" + _COMMON,
    "distill.yaml": "corpus: corpus/{split}.{lang}\nteacher: teacher\noutput_dir: run\nstrategy: greedy\n" + _COMMON,
    "filter.yaml": "corpus: corpus/distilled\noutput_dir: run\n",
    "mix.yaml": "corpora: ['distilled=corpus/distilled', 'real=corpus/{split}.{lang}']\noutput_dir: run\n" + _COMMON,
    "translate.yaml": "model: teacher\ninput: corpus/test.en\noutput: out.txt\n",
    "evaluate.yaml": "model: teacher\ncorpus: corpus/{split}.{lang}\noutput_dir: run\nmetrics: bleu\n" + _COMMON,
    "tune.yaml": "model: student\ncorpus: corpus/{split}.{lang}\nknob: length_beam\nvalues: [1, 2]\n" + _COMMON,
    "calibrate.yaml": "model: student\ncorpus: corpus/{split}.{lang}\n" + _COMMON,
    "language-model.yaml": "model: ctc\ncorpus: corpus/{split}.{lang}\norder: 2\n" + _COMMON,
    "align.yaml": "corpus: corpus/{split}.{lang}\noutput_file: out.txt\n" + _COMMON,
    "analyze.yaml": "real: corpus/{split}.{lang}\ndistilled: distilled=corpus/distilled\noutput_dir: run\n"
    "num_bootstrap: 0\ntokens: space\n" + _COMMON,
    "recommend.yaml": "student: train.yaml\ncandidates: distilled=corpus/distilled\noutput_dir: run\n",
    "export.yaml": "model: student\noutput_dir: run\n",
    "push.yaml": "folder: student\nrepo_id: a/b\ndry_run: true\n",
    "toy.yaml": "output_dir: run\ntrain: 5\nvalidation: 2\ntest: 2\n",
    "quickstart.yaml": "config_dir: configs\noutput_dir: run\n",
    "born-again.yaml": "teacher_config: parts/teacher.yaml\ndistill_config: parts/distill.yaml\n"
    "student_config: parts/student.yaml\noutput_dir: run\niterations: 1\n",
    "serve.yaml": "model: teacher\nport: 0\n",
    "demo.yaml": "model: student\nspace_dir: run\n",
}

# What writes into the folder of the model that it is given, and this.
INTO_MODEL = {"tune": "student", "calibrate": "student", "language-model": "ctc"}

# Files that others name: the studies' steps and those of the quickstart.
_TEACHER = CONFIGS["train.yaml"].replace("cmlm", "marian").replace("tokenizer: tokenizer\n", "vocab_size: 60\n")
PARTS = {
    "parts/teacher.yaml": _TEACHER,
    "parts/distill.yaml": CONFIGS["distill.yaml"],
    "parts/student.yaml": CONFIGS["train.yaml"],
    "configs/teacher.yaml": _TEACHER,
    "configs/distill.yaml": CONFIGS["distill.yaml"],
    **{f"configs/{model}_{text}.yaml": CONFIGS["train.yaml"] for model in ("cmlm", "vanilla_nat") for text in TARGETS},
}


def build_sound(folder: Path) -> None:
    """Makes the folder."""
    folder.mkdir(parents=True)
    _models(folder)
    _corpora(folder / "corpus")
    _language_model(folder / "lm.arpa")
    for name, text in (CONFIGS | PARTS).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, "" of a folder and what cannot be read; not by pathlib, which fails in deep trees."""
    found, left = {}, [folder]
    while left:
        for entry in os.scandir(left.pop()):
            path = Path(entry.path)
            is_read = path.is_file() and os.access(path, os.R_OK)
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if is_read else ""
            found[path.relative_to(folder).as_posix()] = digest
            if entry.is_dir(follow_symlinks=False) and os.access(path, os.R_OK):
                left.append(path)
    return found


def fails(
    argv: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> str:
    """Runs a command that must fail in the one way, `around` it; returns its line."""
    before = contents(folder)
    capsys.readouterr()
    with around():
        status = main(argv)
    errors = capsys.readouterr().err.splitlines()
    lines = [line for line in errors if line.strip() and not _LOGS.match(line.strip())]
    assert status == 2 and len(lines) == 1, (status, errors)
    assert lines[0].startswith(f"hf-nat {argv[0]}: "), lines
    after = contents(folder)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    assert not changed, (changed, lines)
    return lines[0]

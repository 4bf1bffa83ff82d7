"""Every command on every damaged artefact that it reads: status 2, one line that names it, and nothing touched."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from hub.distilled_corpus import MANIFEST
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceTrainer
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

from hf_nat import CMLMConfig, CMLMForConditionalGeneration
from hf_nat.base.utils import sha256_file, write_json
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.distillation.shards import corpus_features
from hf_nat.experiments.quickstart import TARGETS
from hf_nat.experiments.registry import EXPERIMENTS
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
    tokenizer.save_pretrained(folder / "student")
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
_CONFIGS = {
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

# Files that others name: the studies' steps and those of the quickstart.
_TEACHER = _CONFIGS["train.yaml"].replace("cmlm", "marian").replace("tokenizer: tokenizer\n", "vocab_size: 60\n")
_PARTS = {
    "parts/teacher.yaml": _TEACHER,
    "parts/distill.yaml": _CONFIGS["distill.yaml"],
    "parts/student.yaml": _CONFIGS["train.yaml"],
    "configs/teacher.yaml": _TEACHER,
    "configs/distill.yaml": _CONFIGS["distill.yaml"],
    **{
        f"configs/{model}_{text}.yaml": _CONFIGS["train.yaml"] for model in ("cmlm", "vanilla_nat") for text in TARGETS
    },
}


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command works."""
    folder = tmp_path_factory.mktemp("sound") / "place"
    folder.mkdir()
    _models(folder)
    _corpora(folder / "corpus")
    _language_model(folder / "lm.arpa")
    for name, text in (_CONFIGS | _PARTS).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def finished(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after some commands."""
    folder = tmp_path_factory.mktemp("finished") / "place"
    shutil.copytree(sound, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in ("evaluate", "filter", "analyze", "tune", "calibrate", "mix"):
            out = ["--output_dir", f"run-{command}"] if command not in ("tune", "calibrate") else []
            assert main([command, f"{command}.yaml", *out]) == 0, command
    return folder


# From the bytes of a file to those of a damaged one, None for a missing file.
Damage = Callable[[bytes], bytes | None]
_DAMAGES: dict[str, Damage] = {
    "missing": lambda data: None,
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2 - 5],
    "binary": lambda data: bytes(range(256)) * 8,
}
_JSON: dict[str, Damage] = {**_DAMAGES, "list": lambda data: b"[1, 2]", "text": lambda data: b'"a"'}


@dataclass(frozen=True)
class Case:
    """A command, the file that is damaged before it, how, and what the error must name (by default the file)."""

    command: str
    file: str
    damage: str
    damages: dict[str, Damage]
    options: tuple[str, ...] = ()
    names: str = ""
    place: str = "sound"

    def __str__(self) -> str:
        return "-".join([self.command, *self.options, self.file, self.damage]).replace("/", "_")


def _cases(command: str, file: str, damages: dict[str, Damage], *options: str, **more: str) -> list[Case]:
    return [Case(command, file, damage, damages, options, **more) for damage in damages]


def _without(damages: dict[str, Damage], *names: str) -> dict[str, Damage]:
    return {name: damage for name, damage in damages.items() if name not in names}


_GONE = object()


def _inside(**changes: object) -> Damage:
    """Changes keys of a JSON object, or takes them away."""

    def damage(data: bytes) -> bytes:
        value = {**json.loads(data), **changes}
        return json.dumps({name: entry for name, entry in value.items() if entry is not _GONE}).encode()

    return damage


_YAML: dict[str, Damage] = {
    **_without(_DAMAGES, "cut"),
    "list": lambda data: b"- a\n- b\n",
    "unknown key": lambda data: data + b"nonsense: 1\n",
    "twice": lambda data: data + data,
    "open bracket": lambda data: data + b"x: [1, \n",
}
_CONFIG = {
    **_JSON,
    "unknown type": _inside(model_type="nonsense"),
    "no type": _inside(model_type=_GONE),
    "text for a number": _inside(d_model="eight"),
    "other size": _inside(d_model=16),
    "foreign code": _inside(model_type="evil", auto_map={"AutoConfig": "evil.Config"}),
}
_GENERATION = {
    **_without(_JSON, "missing"),
    "text for a number": _inside(max_length="ten"),
    "no such token": _inside(decoder_start_token_id=10_000),
}
_TOKENIZER = {
    **_JSON,
    "foreign": lambda data: b'{"version": "1.0", "model": {"type": "Magic"}}',
    "none": lambda data: b"{}",
}
_TEXT = {
    **_without(_DAMAGES, "cut"),
    "unequal": lambda data: data + b"one more\n",
    "latin": lambda data: data + b"\xe9\n",
}
_TABLE = {**_without(_DAMAGES, "cut"), "columns": lambda data: b"a,b\n1,2\n"}
_ROWS = {
    **_DAMAGES,
    "numbers": lambda data: b"1\n2\n",
    "columns": lambda data: b'{"a": 1}\n',
    "null": lambda data: b"null\n",
}
_MANIFEST = {
    **_JSON,
    "no shards": _inside(shards=_GONE),
    "listed shards": _inside(shards=["data/train"]),
    "numbers for shards": _inside(shards={"data/train-00000-of-00001.parquet": 1}),
    "no counts": _inside(counts=_GONE),
    "text for counts": _inside(counts="many"),
    "no language": _inside(source_lang=_GONE),
    "foreign": lambda data: b'{"settings": {}, "corpora": []}',
    "outward": _inside(shards={"../train.parquet": "ab"}),
}
_MEASURES = {
    **_without(_JSON, "missing"),
    "no corpora": _inside(corpora=_GONE),
    "one corpus": _inside(corpora=[{}]),
    "no settings": _inside(settings=_GONE),
    "foreign": lambda data: b'{"counts": {}}',
    "text": _inside(corpora="two"),
}
_STEP = {
    **_without(_JSON, "missing"),
    "another step": _inside(step="toast"),
    "no inputs": _inside(inputs=_GONE),
    "listed inputs": _inside(inputs=[1]),
    "text for settings": _inside(settings="all"),
}
_TUNED = {
    **_without(_JSON, "missing"),
    "no results": _inside(results=_GONE),
    "text for results": _inside(results="good"),
    "no value": _inside(results=[{"score": 1.0}]),
    "no best": _inside(best=_GONE),
}
_CONFIDENCE = {
    **_without(_JSON, "missing"),
    "no scores": _inside(scores=_GONE),
    "no knots": _inside(scores=[], confidences=[]),
    "text for a number": _inside(scores=["low"], confidences=[0.5]),
    "unequal": _inside(scores=[-1.0, -0.5], confidences=[0.5]),
    "falling": _inside(scores=[-1.0, -0.5], confidences=[0.5, 0.4]),
    "no number": _inside(scores=[float("nan")], confidences=[0.5]),
    "truth for a number": _inside(scores=[-1.0, True], confidences=[0.4, 0.5]),
    "no share": _inside(scores=[-1.0, -0.5], confidences=[0.5, 7]),
    "text for decoding": _inside(decoding="greedy"),
}
_ARPA = {**_DAMAGES, "text": lambda data: b"a dog runs\n", "words": lambda data: data.replace("▁".encode(), b"#")}
_LINKS = {
    **_without(_DAMAGES, "cut"),
    "words": lambda data: b"a b c\n" * 72,
    "too few": lambda data: b"0-0\n",
    "too many": lambda data: b"0-0\n" * 73,
    "out of the sentence": lambda data: b"0-0 9-9\n" * 72,
}


def _table() -> list[Case]:
    cases = []
    for name in _CONFIGS:
        command = name.removesuffix(".yaml")
        cases += _cases(command, name, _YAML)
    for name in _PARTS:
        command = {"parts": "born-again", "configs": "quickstart"}[name.split("/")[0]]
        cases += _cases(command, name, _YAML)
    for command, model, options in (("translate", "teacher", ()), ("translate", "student", ("--model", "student"))):
        cases += _cases(command, f"{model}/config.json", _CONFIG, *options)
        cases += _cases(command, f"{model}/generation_config.json", _GENERATION, *options)
        cases += _cases(command, f"{model}/model.safetensors", _DAMAGES, *options)
        cases += _cases(command, f"{model}/tokenizer.json", _TOKENIZER, *options)
        cases += _cases(command, f"{model}/tokenizer_config.json", _without(_JSON, "missing"), *options)
    marian = ("--model", "marian", "--source_prefix", ">>deu<< ")
    for name in ("source.spm", "target.spm"):
        cases += _cases("translate", f"marian/{name}", _DAMAGES, *marian)
    cases += _cases("translate", "marian/vocab.json", _JSON, *marian)
    cases += _cases("serve", "teacher/model.safetensors", _DAMAGES)
    cases += _cases("translate", "corpus/test.en", _without(_DAMAGES, "empty", "cut"))
    reranker = ("--model", "student", "--length_beam", "2", "--reranker", "teacher")
    for command in ("evaluate", "tune", "distill", "export"):
        model = {"tune": "student", "export": "student"}.get(command, "teacher")
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            cases += _cases(command, f"{model}/{name}", _DAMAGES)
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
        damages = _without(_DAMAGES, "missing") if name.startswith("generation") else _DAMAGES
        cases += _cases("demo", f"student/{name}", damages)
        cases += _cases("demo", f"teacher/{name}", damages, "--teacher", "teacher")
    for option, model in (("--init_from_teacher", "teacher"), ("--init_from", "student")):
        for name in ("config.json", "model.safetensors"):
            cases += _cases(
                "train", f"{model}/{name}", _DAMAGES, option, model, "--size", "null", "--model_config", "null"
            )
    cases += _cases("train", "tokenizer/tokenizer.json", _TOKENIZER)
    cases += _cases("translate", "teacher/model.safetensors", _DAMAGES, *reranker)
    cases += _cases("translate", "student/model.safetensors", _DAMAGES, "--draft", "student")
    if find_spec("kenlm"):
        language_model = ("--model", "student", "--language_model", "lm.arpa")
        for command in ("translate", "evaluate"):
            cases += _cases(command, "lm.arpa", _ARPA, *language_model)
    for command in ("align", "analyze"):
        cases += _cases(command, "tokenizer/tokenizer.json", _TOKENIZER, "--tokens", "tokenizer")
    cases += _cases(
        "filter", "tokenizer/tokenizer.json", _TOKENIZER, "--tokens", "tokenizer", "--max_length_ratio", "9"
    )
    cases += _cases("recommend", "student/config.json", _without(_CONFIG, "other size"), "--student", "student")
    for command in ("align", "evaluate", "train", "distill", "analyze", "born-again"):
        split = "test" if command == "evaluate" else "train"
        cases += _cases(command, f"corpus/{split}.en", _without(_TEXT, "missing"))
        cases += _cases(command, f"corpus/{split}.en", {"missing": _TEXT["missing"]}, names="{split}.en")
    # What a study scores only at its end.
    for split in ("validation", "test"):
        cases += _cases("born-again", f"corpus/{split}.en", _without(_TEXT, "missing"))
    for command in ("align", "evaluate"):
        for suffix, damages in (("jsonl", _ROWS), ("csv", _TABLE), ("tsv", _TABLE), ("parquet", _DAMAGES)):
            option = "--corpus"
            cases += _cases(command, f"corpus/rows.{suffix}", damages, option, f"corpus/rows.{suffix}")
        cases += _cases(
            command, "corpus/rows.jsonl.gz", _without(_DAMAGES, "binary"), "--corpus", "corpus/rows.jsonl.gz"
        )
    hub = "corpus/hub/data/test-00000-of-00001.parquet"
    cases += _cases("evaluate", hub, _without(_DAMAGES, "missing"), "--corpus", "corpus/hub")
    cases += _cases("filter", "corpus/distilled/manifest.json", _MANIFEST)
    cases += _cases("filter", "corpus/distilled/data/train-00000-of-00001.parquet", _DAMAGES)
    backward = ("--backward_teacher", "teacher", "--worst_backward_score", "0.5")
    cases += _cases("filter", "teacher/model.safetensors", _DAMAGES, *backward)
    cases += _cases("mix", "corpus/distilled/manifest.json", _without(_MANIFEST, "missing", "no shards"))
    cases += _cases("mix", "corpus/train.en", _without(_TEXT, "missing"))
    alone = ("--corpus", "null", "--source", "corpus/train.en")
    cases += _cases("distill", "corpus/train.en", _without(_DAMAGES, "cut"), *alone)
    finished = {"place": "finished"}
    cases += _cases("recommend", "corpus/distilled/measures.json", _MEASURES, **finished)
    for command in ("evaluate", "filter", "analyze", "mix"):
        cases += _cases(command, f"run-{command}/step.json", _STEP, "--output_dir", f"run-{command}", **finished)
    cases += _cases("tune", "student/.tune-length_beam.json", _STEP, **finished)
    cases += _cases("tune", "student/tune-length_beam.json", _TUNED, **finished)
    cases += _cases("calibrate", "student/.calibrate.json", _STEP, **finished)
    confidence = ("--model", "student", "--confidence_output", "confidence.txt")
    cases += _cases("translate", "student/confidence.json", _CONFIDENCE, *confidence, **finished)
    links = ("--real_links", "links.txt", "--distilled_links", "links.txt")
    cases += _cases("analyze", "links.txt", _LINKS, *links)
    cases += _cases("push", "student/config.json", _without(_JSON, "missing"))
    cases += _cases(
        "push",
        "corpus/distilled/manifest.json",
        _without(_MANIFEST, "missing", "no shards"),
        "--folder",
        "corpus/distilled",
    )
    return cases


def _contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def _fails(argv: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that must fail in the one way; returns its line."""
    before = _contents(folder)
    capsys.readouterr()
    status = main(argv)
    errors = capsys.readouterr().err.splitlines()
    lines = [line for line in errors if line.strip() and not _LOGS.match(line.strip())]
    assert status == 2 and len(lines) == 1, (status, errors)
    assert lines[0].startswith(f"hf-nat {argv[0]}: "), lines
    after = _contents(folder)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    assert not changed, (changed, lines)
    return lines[0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a case, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


_TABLE_OF_CASES = _table()


def test_the_table_is_long_enough() -> None:
    assert len(_TABLE_OF_CASES) >= 200 and len({str(case) for case in _TABLE_OF_CASES}) == len(_TABLE_OF_CASES)


@pytest.mark.parametrize("case", _TABLE_OF_CASES, ids=str)
def test_a_damaged_artefact_is_one_line(
    case: Case, place: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    shutil.copytree(request.getfixturevalue(case.place), place, dirs_exist_ok=True)
    file = place / case.file
    data = case.damages[case.damage](file.read_bytes() if file.is_file() else b"")
    if data is None:
        file.unlink(missing_ok=True)
    else:
        file.write_bytes(data)
    line = _fails([case.command, f"{case.command}.yaml", *case.options], place, capsys)
    assert (case.names or file.name) in line, line


@pytest.mark.parametrize("command", [name.removesuffix(".yaml") for name in _CONFIGS])
def test_a_folder_is_no_configuration(command, place, capsys):
    (place / "x.yaml").mkdir()
    assert "x.yaml" in _fails([command, "x.yaml"], place, capsys)


@pytest.mark.parametrize("damage", _YAML)
@pytest.mark.parametrize("study", EXPERIMENTS)
def test_a_damaged_file_of_a_study_is_one_line(study, damage, place, capsys):
    data = _YAML[damage](b"output_dir: run\n")
    if data is not None:
        (place / "study.yaml").write_bytes(data)
    assert "study.yaml" in _fails(["experiment", study, "study.yaml"], place, capsys)


@pytest.mark.parametrize(
    "options", [("--terms", "read.txt"), ("--language_model", "read.txt"), ("--confidence_output", "read.txt")]
)
@pytest.mark.parametrize("name", ["read.txt", "./read.txt", "link.txt"])
def test_an_output_is_no_other_file_of_the_command(name, options, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "read.txt").write_text("dog\thund\n")
    (place / "link.txt").symlink_to("read.txt")
    argv = ["translate", "translate.yaml", "--model", "student", "--output", name, *options]
    line = _fails(argv, place, capsys)
    assert "`read.txt`" in line and " must be " in line and "another name" in line


@pytest.mark.parametrize("value", ["x", 5, [1, 2], [None, "ein hund"], [["ein"]]])
def test_several_targets_are_a_list_of_texts(value, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    file = place / "corpus/distilled/data/train-00000-of-00001.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column("targets", pa.array([value] * len(table))).replace_schema_metadata(), file)
    line = _fails(["train", "train.yaml", "--corpus", "corpus/distilled"], place, capsys)
    assert "`targets` must be a list of texts" in line


@pytest.mark.parametrize("weight", ["0", "-1", ".nan", ".inf", "1e9", "1e300"])
def test_a_weight_must_be_one_that_memory_holds(weight, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    assert "`weights` must be " in _fails(["mix", "mix.yaml", "--weights", weight, "1"], place, capsys)


@pytest.mark.parametrize("command", ["mix", "filter"])
@pytest.mark.parametrize(
    ("column", "value"), [("flags", 1), ("flags", "x"), ("teacher_score", "high"), ("real_target", 3), ("id", "one")]
)
def test_a_column_of_a_distilled_corpus_has_its_type(column, value, command, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    name = "data/train-00000-of-00001.parquet"
    file, manifest = place / "corpus/distilled" / name, place / "corpus/distilled/manifest.json"
    table = pq.read_table(file)
    number = table.column_names.index(column)
    pq.write_table(table.set_column(number, column, pa.array([value] * len(table))).replace_schema_metadata(), file)
    record = json.loads(manifest.read_text())
    write_json(manifest, record | {"shards": record["shards"] | {name: sha256_file(file)}})
    line = _fails([command, f"{command}.yaml"], place, capsys)
    assert f"`{column}` must be a column of " in line and "corpus/distilled" in line


_SAVE = {"format": "pt"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_must_be_finite(value, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    weights = load_file(place / "teacher/model.safetensors")
    weights["model.encoder.layers.0.fc1.weight"][0, 0] = value
    save_file(weights, place / "teacher/model.safetensors", _SAVE)
    line = _fails(["translate", "translate.yaml"], place, capsys)
    assert "model.safetensors" in line and "model.encoder.layers.0.fc1.weight" in line


def test_weights_must_be_all_there(sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    weights = load_file(place / "teacher/model.safetensors")
    del weights["model.encoder.layers.0.fc1.weight"]
    save_file(weights, place / "teacher/model.safetensors", _SAVE)
    assert "model.encoder.layers.0.fc1.weight" in _fails(["translate", "translate.yaml"], place, capsys)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_is_no_file(name, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "teacher" / name).unlink()
    (place / "teacher" / name).mkdir()
    assert name in _fails(["translate", "translate.yaml"], place, capsys)


@pytest.mark.parametrize(
    "options",
    [
        ("translate", "--model", "no/such/model"),
        ("translate", "--model", "teacher/config.json"),
        ("translate", "--model", "student", "--length_beam", "2", "--reranker", "runs/no/such"),
        ("translate", "--model", "student", "--ensemble", "runs/no/such"),
        ("translate", "--draft", "runs/no/such"),
        ("translate", "--model", "student", "--terms", "runs/no/such"),
        ("evaluate", "--draft", "runs/no/such"),
        ("translate", "--model", "student", "--language_model", "runs/no/such"),
        ("evaluate", "--model", "student", "--language_model", "runs/no/such"),
        ("evaluate", "--model", "runs/no/such"),
        ("serve", "--model", "runs/no/such"),
        ("tune", "--model", "runs/no/such"),
        ("distill", "--teacher", "runs/no/such"),
        ("train", "--tokenizer", "runs/no/such"),
        ("train", "--init_from", "runs/no/such", "--size", "null", "--model_config", "null"),
        ("train", "--init_from_teacher", "runs/no/such", "--size", "null", "--model_config", "null"),
        ("train", "--resume_from_checkpoint", "runs/no/such"),
        ("train", "--validation_corpus", "runs/no/such"),
        ("recommend", "--student", "runs/no/such"),
        ("align", "--tokens", "runs/no/such"),
        ("evaluate", "--metrics", "beer", "--beer_model", "runs/no/such"),
        ("demo", "--model", "runs/no/such"),
        ("demo", "--teacher", "runs/no/such"),
        ("born-again", "--teacher_config", "runs/no/such"),
        ("quickstart", "--config_dir", "runs/no/such"),
    ],
    ids="-".join,
)
def test_a_mistyped_path_is_told_and_no_repository_is_asked(options, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    command, *rest = options
    argv = [command, f"{command}.yaml", *rest]
    path = next(text.removeprefix("x=") for text in rest if "/" in text)
    assert path in _fails(argv, place, capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "student", "--length_beam", "2", "--reranker", "student"), "`reranker` must be autoregressive"),
        (("--model", "student", "--length_beam", "2", "--reranker", "other"), "`reranker` must share"),
        (("--model", "student", "--ensemble", "other"), "`ensemble` must agree"),
        (("--draft", "teacher"), "`draft` must be a NAT model"),
        (("--model", "other", "--draft", "student"), "`model` must share the student's vocabulary"),
        (("--model", "student", "--draft", "student"), "`draft` must be left out for a NAT model"),
        (("--draft", "student", "--num_beams", "2"), "`num_beams` must be 1 with `draft`"),
        (("--draft", "student", "--draft_length", "0"), "`draft_length` must be >= 1, got 0"),
        (("--draft", "student", "--draft_tau", "-1"), "`draft_tau` must be >= 0, got -1"),
        (("--draft", "student", "--draft_tau", ".nan"), "`draft_tau` must be a finite number"),
        (("--draft", "student", "--reranker", "teacher"), "`reranker` must be left out"),
        (("--draft", "student", "--eos_penalty", "1"), "must be called with arguments out of"),
        (("--terms", "corpus/rows.tsv"), "`terms` must be left out for an autoregressive model"),
        (("--draft", "student", "--terms", "corpus/rows.tsv"), "`terms` must be left out"),
        (("--model", "student", "--terms", "corpus/test.en"), "a source term, a tab and a target term on each line"),
        (("--draft_beta", "3"), "`draft_beta` must be left out without `draft`"),
        (("--window", "99999999999999999999"), "`window` must be <= "),
        (("--threads", "100000000"), "`threads` must be <= 1024, got 100000000"),
        (("--num_beams", "65"), "`num_beams` must be <= 64, got 65"),
        (("--graph_beam_size", "65"), "`graph_beam_size` must be <= 64, got 65"),
        (("--ctc_beam_size", "0"), "`ctc_beam_size` must be >= 1, got 0"),
        (("--lm_weight", ".inf"), "`lm_weight` must be a finite number, got inf"),
        (("--language_model", "corpus/test.en"), "`language_model` must be left out for an autoregressive model"),
        (("--model", "student", "--max_iterations", "201"), "`max_iterations` must be <= 200, got 201"),
        (("--model", "student", "--length_beam", "0"), "`length_beam` must be >= 1, got 0"),
        (("--length_penalty", ".nan"), "`length_penalty` must be a finite number"),
        (("--model", "marian"), "one of >>deu<<, >>nld<<"),
        (("--model", "marian", "--source_prefix", ">>xyz<< "), "one of >>deu<<, >>nld<<"),
        (("--model_source_lang", "en"), "Languages must be left out"),
    ],
)
def test_options_that_do_not_fit_the_model(options, message, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    assert message in _fails(["translate", "translate.yaml", *options], place, capsys)


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("train", "seed", "-1"),
        ("train", "seed", "4294967296"),
        ("distill", "seed", "-1"),
        ("mix", "seed", "-1"),
        ("mix", "shard_size", "0"),
        ("analyze", "seed", "-1"),
        ("analyze", "num_bootstrap", "-1"),
        ("evaluate", "num_bootstrap", "-1"),
        ("evaluate", "num_bootstrap", "1"),
        ("experiment hmm", "seed", "-1"),
        ("experiment multimodality", "seed", "-1"),
        ("experiment multimodality", "num_bootstrap", "-1"),
    ],
)
def test_a_number_that_fails_at_the_end_is_told_before_any_work(
    command, name, value, sound, place, capsys, monkeypatch
):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    monkeypatch.setattr("hf_nat.decoding.arguments.load_model", lambda *args, **kwargs: pytest.fail("It works."))
    words = [*command.split(), "--output_dir=run"] if " " in command else [command, f"{command}.yaml"]
    if "multimodality" in words:
        models = {model: {"config": f"parts/{model}.yaml"} for model in ("teacher", "student")}
        words += ["--distill_config=parts/distill.yaml", f"--models={json.dumps(models)}", "--target_langs", *"abc"]
    assert f"`{name}` must be " in _fails([*words, f"--{name}={value}"], place, capsys)


@pytest.mark.parametrize("option", ["--init_from", "--init_from_teacher"])
def test_a_start_of_another_vocabulary_is_told_with_both_sizes(option, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    argv = ["train", "train.yaml", option, "other", "--size", "null", "--model_config", "null"]
    line = _fails(argv, place, capsys)
    sizes = len(json.loads((place / "tokenizer/tokenizer.json").read_text())["model"]["vocab"]), 20
    assert f"{sizes[0]} tokens" in line and f"{sizes[1]} embeddings" in line


def test_a_tokenizer_of_another_model_is_told_with_both_sizes(sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    shutil.copytree(place / "tokenizer", place / "other", dirs_exist_ok=True)
    for argv in (
        ["translate", "translate.yaml", "--model", "other"],
        ["distill", "distill.yaml", "--teacher", "other"],
    ):
        assert "20 embeddings" in _fails(argv, place, capsys)


_WRITERS = [
    *("train", "distill", "filter", "mix", "evaluate", "analyze", "recommend", "export", "toy", "quickstart"),
    *("born-again", "demo"),
]


@pytest.mark.parametrize("there", ["a file", "a link to nothing", "a corpus", "a run"])
@pytest.mark.parametrize("command", _WRITERS)
def test_an_output_folder_of_something_else_is_left_as_it_is(command, there, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    # The quickstart has a folder for each of its steps.
    folder = place / ("run/corpus" if command == "quickstart" and there == "a corpus" else "run")
    if there == "a file":
        folder.write_text("mine")
    elif there == "a link to nothing":
        (place / "run").symlink_to("nowhere")
    elif there == "a corpus":
        shutil.copytree(place / "corpus/hub", folder)
        (folder / "README.md").write_text("mine")
    else:
        folder = folder / "teacher" if command == "quickstart" else folder
        shutil.copytree(place / "student", folder)
    assert "run" in _fails([command, f"{command}.yaml"], place, capsys)


def test_a_demonstration_shows_a_student_beside_a_teacher(sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    assert "`model` must be non-autoregressive" in _fails(["demo", "demo.yaml", "--model", "teacher"], place, capsys)
    line = _fails(["demo", "demo.yaml", "--teacher", "student"], place, capsys)
    assert "`teacher` must be autoregressive" in line


_EVIL = """
from pathlib import Path

from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

with open({mark!r}, "a") as file:
    file.write("x")


class Config(MarianConfig):
    model_type = "evil"


class Model(MarianMTModel):
    config_class = Config


class Tokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def evil(sound: Path, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies the sound folder, and makes a model and a tokenizer that bring code; returns the file that it writes."""
    shutil.copytree(sound, place, dirs_exist_ok=True)
    mark = tmp_path_factory.mktemp("mark") / "mark"
    for name in ("evil", "evil_tokenizer"):
        shutil.copytree(place / "teacher", place / name)
        (place / name / "evil.py").write_text(_EVIL.format(mark=str(mark)))
    config = json.loads((place / "evil/config.json").read_text())
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForSeq2SeqLM": "evil.Model"}
    write_json(place / "evil/config.json", config | {"model_type": "evil", "auto_map": auto_map})
    path = place / "evil_tokenizer/tokenizer_config.json"
    classes = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}}
    write_json(path, json.loads(path.read_text()) | classes)
    return mark


@pytest.mark.parametrize(
    "argv",
    [
        ("translate", "--model", "evil"),
        ("translate", "--model", "evil_tokenizer"),
        ("translate", "--model", "student", "--length_beam", "2", "--reranker", "evil"),
        ("translate", "--model", "student", "--ensemble", "evil"),
        ("translate", "--draft", "evil"),
        ("evaluate", "--model", "evil"),
        ("tune", "--model", "evil"),
        ("distill", "--teacher", "evil"),
        ("distill", "--teacher", "evil_tokenizer"),
        ("train", "--tokenizer", "evil_tokenizer"),
        ("train", "--init_from", "evil", "--size", "null", "--model_config", "null"),
        ("train", "--init_from_teacher", "evil", "--size", "null", "--model_config", "null"),
        ("recommend", "--student", "evil"),
        ("align", "--tokens", "evil_tokenizer"),
        ("analyze", "--tokens", "evil_tokenizer"),
    ],
    ids="-".join,
)
def test_code_of_a_checkpoint_is_never_run_nor_asked_for(argv, evil, place, capsys, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda prompt="": pytest.fail(f"asked: {prompt}"))
    command, *options = argv
    line = _fails([command, f"{command}.yaml", *options], place, capsys)
    assert "trust_remote_code" in line and not evil.exists()


def test_code_that_is_trusted_is_run_and_recorded(evil, place):
    assert main(["evaluate", "evaluate.yaml", "--model", "evil", "--trust_remote_code"]) == 0
    assert evil.exists()
    metrics = json.loads((place / "run/metrics.json").read_text())
    assert metrics["remote_code"] == {"evil.py": sha256_file(place / "evil/evil.py")}
    options = ["--teacher", "evil", "--trust_remote_code", "--output_dir", "distilled"]
    assert main(["distill", "distill.yaml", *options]) == 0
    manifest = json.loads((place / "distilled/manifest.json").read_text())
    assert manifest["remote_code"] == metrics["remote_code"]


class _Pickled:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_weights_are_never_unpickled(evil, place, capsys):
    (place / "teacher/model.safetensors").unlink()
    torch.save({"model.shared.weight": _Pickled(evil)}, place / "teacher/pytorch_model.bin")
    assert "pytorch_model.bin" in _fails(["translate", "translate.yaml"], place, capsys)
    assert not evil.exists()

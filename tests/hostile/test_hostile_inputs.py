"""Every command on every damaged artefact that it reads: status 2, one line that names it, and nothing touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile.places import CONFIGS, PARTS, fails

from hf_nat.experiments.registry import EXPERIMENTS


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
_ARPA["negative count"] = lambda data: data.replace(b"ngram 1=4", b"ngram 1=-4")
_LINKS = {
    **_without(_DAMAGES, "cut"),
    "words": lambda data: b"a b c\n" * 72,
    "too few": lambda data: b"0-0\n",
    "too many": lambda data: b"0-0\n" * 73,
    "out of the sentence": lambda data: b"0-0 9-9\n" * 72,
}


def _table() -> list[Case]:
    cases = []
    for name in CONFIGS:
        command = name.removesuffix(".yaml")
        cases += _cases(command, name, _YAML)
    for name in PARTS:
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
    cases += _cases("language-model", "ctc/.language-model.json", _STEP, **finished)
    cases += _cases("language-model", "ctc/tokenizer.json", _TOKENIZER)
    cases += _cases("language-model", "corpus/train.de", _without(_TEXT, "missing"))
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
    line = fails([case.command, f"{case.command}.yaml", *case.options], place, capsys)
    assert (case.names or file.name) in line, line


@pytest.mark.parametrize("command", [name.removesuffix(".yaml") for name in CONFIGS])
def test_a_folder_is_no_configuration(command, place, capsys):
    (place / "x.yaml").mkdir()
    assert "x.yaml" in fails([command, "x.yaml"], place, capsys)


@pytest.mark.parametrize("damage", _YAML)
@pytest.mark.parametrize("study", EXPERIMENTS)
def test_a_damaged_file_of_a_study_is_one_line(study, damage, place, capsys):
    data = _YAML[damage](b"output_dir: run\n")
    if data is not None:
        (place / "study.yaml").write_bytes(data)
    assert "study.yaml" in fails(["experiment", study, "study.yaml"], place, capsys)

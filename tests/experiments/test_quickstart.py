"""The quickstart's table of speeds holds every system whose package is there, and names the others."""

from __future__ import annotations

import sys

import pytest
from nat_model_tester import save, tiny_student

from hf_nat.experiments import quickstart


def test_speeds_of_what_is_installed(tmp_path, copy_teacher, tiny_tokenizer, monkeypatch) -> None:
    student = tiny_student("vanilla_nat", tiny_tokenizer, max_position_embeddings=64)
    for name, model in (("teacher", copy_teacher), ("student", student)):
        save(tmp_path / name, model, tiny_tokenizer)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(quickstart, "NUM_TIMED", 2)
    pytest.importorskip("ctranslate2")
    places = (tmp_path / "teacher", tmp_path / "student", ["a dog runs", "hello"], tmp_path)
    speeds, absent = quickstart.measure_speeds(*places)
    timed = ["teacher, transformers greedy", "teacher, CTranslate2 int8 greedy", "student, torch"]
    assert [speed.name for speed in speeds] == timed
    assert all(speed.ms_per_sentence > 0 and speed.sentences_per_second > 0 for speed in speeds)
    (line,) = absent
    assert line.startswith("student, ONNX Runtime int8: An export needs onnxscript, which is not installed")
    assert not (tmp_path / "student_onnx/README.md").exists()
    monkeypatch.setitem(sys.modules, "hf_nat.distillation.ct2", None)
    assert any("ctranslate2 is not installed" in line for line in quickstart.measure_speeds(*places)[1])

"""Options that have no effect with the others, and inputs that are missing behind sound ones: told before any work."""

from __future__ import annotations

import json
import shutil

import pytest
from hostile.places import fails

from hf_nat_cli import main


_OLD = "corpus/{split}.{lang}"


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("evaluate", ("--config_name", "x"), "`config_name` must be left out for plain files, got 'x'"),
        ("train", ("--config_name", "x"), "`config_name` must be left out for plain files"),
        ("distill", ("--config_name", "x"), "`config_name` must be left out for plain files"),
        ("tune", ("--config_name", "x"), "`config_name` must be left out for plain files"),
        ("analyze", ("--config_name", "x"), "`config_name` must be left out for plain files"),
        ("align", ("--config_name", "x"), "`config_name` must be left out for plain files"),
        ("align", ("--config_name", "x", "--corpus", "corpus/rows.csv"), "must be left out for plain files"),
        ("align", ("--config_name", "x", "--corpus", "corpus/rows.parquet"), "must be left out for plain files"),
        ("mix", ("--corpora", f"a={_OLD}#x"), "`config_name` must be left out for plain files"),
        ("train", ("--validation_corpus", f"{_OLD}#x"), "`config_name` must be left out for plain files"),
        ("distill", ("--corpus", "null", "--source", "corpus/train.en", "--config_name", "x"), "for plain files"),
        ("distill", ("--corpus_revision", "v1"), "A revision must be left out for a corpus that is here, got 'v1'"),
        ("distill", ("--corpus_revision", "v1", "--corpus", "corpus/hub"), "A revision must be left out"),
        ("distill", ("--teacher_revision", "v1"), "A revision must be left out for a folder, got 'v1'"),
        ("distill", ("--corpus", "null", "--source", "corpus/train.en", "--test_split", "x"), "`test_split` must be"),
        ("distill", ("--top_k", "3"), "`top_k` must be left out where nothing is drawn by top-k, got 3"),
        ("distill", ("--strategy", "top-k", "--top_p", "0.5"), "`top_p` must be left out where nothing is drawn"),
        ("distill", ("--strategy", "mbr", "--utility_options", "{a: 1}"), "for the utility 'chrf'"),
        ("evaluate", ("--training_split", "x"), "`training_split` must be left out without `training_corpus`"),
        ("evaluate", ("--beer_model", "teacher"), "`beer_model` must be left out without the metric `beer`"),
        ("evaluate", ("--length_penalty", "0.6"), "`length_penalty` must be left out without a beam, got 0.6"),
        ("translate", ("--model", "student", "--length_penalty", "0.6"), "`length_penalty` must be left out"),
        ("translate", ("--draft", "student", "--draft_tau", "2"), "`draft_tau` must be left out where `draft_beta`"),
        ("translate", ("--lm_weight", "0.5"), "`lm_weight` must be left out without `language_model`"),
        ("translate", ("--graph_decoding", "beam", "--viterbi_length_penalty", "2"), "with `graph_decoding: beam`"),
        ("translate", ("--graph_decoding", "greedy", "--graph_beam_size", "2"), "with `graph_decoding: greedy`"),
        ("translate", ("--ctc_beam_size", "1", "--ctc_length_bonus", "1"), "`ctc_length_bonus` must be left out"),
        ("train", ("--layer_selection", "last"), "`layer_selection` must be left out without `init_from_teacher`"),
        ("train", ("--init_from", "student", "--model_type", "ctc_nat", "--size", "null", "--model_config", "null"),
         "`model_type` must be that of `init_from`, cmlm, got 'ctc_nat'"),
        ("train", ("--validation_split", "null", "--max_validation_samples", "2"), "must be left out without valid"),
        ("filter", ("--backward_prefix", "x"), "`backward_prefix` must be left out without `backward_teacher`"),
        ("filter", ("--max_batch_tokens", "9"), "`max_batch_tokens` must be left out without `backward_teacher`"),
        ("filter", ("--tokens", "moses"), "`tokens` must be left out where none of"),
        ("export", ("--quantize_embeddings", "false"), "`quantize_embeddings` must be left out without `quantize`"),
        ("export", ("--reduce_range", "true"), "`reduce_range` must be left out without `quantize`"),
        ("export", ("--source_lang", "en"), "`source_lang` must be left out without `shortlist`"),
        ("export", ("--target_lang", "de"), "`target_lang` must be left out without `references` and `shortlist`"),
        ("serve", ("--source_lang", "en"), "`source_lang` must be left out without `shortlist`, got 'en'"),
        ("tune", ("--shortlist_best", "9"), "`shortlist_best` must be left out without `shortlist`, got 9"),
        ("calibrate", ("--shortlist_frequent", "9"), "`shortlist_frequent` must be left out without `shortlist`"),
        ("demo", ("--port", "8000"), "`port` must be left out with `space_dir`, got 8000"),
        ("demo", ("--max_batch_tokens", "9"), "`max_batch_tokens` must be left out for a page, got 9"),
        ("demo", ("--share",), "`share` must be left out with `space_dir`"),
        ("recommend", ("--proxy_samples", "5"), "`proxy_samples` must be left out without `proxy_updates`, got 5"),
        ("recommend", ("--proxy_seeds", "5"), "`proxy_seeds` must be left out without `proxy_updates`"),
        ("push", ("--folder", "corpus/distilled", "--repo_id", "null", "--local_dir", "x", "--commit_message", "x"),
         "`commit_message` must be left out with `local_dir`"),
        ("push", ("--folder", "corpus/distilled", "--repo_id", "null", "--local_dir", "x", "--private", "false"),
         "`private` must be left out with `local_dir`"),
        ("filter", ("--backward_teacher", "teacher", "--columns", "backward_score", "--model_source_lang", "en"),
         "`model_source_lang` must be left out for `teacher`, a model of one pair of languages"),
        ("born-again", ("--student_config", "null", "--student_options", "{seed: 2}"), "without `student_config`"),
    ],
    ids=str,
)  # fmt: skip
def test_an_option_without_effect_is_told(command, options, message, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    assert message in fails([command, f"{command}.yaml", *options], place, capsys)


def test_tokens_that_measured_candidates_do_not_have_are_told(finished, place, capsys):
    shutil.copytree(finished, place, dirs_exist_ok=True)
    line = fails(["recommend", "recommend.yaml", "--tokens", "tokenizer"], place, capsys)
    assert "`tokens` must be left out, or those of `corpus/distilled/measures.json`, 'space'" in line


@pytest.mark.parametrize("value", ["x", [1]])
def test_measures_that_are_there_are_read_before_others_are_made(value, finished, place, capsys, monkeypatch):
    shutil.copytree(finished, place, dirs_exist_ok=True)
    shutil.copytree(place / "corpus/distilled", place / "unmeasured")
    (place / "unmeasured/measures.json").unlink()
    measures = json.loads((place / "corpus/distilled/measures.json").read_text())
    measures["settings"]["seed"] = value
    (place / "corpus/distilled/measures.json").write_text(json.dumps(measures))
    monkeypatch.setattr("hf_nat.steps.analyze.analyze", lambda *args: pytest.fail("One is measured."))
    argv = ["recommend", "recommend.yaml", "--corpus", _OLD, "--candidates", "unmeasured"]
    assert "must hold `seed` as int" in fails(argv, place, capsys)


def test_a_configuration_is_that_of_the_corpus_and_not_of_files_to_validate_on(sound, place):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    argv = ["train", "train.yaml", "--corpus", "corpus/hub", "--config_name", "default", "--validation_split", "test"]
    assert main([*argv, "--validation_corpus", _OLD]) == 0


@pytest.mark.parametrize("missing", ["a folder", "its rows"])
def test_a_later_candidate_is_looked_for_before_the_first_is_measured(missing, sound, place, capsys, monkeypatch):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    if missing == "its rows":
        shutil.copytree(place / "corpus/distilled", place / "gone")
        (place / "gone/data/train-00000-of-00001.parquet").unlink()
    monkeypatch.setattr("hf_nat.steps.analyze.analyze", lambda *args: pytest.fail("One is measured."))
    argv = ["recommend", "recommend.yaml", "--corpus", _OLD, "--candidates", "gone", "--tokens", "space"]
    assert "gone" in fails(argv, place, capsys)


def test_what_the_proxies_need_is_looked_for_before_anything_is_measured(sound, place, capsys, monkeypatch):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    monkeypatch.setattr("hf_nat.steps.analyze.analyze", lambda *args: pytest.fail("One is measured."))
    text = (place / "train.yaml").read_text().replace("tokenizer: tokenizer", "tokenizer: runs/no/such")
    (place / "train.yaml").write_text(text)
    argv = ["recommend", "recommend.yaml", "--corpus", _OLD, "--proxy_updates", "1"]
    assert "runs/no/such" in fails(argv, place, capsys)


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        ("student", "validation_corpus: runs/no/such\n"),
        ("student", "init_from_teacher: runs/no/such\nsize: null\nmodel_config: null\n"),
        ("distill", "ensemble: [runs/no/such]\n"),
        ("distill", "strategy: rerank\nbackward_teacher: runs/no/such\n"),
        ("distill", "strategy: rerank\nquality: runs/no/such.py:f\n"),
    ],
)
@pytest.mark.parametrize("study", ["born-again", "matrix"])
def test_what_a_study_reads_late_is_looked_for_before_its_first_training(
    part, lines, study, sound, place, capsys, monkeypatch
):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    monkeypatch.setattr("hf_nat.steps.train.train", lambda *args: pytest.fail("One is trained."))
    file = place / f"parts/{part}.yaml"
    own = {line.split(":")[0] for line in lines.splitlines()}
    kept = [line for line in file.read_text().splitlines() if line.split(":")[0] not in own]
    file.write_text("\n".join([*kept, lines]))
    argv = ["born-again", "born-again.yaml"]
    if study == "matrix":
        settings = {
            "output_dir": "run",
            "distill_config": "parts/distill.yaml",
            "teachers": {"t": {"config": "parts/teacher.yaml"}},
            "corpora": {"c": {"teacher": "t"}},
            "students": {"s": {"config": "parts/student.yaml"}},
        }
        (place / "study.yaml").write_text(json.dumps(settings))
        argv = ["experiment", "decoding", "study.yaml"]
    if study == "born-again" and "init_from_teacher" in lines:
        pytest.skip("There it is the first teacher of the study, whatever the file says.")
    assert "runs/no/such" in fails(argv, place, capsys)

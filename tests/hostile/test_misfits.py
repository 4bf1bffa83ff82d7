"""Options, columns and models that do not fit each other: one line, before any work, and nothing touched."""

from __future__ import annotations

import importlib
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile.places import fails
from safetensors.torch import load_file, save_file

from hf_nat.base.utils import sha256_file, write_json


@pytest.mark.parametrize(
    "options", [("--terms", "read.txt"), ("--language_model", "read.txt"), ("--confidence_output", "read.txt")]
)
@pytest.mark.parametrize("name", ["read.txt", "./read.txt", "link.txt"])
def test_an_output_is_no_other_file_of_the_command(name, options, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "read.txt").write_text("dog\thund\n")
    (place / "link.txt").symlink_to("read.txt")
    argv = ["translate", "translate.yaml", "--model", "student", "--output", name, *options]
    line = fails(argv, place, capsys)
    assert "`read.txt`" in line and " must be " in line and "another name" in line


@pytest.mark.parametrize("value", ["x", 5, [1, 2], [None, "ein hund"], [["ein"]]])
def test_several_targets_are_a_list_of_texts(value, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    file = place / "corpus/distilled/data/train-00000-of-00001.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column("targets", pa.array([value] * len(table))).replace_schema_metadata(), file)
    line = fails(["train", "train.yaml", "--corpus", "corpus/distilled"], place, capsys)
    assert "`targets` must be a list of texts" in line


@pytest.mark.parametrize("weight", ["0", "-1", ".nan", ".inf", "1e9", "1e300"])
def test_a_weight_must_be_one_that_memory_holds(weight, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    assert "`weights` must be " in fails(["mix", "mix.yaml", "--weights", weight, "1"], place, capsys)


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
    line = fails([command, f"{command}.yaml"], place, capsys)
    assert f"`{column}` must be a column of " in line and "corpus/distilled" in line


@pytest.mark.parametrize(("column", "kind", "value"), [("id", pa.uint64(), 2**64 - 1), ("rank", pa.int64(), 2**40)])
def test_a_column_of_a_distilled_corpus_holds_its_numbers(column, kind, value, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    table = pq.read_table(place / "corpus/rows.parquet")
    pq.write_table(table.append_column(column, pa.array([value] * len(table), kind)), place / "rows.parquet")
    line = fails(["mix", "mix.yaml", "--corpora", "mine=rows.parquet"], place, capsys)
    assert "The columns of `mine` must hold what their types" in line and "Rename or drop" in line


_SAVE = {"format": "pt"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_must_be_finite(value, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    weights = load_file(place / "teacher/model.safetensors")
    weights["model.encoder.layers.0.fc1.weight"][0, 0] = value
    save_file(weights, place / "teacher/model.safetensors", _SAVE)
    line = fails(["translate", "translate.yaml"], place, capsys)
    assert "model.safetensors" in line and "model.encoder.layers.0.fc1.weight" in line


def test_weights_must_be_all_there(sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    weights = load_file(place / "teacher/model.safetensors")
    del weights["model.encoder.layers.0.fc1.weight"]
    save_file(weights, place / "teacher/model.safetensors", _SAVE)
    assert "model.encoder.layers.0.fc1.weight" in fails(["translate", "translate.yaml"], place, capsys)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("encoder_layers", 0, "`model.encoder.layers.0."),
        ("decoder_layers", -1, "`model.decoder.layers.0."),
        ("encoder_layers", 2, "there is no weight `model.encoder.layers.1."),
        ("d_model", 16, "has the shape [8], but a model like this [16]"),
        ("vocab_size", 99, "has the shape ["),
    ],
)
def test_weights_must_be_those_of_the_configuration(key, value, named, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    path = place / "teacher/config.json"
    write_json(path, json.loads(path.read_text()) | {key: value})
    line = fails(["translate", "translate.yaml"], place, capsys)
    assert "`teacher/model.safetensors` by its `config.json`" in line and named in line


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"dropout": 5}),
        ("config.json", {"is_encoder_decoder": False}),
        *(
            ("generation_config.json", {name: value})
            for name, value in (
                *(
                    ("repetition_penalty", -1),
                    ("bad_words_ids", [[10**6]]),
                    ("bad_words_ids", "x"),
                    ("stop_strings", "x"),
                ),
                *(("begin_suppress_tokens", "a"), ("constraints", 3), ("guidance_scale", 3), ("penalty_alpha", 0.5)),
                *(("forced_eos_token_id", -5), ("prompt_lookup_num_tokens", 3)),
            )
        ),
    ],
    ids=str,
)
def test_settings_that_generate_refuses_are_told_with_their_place(file, changes, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    write_json(place / "teacher" / file, json.loads((place / "teacher" / file).read_text()) | changes)
    line = fails(["translate", "translate.yaml"], place, capsys)
    assert "teacher" in line and "generation_config.json" in line


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_is_no_file(name, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "teacher" / name).unlink()
    (place / "teacher" / name).mkdir()
    assert name in fails(["translate", "translate.yaml"], place, capsys)


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
    assert path in fails(argv, place, capsys)


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
        (("--draft", "student", "--eos_penalty", "1"), "`eos_penalty` must be left out for CMLM"),
        (("--model", "student", "--ctc_beam_size", "2"), "`ctc_beam_size` must be left out for CMLM"),
        (("--model", "student", "--reranker", "teacher"), "A `reranker` must have at least 2 candidates"),
        (("--terms", "corpus/rows.tsv"), "`terms` must be left out for an autoregressive model"),
        (("--draft", "student", "--terms", "corpus/rows.tsv"), "`terms` must be left out"),
        (("--model", "student", "--terms", "corpus/test.en"), "a source term, a tab and a target term on each line"),
        (("--draft_beta", "3"), "`draft_beta` must be left out without `draft`"),
        (("--window", "99999999999999999999"), "`window` must be >= 1 and <= "),
        (("--threads", "100000000"), "`threads` must be >= 1 and <= 1024, got 100000000"),
        (("--num_beams", "65"), "`num_beams` must be >= 1 and <= 64, got 65"),
        (("--graph_beam_size", "65"), "`graph_beam_size` must be >= 1 and <= 64, got 65"),
        (("--ctc_beam_size", "0"), "`ctc_beam_size` must be >= 1 and <= 64, got 0"),
        (("--lm_weight", ".inf"), "`lm_weight` must be a finite number >= 0 and <= 100, got inf"),
        (("--lm_weight", "-0.1"), "`lm_weight` must be >= 0 and <= 100, got -0.1"),
        (("--ctc_length_bonus", "1e308"), "`ctc_length_bonus` must be >= -100 and <= 100, got 1e+308"),
        (("--eos_penalty", "-101"), "`eos_penalty` must be >= -100 and <= 100, got -101.0"),
        (("--max_length_ratio", "0"), "`max_length_ratio` must be > 0, got 0.0"),
        (("--language_model", ""), "`language_model` must not be empty, got ''. Write null for none."),
        (("--model", "student", "--terms="), "`terms` must not be empty, got ''."),
        (("--model", "student", "--ensemble", "other", ""), "`ensemble` must not be empty, got"),
        (("--language_model", "corpus/test.en"), "`language_model` must be left out for an autoregressive model"),
        (("--model", "student", "--max_iterations", "201"), "`max_iterations` must be >= 1 and <= 200, got 201"),
        (("--model", "student", "--length_beam", "0"), "`length_beam` must be >= 1 and <= 64, got 0"),
        (("--length_penalty", ".nan"), "`length_penalty` must be a finite number"),
        (("--model", "marian"), "one of >>deu<<, >>nld<<"),
        (("--model", "marian", "--source_prefix", ">>xyz<< "), "one of >>deu<<, >>nld<<"),
        (("--model_source_lang", "en"), "Languages must be left out"),
    ],
)
def test_options_that_do_not_fit_the_model(options, message, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    assert message in fails(["translate", "translate.yaml", *options], place, capsys)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("evaluate", "output_dir"),
        ("evaluate", "corpus"),
        ("distill", "output_dir"),
        ("distill", "license"),
        ("analyze", "output_dir"),
        ("filter", "corpus"),
        ("mix", "corpora"),
        ("train", "tokenizer"),
        ("translate", "model"),
        ("align", "tokens"),
    ],
)
def test_a_name_that_no_record_can_hold_is_told_before_the_work(command, option, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    name = os.fsdecode(b"caf\xe9")
    shutil.copytree(place / "teacher", place / name)
    line = fails([command, f"{command}.yaml", f"--{option}", name], place, capsys)
    assert f"`{option}` must be Unicode text" in line


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
        ("analyze", "num_bootstrap", "1"),
        ("analyze", "num_bootstrap", "1000000000000"),
        ("evaluate", "num_bootstrap", "1000000000000"),
        ("train", "max_steps", "0"),
        ("train", "max_steps", "-7"),
        ("train", "max_grad_norm", "-1"),
        *(("train", f"{name}_steps", value) for name in ("save", "logging", "eval") for value in (".inf", ".nan")),
        *(("train", "pad_to_multiple_of", value) for value in ("0", "-1", "99999999999999999999")),
        *(("train", f"adam_{name}", "-1") for name in ("beta1", "beta2", "epsilon")),
        ("train", "adam_beta1", "1"),
        ("train", "logging_steps", "-1"),
        ("train", "min_train_epochs", "-1"),
        ("train", "dataloader_num_workers", "-1"),
        ("analyze", "num_words", "0"),
        ("recommend", "proxy_seeds", "-1"),
        ("recommend", "proxy_seeds", "4294967296"),
        ("analyze", "num_examples", "-1"),
        ("distill", "length_penalty", "1e30"),
        ("distill", "max_batch_tokens", "99999999999999999999"),
        ("evaluate", "length_penalty", "1e30"),
        ("translate", "length_penalty", "-1e30"),
        ("translate", "viterbi_length_penalty", "1e30"),
        ("translate", "graph_beam_length_penalty", "1e30"),
        ("train", "max_grad_norm", ".nan"),
        ("train", "weight_decay", ".inf"),
        ("train", "lr_scheduler_kwargs", "{a: 1}"),
        ("align", "device", "cuda:99"),
        ("align", "device", "zz"),
        ("demo", "port", "-1"),
        ("filter", "min_score", ".nan"),
        ("filter", "max_copy_rate", ".nan"),
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
    assert f"`{name}` must be " in fails([*words, f"--{name}={value}"], place, capsys)


@pytest.mark.parametrize("option", ["--init_from", "--init_from_teacher"])
def test_a_start_of_another_vocabulary_is_told_with_both_sizes(option, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    argv = ["train", "train.yaml", option, "other", "--size", "null", "--model_config", "null"]
    line = fails([*argv, "--model_type", "marian"], place, capsys)
    sizes = len(json.loads((place / "tokenizer/tokenizer.json").read_text())["model"]["vocab"]), 20
    assert f"{sizes[0]} tokens" in line and f"{sizes[1]} embeddings" in line


def test_a_tokenizer_of_another_model_is_told_with_both_sizes(sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    shutil.copytree(place / "tokenizer", place / "other", dirs_exist_ok=True)
    for argv in (
        ["translate", "translate.yaml", "--model", "other"],
        ["distill", "distill.yaml", "--teacher", "other"],
    ):
        assert "20 embeddings" in fails(argv, place, capsys)


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
    line = fails([command, f"{command}.yaml"], place, capsys)
    assert "run" in line and ("A Space needs a new folder" if command == "demo" else "`output_dir`") in line


def test_the_quickstart_finds_another_distilled_corpus_before_it_trains(sound, place, capsys, monkeypatch):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    shutil.copytree(place / "corpus/hub", place / "run/distilled")
    monkeypatch.setattr("hf_nat.steps.train.train", lambda *args: pytest.fail("One is trained."))
    assert "run/distilled" in fails(["quickstart", "quickstart.yaml"], place, capsys)


@pytest.mark.parametrize("command", ["distill", "filter", "mix"])
def test_a_new_corpus_is_made_outside_of_the_old_one(command, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "link").symlink_to("corpus/distilled")
    corpus = ("--corpora", "a=corpus/distilled") if command == "mix" else ("--corpus", "corpus/distilled")
    for output in ("corpus/distilled/new/run", "link/run", "corpus/../corpus/distilled/data/run"):
        line = fails([command, f"{command}.yaml", *corpus, "--output_dir", output], place, capsys)
        assert f"`output_dir` must lie outside of what is read, got '{output}' in 'corpus/distilled'" in line


@pytest.mark.parametrize("output", ["student/onnx", "student/graphs/x"])
def test_graphs_are_made_outside_of_their_model(output, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    line = fails(["export", "export.yaml", "--output_dir", output], place, capsys)
    assert f"`output_dir` must lie outside of what is read, got '{output}' in 'student'" in line


def test_a_graph_has_knobs_of_its_model_alone(sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    line = fails(["export", "export.yaml", "--graph_decoding", "greedy"], place, capsys)
    assert "`graph_decoding` must be left out for CMLM" in line


@pytest.mark.parametrize("name", ["a/b", "..", "../../x", "/tmp", "corpus/.."])
@pytest.mark.parametrize("command", ["analyze", "recommend", "mix"])
def test_the_name_of_a_corpus_is_that_of_a_folder(command, name, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    option = {"analyze": "--distilled", "recommend": "--candidates", "mix": "--corpora"}[command]
    line = fails([command, f"{command}.yaml", option, f"{name}=corpus/distilled"], place, capsys)
    assert f"must be those of files, without `/`, got {name!r}" in line


@pytest.mark.parametrize("command", ["tune", "calibrate"])
def test_nothing_is_learned_from_a_blank_split_and_nothing_is_left(command, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    (place / "student/generation_config.json").unlink()
    (place / "blank.jsonl").write_text('{"translation": {"en": " ", "de": "x"}}\n' * 3)
    assert "blank" in fails([command, f"{command}.yaml", "--corpus", "blank.jsonl"], place, capsys)


@pytest.mark.parametrize("value", [".inf", ".nan", "1.5"])
def test_values_of_a_knob_are_numbers_that_it_can_have(value, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    assert "`values` of `length_beam` must be" in fails(["tune", "tune.yaml", "--values", value], place, capsys)


def test_a_split_without_a_name_is_told(sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    for command in ("distill", "mix"):
        line = fails([command, f"{command}.yaml", "--train_split", ""], place, capsys)
        assert "`train_split` must not be empty, got ''. Leave it out." in line


@pytest.mark.parametrize("command", [["quickstart", "quickstart.yaml"], ["experiment", "claims"]])
def test_a_report_is_not_written_beside_a_model(command, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    line = fails([*command, "--output_dir", "student"], place, capsys)
    assert "`output_dir` must be new or empty, or hold an earlier result of this command alone, got `student`" in line


@pytest.mark.parametrize("size", ["0", "-3", "99999999999999999999"])
def test_the_size_of_a_toy_corpus(size, place, capsys):
    assert f"got {size}" in fails(["toy", "--output_dir", "run", "--train", size], place, capsys)


def test_a_folder_of_something_else_is_told_before_all_of_it_is_read(place, capsys, monkeypatch):
    (place / "deep/er").mkdir(parents=True)
    push = importlib.import_module("hf_nat.hub.push")  # Not the function of this name, which hides it.
    monkeypatch.setattr(push, "require_plain_files", lambda *args: pytest.fail("all is read"))
    assert "`folder` must hold a model" in fails(["push", "--folder", ".", "--repo_id", "a/b"], place, capsys)


def test_a_demonstration_shows_a_student_beside_a_teacher(sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    assert "`model` must be non-autoregressive" in fails(["demo", "demo.yaml", "--model", "teacher"], place, capsys)
    line = fails(["demo", "demo.yaml", "--teacher", "student"], place, capsys)
    assert "`teacher` must be autoregressive" in line

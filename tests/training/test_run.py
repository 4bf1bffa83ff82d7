import logging
import shutil
from functools import partial
from itertools import count

import pytest
import torch
from killing import dies_before_change
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

from hf_nat.base.folders import remove_leftovers
from hf_nat.base.utils import read_json, write_json
from hf_nat.data.corpora import load_corpus
from hf_nat.data.toy import generate_toy_corpus
from hf_nat.decoding import load_model, translate
from hf_nat.models import marian_config, new_teacher
from hf_nat.steps import Train
from hf_nat.training.averaging import average_checkpoints, list_checkpoints
from hf_nat.training.run import _tokenizer
from hf_nat.training.sampler import TokenBatchSampler
from hf_nat.training.trainer import NATSeq2SeqTrainer


STUDENTS = ("vanilla_nat", "levenshtein_transformer", "flowseq")


def losses(run_dir):
    history = read_json(run_dir / "trainer_state.json")["log_history"]
    return {
        log["step"]: {name: value for name, value in log.items() if name.startswith("loss")}
        for log in history
        if "loss" in log
    }


@pytest.mark.parametrize("model_type", ("marian", "ctc_nat", *STUDENTS))
def test_run_leaves_a_loadable_folder_with_its_numbers(tiny_run, tmp_path, model_type):
    metrics = tiny_run(model_type=model_type, eval_strategy="steps", eval_steps=6)
    folder = tmp_path / "run"
    model, tokenizer = load_model(folder)
    assert model.config.model_type == model_type
    assert model.config.vocab_size == len(tokenizer)
    assert metrics == read_json(folder / "metrics.json")
    assert metrics["num_updates"] == 12
    assert 0 <= metrics["eval_bleu"] <= 100
    assert "tok:moses" in metrics["eval_bleu_signature"]
    evaluations = [log for log in read_json(folder / "trainer_state.json")["log_history"] if "eval_bleu" in log]
    curve = [(point["epoch"], point["eval_bleu"]) for point in metrics["validation"]]
    # The last evaluation is of the weights that were kept.
    assert curve == [(log["epoch"], log["eval_bleu"]) for log in evaluations[:-1]] != []
    assert ("share_infeasible" in metrics) == (model_type == "ctc_nat")
    arguments = read_json(folder / "run.json")["arguments"]
    assert (arguments["model_type"], arguments["max_tokens"], arguments["seed"]) == (model_type, 200, 42)
    assert len(translate(model, tokenizer, ["a b", ""])) == 2


@pytest.mark.parametrize("model_type", STUDENTS)
def test_loss_components_are_logged_and_add_up(tiny_run, tmp_path, model_type):
    tiny_run(model_type=model_type, max_steps=4, gradient_accumulation_steps=2)
    logs = losses(tmp_path / "run")
    assert len(logs) == 4
    for log in logs.values():
        assert len(log) > 2
        assert sum(log.values()) == pytest.approx(2 * log["loss"], abs=1e-3)


def kill_after(step, run_dir):
    """Makes a finished run look like one that was killed once it had written checkpoint `step`."""
    for path in run_dir.iterdir():
        if path.name.startswith("checkpoint-") and int(path.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(path)
    for name in ("model.safetensors", "config.json", "generation_config.json", "metrics.json", "trainer_state.json"):
        (run_dir / name).unlink(missing_ok=True)
    record = read_json(run_dir / "step.json")
    write_json(run_dir / "step.json", record | {"finished": False})


def made(run_dir):
    """Returns the bytes of what a run leaves for its users, and its records without times."""
    names = ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
    times = ("train_seconds", "target_tokens_per_second", "environment")
    history = read_json(run_dir / "trainer_state.json")["log_history"]
    return (
        {name: (run_dir / name).read_bytes() for name in names},
        {key: value for key, value in read_json(run_dir / "metrics.json").items() if key not in times},
        [
            {k: v for k, v in log.items() if not k.endswith(("runtime", "per_second", "flos", "loss/train"))}
            for log in history
        ],
    )


GLANCING = {"glancing_ratio": 0.5, "glancing_end_ratio": 0.1, "glancing_steps": 12}


@pytest.mark.parametrize(
    ("model_type", "step", "fields"),
    [
        *((name, 6, {}) for name in ("marian", "moe_marian", "ctc_nat", *STUDENTS)),
        pytest.param("flowseq", 12, {}, marks=pytest.mark.slow),
        ("ctc_nat", 6, GLANCING),
    ],
)
def test_resumed_run_ends_with_the_bytes_and_records_of_the_uninterrupted_one(
    run_keys, tiny_run, tmp_path, monkeypatch, caplog, model_type, step, fields
):
    """Killed between two log lines, or after the last update: in its final evaluation or while it saves."""
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    options = {
        "model_type": model_type,
        "max_tokens": 800,
        "logging_steps": 4,
        "eval_strategy": "steps",
        "eval_steps": 6,
    }
    if fields:
        options["model_config"] = run_keys(whole, **options)["model_config"] | fields
    tiny_run(whole, **options)
    assert read_json(whole / "trainer_state.json")["epoch"] > 1
    shutil.copytree(whole, resumed)
    kill_after(step, resumed)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    tiny_run(resumed, **options)
    assert "in the checkpoint model loaded" not in caplog.text
    assert made(resumed) == made(whole)


@pytest.mark.parametrize(
    "options", ({"load_best_model_at_end": True, "metric_for_best_model": "bleu"}, {"average_checkpoints": 2})
)
def test_killed_final_evaluation_keeps_the_choice_of_weights(tiny_run, tmp_path, options):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    options = {**options, "eval_strategy": "steps", "eval_steps": 6}
    tiny_run(whole, **options)
    shutil.copytree(whole, resumed)
    kill_after(12, resumed)
    for path in resumed.glob("checkpoint-*/trainer_state.json"):
        path.write_text(path.read_text().replace(str(whole), str(resumed)))
    tiny_run(resumed, **options)
    assert made(resumed)[0] == made(whole)[0]


def test_run_that_stopped_early_stays_stopped(tiny_run, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    options = {
        "metric_for_best_model": "bleu",
        "early_stopping_patience": 1,
        "early_stopping_threshold": 200.0,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_steps": 3,
    }
    assert tiny_run(whole, **options)["num_updates"] == 6
    shutil.copytree(whole, resumed)
    kill_after(6, resumed)
    assert tiny_run(resumed, **options)["num_updates"] == 6
    assert made(resumed)[0] == made(whole)[0]


def test_accumulation_gives_the_gradient_of_the_whole_batch(tiny_run, tmp_path):
    """Loss per token over accumulated batches, however unequal: two half budgets are not simply averaged."""
    tiny_run(
        tmp_path / "half",
        model_config={"d_model": 16, "dropout": 0.0, "max_position_embeddings": 64},
        gradient_accumulation_steps=2,
    )
    reported = losses(tmp_path / "half")
    # At the start every token costs about ln V; a sum that is not divided would be twice that.
    assert reported[1]["loss"] == pytest.approx(torch.log(torch.tensor(120.0)).item(), rel=0.1)


def test_the_same_run_again_does_nothing(tiny_run, tmp_path):
    tiny_run(max_steps=6)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")}
    tiny_run(max_steps=6)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("save_strategy", ("steps", "no"))
def test_another_run_in_the_folder_is_refused(tiny_run, tmp_path, toy_corpus, save_strategy):
    keys = {"max_steps": 2, "save_steps": 2, "save_strategy": save_strategy}
    tiny_run(**keys)
    other = generate_toy_corpus(tmp_path / "other", sizes={"train": 400, "validation": 20, "test": 20})
    before = (tmp_path / "run/model.safetensors").read_bytes()
    for changes, field in [
        ({"max_steps": 8}, "max_steps"),
        ({"seed": 7}, "seed"),
        ({"model_type": "vanilla_nat"}, "model_type"),
        ({"vocab_size": 110}, "vocab_size"),
        ({"model_config": {"d_model": 32, "max_position_embeddings": 64}}, "model_config.d_model"),
        ({"corpus": str(other)}, "corpus.train"),
        ({"source_lang": "tgt", "target_lang": "src"}, "source_lang"),
        ({"resume_from_checkpoint": "last", "seed": 7}, "seed"),
    ]:
        with pytest.raises(ValueError, match=rf"`.*{field}.*` must be the same in every run into .*it was .*, got "):
            tiny_run(**{**keys, **changes})
    moved = shutil.copytree(toy_corpus, tmp_path / "moved")
    tiny_run(**keys, corpus=str(moved))
    assert (tmp_path / "run/model.safetensors").read_bytes() == before


def test_a_run_that_failed_leaves_no_tokenizer_to_another(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="`split` must be one of"):
        tiny_run(validation_split="nowhere")
    assert not (tmp_path / "run/tokenizer.json").exists()
    assert tiny_run(max_steps=1)["num_updates"] == 1


def test_a_run_killed_while_it_wrote_its_tokenizer_goes_on(run_keys, tmp_path):
    folder = tmp_path / "run"
    step = Train.from_config(**run_keys(folder))
    work = partial(_tokenizer, step.model, step.data, step.training)
    vocabulary, names = work().get_vocab(), {path.name for path in folder.iterdir()}
    for number in count(1):
        shutil.rmtree(folder)
        if not dies_before_change(number, folder, work):
            break
        assert work().get_vocab() == vocabulary
        remove_leftovers(folder)
        assert {path.name for path in folder.iterdir()} == names
    assert number > len(names)


def test_folder_of_something_else_is_refused(tiny_run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"must be new, empty, or hold the step.json .* with thesis.tex"):
        tiny_run()


def test_last_without_a_checkpoint_starts_from_scratch(tiny_run):
    assert tiny_run(max_steps=2, resume_from_checkpoint="last")["num_updates"] == 2


def test_where_only_models_are_saved_a_killed_run_starts_anew(tiny_run, tmp_path):
    whole = tiny_run(tmp_path / "whole", save_only_model=True)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    kill_after(6, tmp_path / "run")
    again = tiny_run(save_only_model=True)
    assert again["num_updates"] == whole["num_updates"] == 12
    assert made(tmp_path / "run")[0] == made(tmp_path / "whole")[0]


def test_checkpoint_of_another_run_is_an_input(tiny_run, tmp_path):
    tiny_run(tmp_path / "other", max_steps=6)
    start = {"resume_from_checkpoint": str(tmp_path / "other/checkpoint-6")}
    assert tiny_run(**start, max_steps=18)["num_updates"] == 18
    before = made(tmp_path / "run")[0]
    kill_after(12, tmp_path / "run")
    # Its own checkpoint comes before the one that it began with, which would write this one anew.
    written = (tmp_path / "run/checkpoint-12/model.safetensors").stat().st_mtime_ns
    assert tiny_run(**start, max_steps=18)["num_updates"] == 18
    assert (tmp_path / "run/checkpoint-12/model.safetensors").stat().st_mtime_ns == written
    assert made(tmp_path / "run")[0] == before
    with pytest.raises(ValueError, match=r"`checkpoint.*` must be the same in every run"):
        tiny_run(max_steps=18)


def test_model_that_a_run_starts_from_brings_its_tokenizer(tiny_run, tmp_path):
    tiny_run(tmp_path / "teacher", max_steps=1)
    for start in ("init_from", "init_from_teacher"):
        model_type = "marian" if start == "init_from" else "cmlm"
        folder = tmp_path / start
        tiny_run(
            folder,
            **{start: str(tmp_path / "teacher")},
            model_type=model_type,
            model_config={},
            max_steps=1,
            vocab_size=90,
        )
        assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "teacher/tokenizer.json").read_bytes()


def test_score_that_chooses_must_be_taken(tiny_run):
    with pytest.raises(ValueError, match="`metric_for_best_model: bleu` must come with `bleu_on_eval: true`"):
        tiny_run(metric_for_best_model="bleu", bleu_on_eval=False)


def test_foreign_and_damaged_checkpoints_are_left_alone(tiny_run, tmp_path):
    tiny_run()
    folder = tmp_path / "run"
    kill_after(12, folder)
    (folder / "checkpoint-best").mkdir()
    (folder / "checkpoint-12/trainer_state.json").write_text("{")
    assert [path.name for path in list_checkpoints(folder)] == ["checkpoint-6"]
    assert tiny_run()["num_updates"] == 12


@pytest.mark.parametrize("learning_rate", (1e30,))
def test_a_loss_that_is_not_finite_ends_the_run(tiny_run, tmp_path, learning_rate):
    with pytest.raises(ValueError, match=r"The (loss|weights) must be finite, got .* after update \d+\. .*checkpoint"):
        tiny_run(learning_rate=learning_rate, warmup_steps=0, save_steps=1)
    for checkpoint in list_checkpoints(tmp_path / "run"):
        assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / "model.safetensors").values())


def test_weights_that_the_last_update_loses_are_not_saved(tiny_run, tmp_path):
    with pytest.raises(
        ValueError, match=r"The weights must be finite, got .* after update 1\. There is no checkpoint"
    ):
        tiny_run(learning_rate=1e39, warmup_steps=0, max_steps=1, save_strategy="no")
    assert not (tmp_path / "run/model.safetensors").exists()


def test_rows_beyond_the_positions_are_refused_before_training(tiny_run, tmp_path):
    config = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 6}
    with pytest.raises(ValueError, match=r"at most the 6 tokens that the model has positions for, got one of \d+\."):
        tiny_run(model_config=config)
    assert not (tmp_path / "run").exists(), "what was mended can be run again in the folder"
    assert tiny_run(max_steps=1)["num_updates"] == 1


@pytest.mark.parametrize("model_type", ("marian", "cmlm"))
def test_unknown_fields_of_a_model_are_refused(tiny_run, model_type):
    with pytest.raises(ValueError, match="must (hold|be) fields of .*got .*'?dropuot"):
        tiny_run(model_type=model_type, model_config={"dropuot": 0.1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"init_from_teacher": "a", "size": "nano", "model_type": "cmlm"},
            "`size` must be left out with `init_from_teacher`",
        ),
        ({"init_from": "a", "size": "nano"}, "`size` must be left out with `init_from`"),
        (
            {"init_from_teacher": "a", "size": None, "model_type": "moe_marian"},
            "`init_from_teacher` must be left out for a mixture",
        ),
        ({"output_dir": None}, "`output_dir` must be given"),
    ],
)
def test_keys_that_would_be_ignored_are_refused(run_keys, changes, message):
    with pytest.raises(ValueError, match=message):
        Train.from_config(**{**run_keys("run"), **changes})


def test_a_run_goes_on_from_a_checkpoint_with_another_loss(tiny_run, tmp_path):
    config = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    tiny_run(model_type="vanilla_nat", model_config=config, max_steps=2, output_dir=str(tmp_path / "first"))
    changes = {"order_agnostic": True, "order_agnostic_margin": 0.15, "glancing_ratio": 0.5}
    start = {"init_from": str(tmp_path / "first"), "model_type": "vanilla_nat", "size": None}
    tiny_run(**start, model_config=changes, max_steps=1)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run")
    assert model.config.order_agnostic and model.config.d_model == 16 and model.glancing.num_batches == 1
    for other, message in (({"dropuot": 0.1}, "must hold fields of .*got 'dropuot'"), ({"d_model": 32}, "first")):
        with pytest.raises(ValueError, match=message):
            tiny_run(**start, model_config=other, max_steps=1, output_dir=str(tmp_path / "third"))


def test_going_on_with_a_model_without_bos_gives_it_no_id_beyond_its_vocabulary(tiny_run, toy_corpus, tmp_path):
    """As those of OPUS-MT are, whose tokenizers have neither BOS nor mask."""
    words = {word for pair in load_corpus(toy_corpus, source_lang="src", target_lang="tgt")["translation"][:]
             for text in pair.values() for word in text.split()}  # fmt: skip
    vocabulary = {token: number for number, token in enumerate(["</s>", "<unk>", *sorted(words), "<pad>"])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    own = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )
    special = {"pad_token_id": own.pad_token_id, "eos_token_id": 0, "bos_token_id": None}
    config = marian_config("nano", vocab_size=len(own), max_position_embeddings=64, **special)
    for saved in (new_teacher(config), own):
        saved.save_pretrained(tmp_path / "opus")
    tiny_run(init_from=str(tmp_path / "opus"), model_config=None, max_steps=1)
    for folder in (tmp_path / "run", tmp_path / "run/checkpoint-1"):
        assert read_json(folder / "config.json")["bos_token_id"] is None
        model, tokenizer = load_model(folder)
        assert model.config.vocab_size == len(own) < len(tokenizer)
        assert len(translate(model, tokenizer, [next(iter(words))])) == 1


def test_averaged_weights_are_the_mean_of_the_last_checkpoints(tiny_run, tmp_path):
    tiny_run(save_steps=4, average_checkpoints=2)
    folder = tmp_path / "run"
    expected = average_checkpoints(list_checkpoints(folder)[-2:])
    saved = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
    assert [path.name for path in list_checkpoints(folder)[-2:]] == ["checkpoint-8", "checkpoint-12"]
    assert all(torch.equal(saved[name], expected[name]) for name in expected)


def test_best_checkpoints_are_averaged_by_the_metric(tiny_run, tmp_path):
    tiny_run(
        save_steps=4,
        eval_strategy="steps",
        eval_steps=4,
        metric_for_best_model="loss",
        average_checkpoints=1,
        average_by="best",
        learning_rate=0.5,
    )
    folder = tmp_path / "run"
    history = read_json(folder / "trainer_state.json")["log_history"]
    values = {log["step"]: log["eval_loss"] for log in history if "eval_loss" in log and log["step"] in (4, 8, 12)}
    best = min(values, key=values.get)
    expected = average_checkpoints([folder / f"checkpoint-{best}"])
    saved = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(saved[name], expected[name]) for name in expected)


@pytest.mark.parametrize("average_by", ["best", "last"])
def test_checkpoints_that_are_averaged_outlive_the_others(tiny_run, tmp_path, average_by):
    """The rate grows, so that the first checkpoints are the best."""
    options = {"save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}
    options |= {"average_checkpoints": 2, "average_by": average_by, "learning_rate": 0.5}
    tiny_run(tmp_path / "all", **options)
    tiny_run(tmp_path / "few", save_total_limit=3, **options)
    every, few = (read_json(tmp_path / name / "metrics.json")["weights_of"] for name in ("all", "few"))
    assert few == every and len(few) == 2
    assert {*few} <= {path.name for path in list_checkpoints(tmp_path / "few")}
    assert len(list_checkpoints(tmp_path / "few")) == 3
    weights = [AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name).state_dict() for name in ("all", "few")]
    assert all(torch.equal(one, other) for one, other in zip(*(of.values() for of in weights), strict=True))


@pytest.mark.parametrize(
    ("model_type", "most"), [("marian", 8), ("cmlm", 8), ("levenshtein_transformer", 7), ("flowseq", 8)]
)
def test_sentences_longer_than_the_positions_are_an_error_before_training(
    tiny_run, toy_corpus, tmp_path, model_type, most
):
    """Training pairs beyond the limits are left out, those of validation are cut to them."""
    positions = 8 if model_type != "flowseq" else 9  # of which units of two fill eight
    fields = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": positions}
    fields |= {"flow_steps": [1, 1]} if model_type == "flowseq" else {}
    options = {"model_type": model_type, "model_config": fields, "max_steps": 1, "bleu_on_eval": False}
    options |= {"eval_strategy": "epoch", "save_strategy": "no"}
    with pytest.raises(ValueError, match=f"A source must have at most the {positions} tokens that the model has"):
        tiny_run(max_source_length=positions + 1, max_target_length=most, **options)
    with pytest.raises(ValueError, match=f"A target must have at most the {most} tokens that the model has"):
        tiny_run(max_source_length=positions, max_target_length=most + 1, **options)
    tiny_run(max_source_length=positions, max_target_length=most, **options)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"d_model": "wide"}, "`model_config` must hold values that the configuration takes: .*d_model"),
        ({"d_model": 0}, "`d_model` must be >= 1, got 0|must hold values"),
        ({"encoder_layers": 0}, "`encoder_layers` must be >= 1, got 0"),
        ({"dropout": 3.0}, r"`dropout` must be in \[0, 1\], got 3.0"),
        ({"activation_function": "foo"}, "`activation_function` must be one of"),
        ({"pad_token_id": 7}, "`model_config` must leave out `pad_token_id`: the tokenizer decides it"),
        ({"vocab_size": 7}, "`vocab_size` must be >= the .* of the tokenizer, got 7"),
    ],
)
@pytest.mark.parametrize("model_type", ["marian", "cmlm"])
@pytest.mark.parametrize("has_teacher", [False, True])
def test_fields_that_no_model_can_have_are_named(tiny_run, tmp_path, model_type, fields, rule, has_teacher):
    start = {"size": "nano"}
    if has_teacher:
        tiny_run(tmp_path / "teacher", max_steps=1, save_strategy="no")
        start = {"init_from_teacher": str(tmp_path / "teacher"), "size": None}
    with pytest.raises(ValueError, match=rule):
        tiny_run(tmp_path / "student", model_type=model_type, model_config=fields, **start)


def test_label_smoothing_of_a_run_goes_before_that_of_the_checkpoint(tiny_run, tmp_path):
    tiny_run(tmp_path / "first", model_type="cmlm", label_smoothing=0.3, max_steps=1)
    options = {"init_from": str(tmp_path / "first"), "size": None, "model_config": None, "max_steps": 1}
    tiny_run(tmp_path / "second", label_smoothing=0.0, **options)
    assert AutoConfig.from_pretrained(tmp_path / "second").label_smoothing == 0.0


def test_an_unknown_metric_is_an_error_before_training(tiny_run):
    with pytest.raises(ValueError, match=r"`metric_for_best_model` must be one of \['loss', 'bleu'\], got 'foo'"):
        tiny_run(eval_strategy="epoch", metric_for_best_model="foo")


def test_processes_without_a_batch_are_an_error(tiny_run, monkeypatch):
    monkeypatch.setattr(TokenBatchSampler, "__len__", lambda self: 0)
    with pytest.raises(ValueError, match="must leave a batch for each of 1 processes, got 0 of 200 tokens"):
        tiny_run()


def test_a_set_of_its_own_has_no_bleu(tiny_run, monkeypatch):
    found = {}

    def evaluate(self, *args, **kwargs):
        found.update(original(self, self.train_dataset.select(range(3)), metric_key_prefix="own"))
        return original(self, *args, **kwargs)

    original = NATSeq2SeqTrainer.evaluate
    monkeypatch.setattr(NATSeq2SeqTrainer, "evaluate", evaluate)
    assert "eval_bleu" in tiny_run(bleu_on_eval=True, max_steps=1)
    assert "own_loss" in found and "own_bleu" not in found


@pytest.mark.parametrize("model_type", ("marian", "moe_marian"))
def test_student_starts_from_its_teacher(tiny_run, tmp_path, model_type):
    tiny_run(tmp_path / "teacher", model_type=model_type, max_steps=2)
    tiny_run(
        tmp_path / "student",
        model_type="vanilla_nat",
        model_config=None,
        init_from_teacher=str(tmp_path / "teacher"),
        tokenizer=str(tmp_path / "teacher"),
        max_steps=1,  # of a warm-up that starts at 0
        save_strategy="no",
    )
    teacher, student = (AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name) for name in ("teacher", "student"))
    name = "model.encoder.layers.0.self_attn.q_proj.weight"
    assert torch.equal(student.state_dict()[name], teacher.state_dict()[name])
    vocab_size = len(AutoTokenizer.from_pretrained(tmp_path / "teacher"))
    assert student.config.vocab_size == vocab_size
    assert torch.equal(student.model.shared.weight, teacher.model.shared.weight[:vocab_size])


def test_at_student_of_another_depth_starts_from_its_teacher(tiny_run, tmp_path):
    tiny_run(tmp_path / "teacher", max_steps=1)
    tiny_run(
        tmp_path / "student",
        model_config={"encoder_layers": 3, "decoder_layers": 1},
        init_from_teacher=str(tmp_path / "teacher"),
        tokenizer=str(tmp_path / "teacher"),
        max_steps=1,  # of a warm-up that starts at 0
        save_strategy="no",
    )
    student = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "student")
    assert (student.config.encoder_layers, student.config.decoder_layers, student.config.d_model) == (3, 1, 16)
    teacher = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "teacher").state_dict()
    for layer in range(3):
        name = "model.encoder.layers.{}.self_attn.q_proj.weight"
        assert torch.equal(student.state_dict()[name.format(layer)], teacher[name.format(0)])


def test_seed_decides_the_initial_weights(tiny_run, tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        torch.rand(3)  # what came before must not matter
        # The one update of a warm-up that starts at 0.
        tiny_run(tmp_path / name, max_steps=1, save_strategy="no", seed=seed)
    one, same, other = (
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name).state_dict()["model.encoder.layers.0.fc1.weight"]
        for name in ("one", "same", "other")
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_unknown_model_type_lists_the_choices(tiny_run):
    known = r"\['marian', 'cmlm', .*, 'vanilla_nat'\]"
    with pytest.raises(ValueError, match=f"`model_type` must be one of {known}, got 'bert'"):
        tiny_run(model_type="bert")


def test_two_starts_are_refused(tiny_run):
    with pytest.raises(ValueError, match="got init_from='a' and init_from_teacher='b'"):
        tiny_run(init_from="a", init_from_teacher="b")


def test_tokenizer_is_loadable_without_the_package(tiny_run, tmp_path):
    tiny_run(max_steps=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert tokenizer("ba").input_ids[-1] == tokenizer.eos_token_id == 2


@pytest.mark.parametrize("model_type", [*STUDENTS, "ctc_nat", "da_transformer"])
def test_validation_keeps_no_logits(run_keys, tmp_path, monkeypatch, model_type):
    """For its loss: a batch of canvases times the vocabulary would be the largest tensor of a run."""
    trainer_class, kept = NATSeq2SeqTrainer, []
    compute_loss = trainer_class.compute_loss

    def watched(self, model, *args, **kwargs):
        result = compute_loss(self, model, *args, **kwargs)
        if not model.training:
            kept.append(result[1].logits)
        return result

    monkeypatch.setattr(trainer_class, "compute_loss", watched)
    Train.from_config(**run_keys(tmp_path / "run", model_type=model_type, max_steps=1)).run()
    assert kept and all(logits is None for logits in kept)


def test_pairs_that_do_not_fit_are_reported(tiny_run, tmp_path):
    glancing = {"glancing_ratio": 0.5, "upsample_ratio": 2, "d_model": 16, "max_position_embeddings": 128}
    metrics = tiny_run(model_type="ctc_nat", max_steps=4, gradient_accumulation_steps=2, model_config=glancing)
    assert 0 < metrics["eval_share_infeasible"] < 1
    history = read_json(tmp_path / "run/trainer_state.json")["log_history"]
    logs = [log for log in history if "loss" in log]
    assert len(logs) == 4
    for name in ("infeasible", "glanced", "correct"):
        assert all(0 <= log[f"share_{name}"] <= 1 for log in logs)
        assert any(log[f"share_{name}"] for log in logs) or name == "correct"
    assert (
        metrics["eval_share_infeasible"] == [log["eval_share_infeasible"] for log in history if "eval_loss" in log][-1]
    )

"""What a command tells a model of the languages: the same keys in all, also by their old names."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from hf_nat.base.config import load_config, resolve
from hf_nat.data.pretrained import (
    hub_commit,
    load_pretrained_model,
    load_pretrained_tokenizer,
    remote_code,
    require_vocabulary,
)
from hf_nat.decoding import DecodingArguments, LoadingArguments, load_model, translate
from hf_nat.decoding.loading import check_source_prefix
from hf_nat.distillation import DistillArguments
from hf_nat.steps.fingerprints import model_fingerprint


_PLACES = {"corpus": "c", "source_lang": "en", "target_lang": "de", "teacher": "t", "output_dir": "o"}


@pytest.mark.parametrize("arguments", [DecodingArguments, DistillArguments])
def test_every_command_has_the_keys(arguments):
    assert {field.name for field in fields(LoadingArguments)} <= {field.name for field in fields(arguments)}


def test_old_names_of_the_keys_are_understood_everywhere(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in _PLACES.items()) + "teacher_source_lang: eng_Latn\n")
    (args,) = load_config((DistillArguments,), [str(path), "--teacher-target-lang", "deu_Latn"])
    assert args.input_options == {"model_source_lang": "eng_Latn", "model_target_lang": "deu_Latn"}
    (args,) = resolve((DistillArguments,), path, overrides={"teacher_source_lang": "fra_Latn"})
    assert args.model_source_lang == "fra_Latn"
    path.write_text(path.read_text() + "model_source_lang: deu_Latn\n")
    (args,) = load_config((DistillArguments,), [str(path)])
    assert args.model_source_lang == "deu_Latn"


def test_what_a_model_is_told_is_recorded_and_no_option_of_decoding(copy_teacher):
    decoding = DecodingArguments(source_prefix="two ", trust_remote_code=True)
    assert decoding.options(copy_teacher) == {"num_beams": 1} and decoding.input_options == {"source_prefix": "two "}
    assert decoding.generate_kwargs(copy_teacher)["source_prefix"] == "two "


def test_a_prefix_of_unknown_pieces_is_refused(tiny_tokenizer):
    check_source_prefix(tiny_tokenizer, "two ")
    check_source_prefix(tiny_tokenizer, None)
    with pytest.raises(
        ValueError, match="`source_prefix` must be text that the model's tokenizer knows, got '>>ß<< '"
    ):
        check_source_prefix(tiny_tokenizer, ">>ß<< ")


def test_a_sound_checkpoint_loads_as_it_was(copy_teacher, tiny_tokenizer, tmp_path):
    copy_teacher.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model, tokenizer = load_model(tmp_path, device="cpu")
    assert translate(model, tokenizer, ["hello"]) == translate(copy_teacher, tiny_tokenizer, ["hello"])
    assert load_pretrained_tokenizer(tmp_path).get_vocab() == tiny_tokenizer.get_vocab()


def test_weights_in_shards_are_looked_at_each(copy_teacher, tmp_path):
    copy_teacher.save_pretrained(tmp_path, max_shard_size="5KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1 and load_pretrained_model(tmp_path).num_parameters() == copy_teacher.num_parameters()
    shards[1].write_bytes(shards[1].read_bytes()[:-8])
    with pytest.raises(ValueError, match=f"`.*{shards[1].name}` must be whole weights"):
        load_pretrained_model(tmp_path)
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match=f"{shards[1].name}`, but there is no such file"):
        load_pretrained_model(tmp_path)


def test_a_bias_that_forbids_tokens_may_be_infinite(copy_teacher, tmp_path):
    copy_teacher.save_pretrained(tmp_path)
    model = load_pretrained_model(tmp_path)
    model.final_logits_bias[0, 3] = -torch.inf
    model.save_pretrained(tmp_path)
    assert load_pretrained_model(tmp_path).final_logits_bias[0, 3] == -torch.inf


def test_a_kernel_of_the_hub_is_foreign_code(copy_teacher, tmp_path):
    copy_teacher.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("{", '{"attn_implementation": "someone/kernel",', 1))
    with pytest.raises(ValueError, match="config.json`: .*trust_remote_code"):
        load_pretrained_model(tmp_path)


def test_more_embeddings_than_tokens_fit_and_fewer_do_not(copy_teacher, tiny_tokenizer, tmp_path):
    copy_teacher.save_pretrained(tmp_path)
    model = load_pretrained_model(tmp_path)
    size = len(tiny_tokenizer)
    model.resize_token_embeddings(size + 8)
    require_vocabulary(model, tiny_tokenizer)
    model.resize_token_embeddings(size - 1)
    with pytest.raises(
        ValueError, match=f"`x` must have .* which has {size} tokens, .* `y` has {size - 1} embeddings"
    ):
        require_vocabulary(model, tiny_tokenizer, "x", "y")


def test_files_from_the_hub_are_looked_at_too(copy_teacher, tiny_tokenizer, tmp_path, monkeypatch):
    """A cache as the Hub's client leaves it; nothing is asked of the Hub."""
    commit = "0" * 40
    snapshot = tmp_path / f"models--some--model/snapshots/{commit}"
    (tmp_path / "models--some--model/refs").mkdir(parents=True)
    (tmp_path / "models--some--model/refs/main").write_text(commit)
    copy_teacher.save_pretrained(snapshot)
    tiny_tokenizer.save_pretrained(snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for revision in (None, commit):
        _, tokenizer = load_model("some/model", device="cpu", revision=revision)
        assert len(tokenizer) == len(tiny_tokenizer) and hub_commit("some/model", revision) == commit
        assert model_fingerprint("some/model", revision) == remote_code("some/model", revision) == {"commit": commit}
    (snapshot / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"generation_config.json` must be JSON"):
        load_model("some/model", device="cpu")
    with pytest.raises(OSError, match="`model` must be a folder here or a repository of the Hub, but there is no "):
        load_model("some/other", device="cpu")


def test_an_exported_model_is_taken_from_the_revision_that_is_asked_for(tmp_path, monkeypatch):
    from hf_nat.data import locations
    from hf_nat.decoding import loading

    asked = {}

    def download(name, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(locations, "snapshot_download", download)
    monkeypatch.setattr(loading, "load_exported", lambda folder, **options: folder)
    monkeypatch.setattr(loading, "load_tokenizer", lambda folder, **options: (folder, options["revision"]))
    loaded = loading.load_model("someone/exported-model", backend="onnx", revision="v1")
    assert loaded == (tmp_path, (tmp_path, None))
    assert (asked["name"], asked["revision"]) == ("someone/exported-model", "v1") and "onnx/*" in asked["patterns"]

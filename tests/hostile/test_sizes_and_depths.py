"""Numbers that would fill memory, and paths that are deeper than a system or a library takes: one line, at once."""

from __future__ import annotations

import json
import shutil

import pytest
from hostile.places import INTO_MODEL, fails
from safetensors.torch import load_file
from torch import save

from hf_nat.base.utils import write_json


_SIZES = [
    *(("encoder_layers", 10**7), ("decoder_layers", 10**7), ("d_model", 10**9), ("vocab_size", 10**12)),
    *(("max_position_embeddings", 10**12), ("encoder_ffn_dim", 10**15), ("decoder_attention_heads", 10**9)),
]


@pytest.mark.parametrize(("key", "value"), _SIZES)
@pytest.mark.parametrize(
    ("model", "command", "options"),
    [
        ("teacher", "translate", ()),
        ("student", "translate", ("--model", "student")),
        ("student", "recommend", ("--student", "student")),
        ("teacher", "train", ("--init_from_teacher", "teacher", "--size", "null", "--model_config", "null")),
    ],
    ids=str,
)
def test_a_size_that_no_model_has_is_told_before_one_is_built(
    key, value, model, command, options, sound, place, capsys
):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    path = place / model / "config.json"
    write_json(path, json.loads(path.read_text()) | {key: value})
    line = fails([command, f"{command}.yaml", *options], place, capsys)
    assert f"{model}/config.json" in line and f"`{key}` must be <= " in line and f"got {value}" in line


@pytest.mark.parametrize("form", ["no weights", "pickled tensors", "shards"])
def test_layers_are_counted_whatever_form_the_weights_have(form, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    folder = place / "student"
    write_json(folder / "config.json", json.loads((folder / "config.json").read_text()) | {"encoder_layers": 10**7})
    weights = folder / "model.safetensors"
    if form == "shards":
        names = list(load_file(weights))
        weights.rename(folder / "model-1.safetensors")
        write_json(
            folder / "model.safetensors.index.json", {"weight_map": dict.fromkeys(names, "model-1.safetensors")}
        )
    elif form == "pickled tensors":
        save(load_file(weights), folder / "pytorch_model.bin")
        weights.unlink()
    else:
        weights.unlink()
    line = fails(["recommend", "recommend.yaml", "--student", "student"], place, capsys)
    assert "`encoder_layers` must be <= " in line and "got 10000000" in line


def test_a_size_of_a_training_is_one_that_a_model_can_have(sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    argv = ["train", "train.yaml", "--model_config", "{encoder_layers: 10000000}"]
    assert "`encoder_layers` must be <= 1000" in fails(argv, place, capsys)


_DEEP = "/".join(["a"] * 2000)
_LONG = "x" * 300
_PATHS = [
    *(("train", name) for name in ("corpus", "validation_corpus", "tokenizer", "output_dir")),
    *(("distill", name) for name in ("corpus", "teacher", "output_dir", "ensemble")),
    *(("filter", name) for name in ("corpus", "output_dir")),
    *(("mix", name) for name in ("corpora", "output_dir")),
    *(("translate", name) for name in ("model", "input", "output", "reranker", "draft")),
    *(("evaluate", name) for name in ("model", "corpus", "output_dir", "training_corpus", "modules")),
    *(("align", name) for name in ("corpus", "output_file", "tokens")),
    *(("analyze", name) for name in ("real", "distilled", "real_links", "tokens", "output_dir")),
    *(("recommend", name) for name in ("student", "candidates", "output_dir")),
    *(("export", name) for name in ("model", "output_dir", "sentences")),
    *(("demo", name) for name in ("model", "teacher", "space_dir")),
    *((command, "model") for command in (*INTO_MODEL, "serve")),
    *(("push", "folder"), ("toy", "output_dir")),
    *(("quickstart", "config_dir"), ("quickstart", "output_dir")),
    *(("born-again", "teacher_config"), ("born-again", "output_dir")),
]


@pytest.mark.parametrize("path", [f"{_DEEP}/{_DEEP}", f"/{_DEEP}/{_DEEP}", _LONG], ids=["deep", "absolute", "long"])
@pytest.mark.parametrize(("command", "option"), _PATHS)
def test_a_path_that_the_system_does_not_take_is_one_line(command, option, path, sound, place, capsys):
    shutil.copytree(sound, place, dirs_exist_ok=True)
    own = ["--corpus", "corpus/{split}.{lang}"] if command == "recommend" else []
    line = fails([command, f"{command}.yaml", *own, f"--{option}", path], place, capsys)
    assert path[:200] in line


def test_a_folder_of_a_thousand_parents_is_made_and_goes_again(place, capsys):
    """As deep as the system takes: libraries that call themselves for each parent would not."""
    assert "File name too long" in fails(["toy", "--output_dir", f"{_DEEP}/{'b' * 80}"], place, capsys)

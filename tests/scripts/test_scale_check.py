"""The check of WMT14's size measures what it says; as a whole it runs in the slow tier."""

from __future__ import annotations

import gzip
import importlib
import itertools
import random
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from hf_nat.base.utils import read_json, write_json


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    return importlib.import_module("scale_check")


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """The command line for small models on real and distilled targets, and for one that is no training."""
    folder = tmp_path / "configs"
    folder.mkdir()
    for name in ("vanilla_nat_real", "vanilla_nat_distilled", "cmlm_real", "flowseq_real", "distill_base"):
        keys = yaml.safe_load((ROOT / "configs/wmt14" / f"{name}.yaml").read_text(encoding="utf-8"))
        if "model_type" in keys:
            keys |= {"size": "nano"}
            keys["model_config"] = {"flow_steps": [1, 1], "init_steps": 7} if "flowseq" in name else {"dropout": 0.2}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")
    return ["models", "--configs", str(folder), "--vocab_size", "100", "--max_tokens", "250", "--whole_update"]


def test_every_training_of_wmt14_has_a_model(script: ModuleType) -> None:
    files = {path.name for path in script.CONFIGS.glob("*.yaml")} - {"distill_base.yaml", "born_again.yaml"}
    runs = script.training_runs(script.CONFIGS)
    assert sorted(path.name for paths in runs.values() for path in paths) == sorted(files)
    assert [path.stem for path in runs["cmlm"]] == ["cmlm_distilled", "cmlm_real"]
    assert {
        "levenshtein_transformer",
        "levenshtein_transformer_big",
        "teacher_base",
        "teacher_moe_base",
    } <= runs.keys()


def test_a_run_that_goes_on_has_the_model_of_the_run_before(script: ModuleType) -> None:
    args = script.ModelArguments(model_type="cmlm", init_from="runs/wmt14/da_transformer_real", model_config={"x": 1})
    keys = yaml.safe_load((script.CONFIGS / "da_transformer_real.yaml").read_text(encoding="utf-8"))
    found = script._from_scratch(args, script.CONFIGS)
    assert (found.init_from, found.model_config) == (None, keys["model_config"] | {"x": 1})


def test_models_are_measured_once_and_an_update_is_whole(
    script: ModuleType,
    small: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(script, "WHOLE_UPDATE", 1000)
    (Path(small[2]) / "flowseq_real.yaml").unlink()  # slow, and in a test of its own
    output = tmp_path / "scale.json"
    script.main([*small, "vanilla_nat", "--output", str(output)])
    result = read_json(output)
    vanilla, cmlm = result["models"]["vanilla_nat"], result["models"]["cmlm"]
    assert vanilla["configs"] == ["vanilla_nat_distilled.yaml", "vanilla_nat_real.yaml"]
    assert 100 < vanilla["target_tokens"] <= 250 and vanilla["whole_update"]["num_batches"] == 4
    assert vanilla["whole_update"]["target_tokens"] > 2 * vanilla["target_tokens"]
    assert vanilla["whole_update"]["cpu_seconds"] > 0 and vanilla["whole_update"]["second_half_against_first"] > 0
    assert "whole_update" not in cmlm and cmlm["peak_bytes"] > 16 * cmlm["num_parameters"]
    table = capsys.readouterr().out.splitlines()[-2:]
    assert "(extrapolated)" in table[0] and "(extrapolated)" not in table[1]

    result["models"]["vanilla_nat"]["peak_bytes"] = 1
    del result["models"]["cmlm"]
    write_json(output, result)
    script.main([*small, "", "--output", str(output)])
    again = read_json(output)["models"]
    assert again["vanilla_nat"]["peak_bytes"] == 1 and again["cmlm"]["peak_bytes"] > 1
    with pytest.raises(ValueError, match="`output` must be of these settings, got .*250"):
        script.main([*small, "", "--max_tokens", "300", "--output", str(output)])


def test_flowseq_is_in_its_second_phase(script: ModuleType, small: list[str]) -> None:
    args = script.parse_arguments([*small, "", "--output", "x"])
    trainee, batches = script._trainee(Path(args.configs) / "flowseq_real.yaml", args)
    assert trainee.model.num_batches == 7
    longest = max(tensor.shape[1] for batch in batches for tensor in batch.values())
    assert longest <= 80 and len(batches) == 64_000 // 250


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Thirty sentences in four languages."""
    draw = random.Random(0)
    sources = [draw.choices([f"word{i}" for i in range(12)], k=4) for _ in range(30)]
    for lang, prefix in (("en", "word"), ("de", "wort"), ("fr", "mot"), ("cs", "slovo")):
        with gzip.open(tmp_path / f"train.{lang}.gz", "wt", encoding="utf-8") as file:
            file.writelines(" ".join(source).replace("word", prefix) + "\n" for source in sources)
    return tmp_path


def test_three_languages_are_made_encoded_and_measured(
    script: ModuleType, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = ["--corpus", str(texts / "{split}.{lang}.gz"), "--source_lang", "en", "--target_langs", "de", "fr", "cs"]
    sizes = ["--num_pairs", "100", "--vocab_size", "300", "--max_tokens", "60", "--output", str(texts / "scale.json")]
    script.main(["languages", *corpus, *sizes, "--num_bootstrap", "20"])
    corpora = read_json(texts / "scale.json")["corpora"]
    everything = corpora["all languages"]
    # No more than 60 tokens in a batch, five in a sentence with its end.
    assert everything["encode"]["result"] == 300 and 25 <= everything["make batches"]["result"] < 300
    for parts, kind in itertools.product(corpora.values(), ("words", "pieces")):
        value, (low, high) = (parts[f"{part}, {kind}"]["result"] for part in ("align and count links", "measures"))
        assert value > 0.5 and low < high  # three modes of each word
    assert "posterior of the languages" in capsys.readouterr().out
    script.main(["languages", *corpus, *sizes, "--num_bootstrap", "0"])
    corpora = read_json(texts / "scale.json")["corpora"].values()
    assert [parts[f"measures, {kind}"]["result"] for parts in corpora for kind in ("words", "pieces")] == [None] * 4


def test_the_corpora_are_aligned_and_measured(
    script: ModuleType, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = ["--corpus", str(texts / "{split}.{lang}.gz"), "--source_lang", "en", "--target_lang", "de"]
    output = texts / "corpus.json"
    script.main(["corpus", *corpus, "--num_pairs", "200", "--noise", "0.3", "--output", str(output)])
    real, distilled = (read_json(output)["corpora"][name] for name in ("real", "distilled"))
    for parts in (real, distilled):
        assert parts["num_source_words"] == parts["num_target_words"] == 800
        assert parts["read"]["result"] == 200
        assert 0 < parts["reordering"]["result"] <= 1
    complexities = [parts["align and count links"]["result"]["complexity"] for parts in (real, distilled)]
    assert complexities[0] > complexities[1] >= 0  # its targets have noise
    assert distilled["faithfulness"]["result"] > 0
    assert 0 < distilled["training BLEU"]["result"] < 100
    assert re.search(r"\| distilled \| +training BLEU \|", capsys.readouterr().out)


@pytest.mark.slow
def test_every_model_of_wmt14_trains_on_a_batch(script: ModuleType, tmp_path: Path) -> None:
    output = tmp_path / "scale.json"
    script.main(["models", "--whole_update", "", "--output", str(output)])
    models = read_json(output)["models"]
    assert models.keys() == script.training_runs(script.CONFIGS).keys()
    assert all(1000 < row["target_tokens"] <= 2000 and row["peak_bytes"] < 16e9 for row in models.values())


def test_the_page_holds_the_table_of_what_was_measured(script: ModuleType) -> None:
    page = (script.CONFIGS / "README.md").read_text(encoding="utf-8")
    assert script.models_table(read_json(script.CONFIGS / "results/scale_models_cpu.json")) in page
    assert script.corpus_table(read_json(script.CONFIGS / "results/scale_corpus_cpu.json")) in page
    europarl = script.CONFIGS.parent / "europarl"
    table = script.corpus_table(read_json(europarl / "results/scale_languages_cpu.json"))
    assert table in (europarl / "README.md").read_text(encoding="utf-8")

from __future__ import annotations

import json

import pytest
from nat_model_tester import save, tiny_model, tiny_student

from hf_nat.base.utils import read_json, write_json
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat.decoding import DecodingArguments, Translation
from hf_nat.decoding.shortlist import ShortListArguments
from hf_nat.evaluation.confidence import (
    calibration_reliability,
    confidence,
    fit_calibration,
    translated_qualities,
    way_of_decoding,
)
from hf_nat.metrics.calibration import Calibration
from hf_nat.models import MoEMarianConfig, MoEMarianMTModel
from hf_nat_cli import main


TEXTS = ["ab ba", "abba baab", "", "ba", "ab ab ba", "baab"]


@pytest.fixture
def options(tmp_path):
    tokenizer = train_tokenizer(TEXTS, vocab_size=12)
    folder = save(tmp_path / "model", tiny_student("vanilla_nat", tokenizer), tokenizer)
    for split in ("validation", "test"):
        rows = [{"translation": {"src": text, "tgt": text[::-1]}} for text in TEXTS]
        (tmp_path / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return [f"--model={folder}", f"--corpus={tmp_path}/{{split}}.jsonl", "--source_lang=src", "--target_lang=tgt"]


def test_confidence_is_learned_once_used_and_measured(options, tmp_path, capsys):
    model = tmp_path / "model"
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    translate = ["translate", options[0], f"--input={tmp_path}/in.txt", f"--output={tmp_path}/out.txt"]
    translate += [f"--confidence_output={tmp_path}/confidence.txt"]
    assert main(translate) == 2
    assert "`model` must hold a confidence.json" in capsys.readouterr().err
    assert not (tmp_path / "out.txt").exists()

    assert main(["evaluate", *options]) == 0
    assert read_json(model / "eval-test/metrics.json")["reliability"] is None
    assert main(["calibrate", *options]) == 0
    assert "6 sentences" in capsys.readouterr().out
    record = read_json(model / "confidence.json")
    assert record["quality"].startswith("chrF2|")
    before = (model / "confidence.json").stat().st_mtime_ns
    assert main(["calibrate", *options]) == 0
    assert (model / "confidence.json").stat().st_mtime_ns == before

    assert main(translate) == 0
    confidences = [float(line) for line in (tmp_path / "confidence.txt").read_text().splitlines()]
    assert len(confidences) == len(TEXTS)
    assert confidences[2] == 1  # the blank line
    known = record["confidences"]
    assert all(min(known) - 1e-3 <= value <= max(known) + 1e-3 for value in confidences[:2] + confidences[3:])

    # The test split is the validation split: the error on it is the one that the record has.
    assert main(["evaluate", *options, f"--output_dir={tmp_path}/eval"]) == 0
    reliability = read_json(tmp_path / "eval/metrics.json")["reliability"]
    assert reliability["error"] == pytest.approx(record["calibration_error"])
    assert sum(reliability["counts"]) == len(TEXTS) - 1
    assert (tmp_path / "eval/reliability.png").stat().st_size > 0


def test_an_evaluation_is_made_anew_once_there_is_a_curve_and_no_other_change_is_allowed(options, tmp_path, capsys):
    metrics = tmp_path / "model/eval-test/metrics.json"
    assert main(["evaluate", *options]) == 0
    assert main(["calibrate", *options]) == 0
    assert main(["evaluate", *options]) == 0
    assert read_json(metrics)["reliability"]["error"] >= 0
    assert metrics.with_name("reliability.png").is_file()
    written = metrics.stat().st_mtime_ns
    assert main(["evaluate", *options]) == 0
    assert metrics.stat().st_mtime_ns == written, "the same curve: nothing to do"
    (tmp_path / "model/confidence.json").unlink()
    capsys.readouterr()
    assert main(["evaluate", *options, "--metrics", "chrf"]) == 2
    assert "`metrics` must be the same" in capsys.readouterr().err
    assert main(["evaluate", *options]) == 0
    assert read_json(metrics)["reliability"] is None
    assert not metrics.with_name("reliability.png").exists()


def test_the_curve_of_a_split_of_blanks_has_no_error(options, tmp_path):
    assert main(["calibrate", *options]) == 0
    (tmp_path / "test.jsonl").write_text(f"{json.dumps({'translation': {'src': ' ', 'tgt': 'ab'}})}\n" * 2)
    assert main(["evaluate", *options]) == 0
    assert read_json(tmp_path / "model/eval-test/metrics.json")["reliability"] is None


def test_a_curve_of_another_way_of_decoding_is_not_used(options, tmp_path, capsys, caplog):
    assert main(["calibrate", *options, "--length_beam=3"]) == 0
    capsys.readouterr()
    (tmp_path / "in.txt").write_text("ab\n")
    translate = ["translate", options[0], f"--input={tmp_path}/in.txt", f"--confidence_output={tmp_path}/c.txt"]
    assert main(translate) == 2
    assert "made with another length_beam." in caplog.text
    assert "the same options of decoding" in capsys.readouterr().err
    assert main([*translate, "--length_beam=3"]) == 0


@pytest.mark.parametrize("change", [{"backend": "onnx", "quantize": "int8"}, {"source_prefix": "x"}])
def test_what_decodes_and_what_it_is_told_are_ways_of_decoding(change):
    model = tiny_model("vanilla_nat")
    own = way_of_decoding(DecodingArguments(threads=1), model, ShortListArguments())
    assert own.keys() == model.generation_defaults.keys()
    assert way_of_decoding(DecodingArguments(**change), model, ShortListArguments()) == own | change


def test_a_mixture_has_a_way_of_decoding_too():
    ids = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "vocab_size": 12}
    model = MoEMarianMTModel(MoEMarianConfig(**ids, decoder_vocab_size=12, d_model=16, num_experts=2))
    for given, expert in ((DecodingArguments(), 0), (DecodingArguments(expert=1), 1)):
        assert way_of_decoding(given, model, ShortListArguments())["expert"] == expert


def test_a_knob_that_is_null_has_its_default():
    model = tiny_model("ctc_nat")
    before = way_of_decoding(DecodingArguments(), model, ShortListArguments())
    model.generation_config.ctc_beam_size = None
    assert way_of_decoding(DecodingArguments(), model, ShortListArguments()) == before


def test_a_curve_is_of_the_knobs_that_the_checkpoint_had(options, tmp_path, capsys):
    assert main(["calibrate", *options]) == 0
    (tmp_path / "in.txt").write_text("ab\n")
    translate = ["translate", options[0], f"--input={tmp_path}/in.txt", f"--confidence_output={tmp_path}/c.txt"]
    assert main(translate) == 0
    path = tmp_path / "model/generation_config.json"
    settings = read_json(path) if path.exists() else {}
    write_json(path, settings | {"length_beam": 3})  # as `tune` does
    assert main([*translate, f"--output={tmp_path}/out.txt"]) == 2
    assert "Run `hf-nat calibrate --model" in capsys.readouterr().err
    assert main([*translate, f"--output={tmp_path}/out.txt", "--length_beam=1"]) == 0


def test_what_changes_nothing_is_no_other_way_of_decoding():
    model = tiny_model("ctc_nat")
    for way, name in ((DecodingArguments(), "ctc_length_bonus"), (DecodingArguments(ctc_beam_size=2), "lm_weight")):
        before = way_of_decoding(way, model, ShortListArguments())
        setattr(model.generation_config, name, 0.75)
        assert way_of_decoding(way, model, ShortListArguments()) == before
    assert way_of_decoding(DecodingArguments(ctc_beam_size=2), model, ShortListArguments())["ctc_length_bonus"] == 0.75


def test_a_blank_translation_is_no_proof_of_quality():
    outputs = [
        Translation("ab", -1.0, 1, False, 1),
        Translation("", 0.0, 0, False, 1),  # no token, and so the best score
        Translation("", None, 0, False, None),  # of a blank source
    ]
    written, qualities = translated_qualities(outputs, ["ab", "ba", ""], "de")
    assert written == outputs[:2] and qualities == [1.0, 0.0]
    curve = fit_calibration(written, qualities)
    assert curve.scores == (-1.0,)
    assert [confidence(curve, output) for output in outputs] == [1.0, 0.0, 1.0]
    assert calibration_reliability(curve, written, qualities).error == 0
    with pytest.raises(ValueError, match="`model` must write something to be calibrated, got 1 blank translations"):
        fit_calibration(outputs[1:2], [0.0])


def test_a_curve_is_fitted_to_the_sentences_that_were_translated(options, tmp_path):
    assert main(["calibrate", *options]) == 0
    record = read_json(tmp_path / "model/confidence.json")
    fitted = Calibration(tuple(record["scores"]), tuple(record["confidences"]))
    assert list(fitted.scores) == sorted(fitted.scores)
    assert 0 <= fitted.confidences[0] <= fitted.confidences[-1] <= 1

from __future__ import annotations

from pathlib import Path

import evaluate
import pytest

import hf_nat.metrics
from hf_nat.metrics import score_translations
from hf_nat.metrics.translation import METRICS


MODULES = Path(hf_nat.metrics.__file__).parent / "evaluate_modules"
HYPOTHESES = ["Das ist ein Hund, der z.B. schläft.", "Zwei Männer laufen über die Straße."]
REFERENCES = ["Das ist ein Hund, der schläft.", "Zwei Männer gehen über die Straße."]


@pytest.fixture
def load(tmp_path):
    """Loads a module by its absolute path with a cache of its own."""
    return lambda name: evaluate.load(str(MODULES / name), cache_dir=str(tmp_path))


@pytest.mark.parametrize("name", METRICS)
def test_module_computes_what_score_translations_computes(load, name):
    module = load(name)
    arguments = {"target_lang": "de", "segment_scores": True, "num_bootstrap": 5, "seed": 3}
    result = module.compute(predictions=HYPOTHESES, references=REFERENCES, **arguments)
    score = score_translations(HYPOTHESES, REFERENCES, metrics=[name], **arguments)[name]
    assert result[name] == score.score
    assert result["signature"] == score.signature
    if name == "beer":
        assert result["reason"] == score.reason and score.score is None
    else:
        assert result["segments"] == list(score.segments)
        assert result["interval"] == score.interval


@pytest.mark.parametrize("name", METRICS)
def test_module_is_its_own_class_and_documents_its_inputs(load, name):
    module = load(name)
    assert type(module).__name__.lower() == name.replace("_", "")
    assert set(module.features) == {"predictions", "references"}
    assert "target_lang" in module.inputs_description
    assert module.citation and module.description


def test_plain_result_has_score_and_signature_only(load):
    result = load("ribes").compute(predictions=HYPOTHESES, references=REFERENCES, target_lang="de")
    assert set(result) == {"ribes", "signature"}


def test_batches_add_up(load):
    module = load("chrf")
    for prediction, reference in zip(HYPOTHESES, REFERENCES, strict=True):
        module.add(prediction=prediction, reference=reference)
    whole = score_translations(HYPOTHESES, REFERENCES, target_lang="de", metrics=["chrf"])["chrf"]
    assert module.compute(target_lang="de")["chrf"] == whole.score


def test_options_reach_the_metric(load):
    result = load("ribes").compute(predictions=["Ja JA"], references=["ja Ja"], target_lang="de", lowercase=False)
    assert "|case:mixed|" in result["signature"]


def test_language_is_required(load):
    with pytest.raises(TypeError, match="target_lang"):
        load("bleu").compute(predictions=HYPOTHESES, references=REFERENCES)

"""Renders the example cards of `hub_cards/examples` from the committed settings and measurements of Multi30k.

    python scripts/example_cards.py

Weights, and what a run notes only beside them (seconds, updates), are not committed, so the cards do not show them.
"""

from __future__ import annotations

from contextlib import chdir
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

from hf_nat.base.utils import read_json, write_json
from hf_nat.cards import write_corpus_card, write_model_card
from hf_nat.data.pretrained import load_pretrained_model
from hf_nat.models import ARCHITECTURES, TEACHER_CONFIGS, new_teacher
from hf_nat.steps import Train


ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "hub_cards/examples"
MULTI30K = ROOT / "configs/multi30k"
MEASURES = MULTI30K / "results/measures"


def example_cards() -> dict[str, str]:
    """Renders the cards.

    Returns:
        `dict[str, str]`: name of the file in `hub_cards/examples` -> text.
    """
    with TemporaryDirectory() as temporary, chdir(temporary):
        corpora = Path("multi30k_distilled")
        real, *distilled = read_json(MEASURES / "converged_bpe.json")["corpora"]
        for measured in distilled:
            _corpus(corpora / measured["name"], real, measured)
        _corpus(Path("runs/multi30k/converged/distilled"), real, distilled[0])
        teacher, student = (
            _model(f"converged/{name.partition('__')[0]}", MULTI30K / f"results/converged/{name}.json")
            for name in ("teacher__beam5", "ctc_nat_glancing_distilled")
        )
        cards = {
            "teacher_card.md": write_model_card(teacher),
            "student_card.md": write_model_card(student),
            "corpus_card.md": write_corpus_card(corpora),
        }
        return {name: path.read_text(encoding="utf-8") for name, path in cards.items()}


def _corpus(folder: Path, real: dict[str, object], measured: dict[str, object]) -> None:
    """Makes the folder of a distilled corpus, as far as it is committed."""
    measures = read_json(MEASURES / "converged_bpe.json") | {"corpora": [real, measured]}
    write_json(folder / "manifest.json", read_json(MEASURES / f"{measured['name']}_manifest.json"))
    write_json(folder / "measures.json", measures)


def _model(config: str, *evaluations: Path) -> Path:
    """Makes the folder of a model with new weights, the settings of its YAML file and its evaluations."""
    step = Train.from_config(MULTI30K / f"{config}.yaml", use_cpu=True)
    model_args, data_args, folder = step.model, step.data, step.folder
    if model_args.init_from_teacher:
        _, model_class = ARCHITECTURES[model_args.model_type]
        teacher = load_pretrained_model(model_args.init_from_teacher)
        model: PreTrainedModel = model_class.from_teacher(teacher)
    else:
        special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        fields = {**special, "vocab_size": data_args.vocab_size, **(model_args.model_config or {})}
        model = new_teacher(TEACHER_CONFIGS[model_args.model_type](model_args.size, **fields))
    model.save_pretrained(folder)
    run = {
        "arguments": asdict(model_args) | asdict(data_args) | step.training.to_sanitized_dict(),
        "num_parameters": model.num_parameters(),
        "environment": {"device": None, "versions": {}},
    }
    write_json(folder / "run.json", run)
    for path in evaluations:
        metrics = read_json(path)
        write_json(folder / f"eval-{metrics['split']}" / "metrics.json", metrics)
    return folder


def main() -> None:
    """Writes the files."""
    for name, card in example_cards().items():
        (EXAMPLES / name).write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()

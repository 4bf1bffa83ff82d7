"""What a training run prints at its end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from ..base.utils import read_record


def training_summary(folder: str | Path) -> str:
    """Renders the `metrics.json` of a training run as a table of a dozen lines.

    Args:
        folder (`str | Path`): the run's `output_dir`.

    Returns:
        `str`: a name and a value on each line; a value that the run does not have has no line.
    """
    numbers = dict.fromkeys(("num_parameters", "num_train_pairs", "num_updates", "num_processes"), int)
    metrics = read_record(Path(folder) / "metrics.json", {"model_type": str, **numbers})
    seconds = metrics["train_seconds"]
    infeasible = metrics.get("num_infeasible_pairs")
    loss, bleu = metrics.get("eval_loss"), metrics.get("eval_bleu")
    rows = {
        "model": metrics["model_type"],
        "parameters": f"{metrics['num_parameters']:,}",
        "training pairs": f"{metrics['num_train_pairs']:,}",
        "infeasible pairs": None
        if infeasible is None
        else f"{infeasible:,} ({infeasible / metrics['num_train_pairs']:.2%} of them)",
        "updates": f"{metrics['num_updates']:,} ({metrics['epochs']:.2f} epochs)",
        "processes": f"{metrics['num_processes']} ({metrics['distribution']})",
        "training time": None if seconds is None else str(timedelta(seconds=round(seconds))),
        "speed": f"{metrics['target_tokens_per_second']:,.0f} target tokens/s",
        "validation loss": None if loss is None else f"{loss:.4f} nats per target token",
        "validation BLEU": None if bleu is None else f"{bleu:.2f}",
        "signature": metrics.get("eval_bleu_signature"),
        "weights": ", ".join(metrics["weights_of"]) if metrics.get("weights_of") else None,
        "saved in": str(folder),
    }
    return "\n".join(f"{name:<16} {value}" for name, value in rows.items() if value is not None)

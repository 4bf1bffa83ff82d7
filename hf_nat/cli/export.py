"""`hf-nat export`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..base.config import load_config
from ..base.processes import process_state
from ..steps import Export, ExportArguments


# A loss of BLEU by 8 bits against which there are options.
_COSTLY = 0.3


def run(argv: Sequence[str]) -> None:
    """Makes graphs of a model and says how much of what they translate is what the model does."""
    step = Export(*load_config((ExportArguments,), argv, prog="hf-nat export"))
    step.run()
    if not process_state().is_main_process:
        return
    of_what = " of random tokens" if step.record.get("samples") == "random" else ""
    for precision, parity in step.record["parity"].items():
        equal, total = parity["num_equal"], parity["num_sentences"]
        line = f"{precision}: {equal} of {total} translations{of_what} are equal to the model's"
        if tied := parity.get("num_tied"):
            line += f", {tied} of equal score"
        if bleu := parity.get("bleu"):
            line += f"; BLEU {bleu['graph']:.2f}, the model's {bleu['model']:.2f}"
        print(line)
    if _loss(step.record["parity"]) > _COSTLY and not step.record.get("quantization"):
        print(
            f"8 bits cost more than {_COSTLY} BLEU. `--quantize_embeddings false` leaves embedding and output "
            "projection in single precision, `--reduce_range true` helps processors without VNNI."
        )
    print(f"{step.folder}: {', '.join(sorted(path.name for path in (step.folder / 'onnx').glob('*.onnx')))}")


def _loss(parity: dict[str, Any]) -> float:
    """Returns how much BLEU the graph in 8 bits loses against that in single precision."""
    single, int8 = (parity.get(name, {}).get("bleu") for name in ("float32", "int8"))
    return single["graph"] - int8["graph"] if single and int8 else 0.0

"""`hf-nat export`."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.config import load_config
from ..steps import Export, ExportArguments


def run(argv: Sequence[str]) -> None:
    """Makes graphs of a model and says how much of what they translate is what the model does."""
    step = Export(*load_config((ExportArguments,), argv, prog="hf-nat export"))
    step.run()
    of_what = "" if step.args.sentences else " of random tokens"
    for precision, parity in step.record["parity"].items():
        equal, total = parity["num_equal"], parity["num_sentences"]
        line = f"{precision}: {equal} of {total} translations{of_what} are equal to the model's"
        if bleu := parity.get("bleu"):
            line += f"; BLEU {bleu['graph']:.2f}, the model's {bleu['model']:.2f}"
        print(line)
    print(f"{step.folder}: {', '.join(sorted(path.name for path in (step.folder / 'onnx').glob('*.onnx')))}")

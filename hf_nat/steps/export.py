"""The step that makes graphs of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.folders import require_outside
from ..base.processes import main_process_decides, process_state
from ..base.utils import read_record, sha256_file
from ..decoding.exported import GRAPHS, RECORD
from ..decoding.language_model import LANGUAGE_MODEL_FILE
from ..export import ExportArguments, export, load_validation
from .fingerprints import corpus_fingerprint, model_fingerprint
from .model import ModelStep


@dataclass(frozen=True)
class Export(ModelStep):
    """Exports a model; see `hf_nat.export.export`.

    Args:
        args (`ExportArguments`): model and precision.
    """

    name = "export"
    args: ExportArguments
    renewing = ("validation",)  # It says how good the graphs are, and may lie elsewhere later.

    def run(self) -> Path:
        """Does what is left to do; see `Step.run`. In the folder of the model graphs would become files of that."""
        read = [self.args.model, *([] if self.args.shortlist is None else [self.args.shortlist])]
        main_process_decides(lambda: require_outside(self.folder, read))
        return super().run()

    def settings(self) -> dict[str, Any]:
        """Precision, samples of the comparison, short list and knobs."""
        args = self.args
        # The language says how the references are cut into words.
        scored = {} if args.references is None else {"target_lang": args.target_lang}
        listed = {"shortlist": args.shortlist_sizes}
        # Named where they are not the default: older records have no such keys.
        quantized = {"quantize": args.quantize, **args.quantization}
        return {**quantized, "max_samples": args.max_samples, **scored, **listed, **args.knobs}

    def inputs(self) -> dict[str, Any]:
        """Fingerprints of the model, of n-grams, of the corpus of the short list, and of what is compared on."""
        found = load_validation(self.args)
        validation = found and corpus_fingerprint(found[2], **found[0].languages)
        rows, n_grams = self.args.load_shortlist(), Path(self.args.model) / LANGUAGE_MODEL_FILE
        texts = {"sentences": self.args.sentences, "references": self.args.references}
        return {
            "model": model_fingerprint(self.args.model),
            # Named where there is one: older records have no such key.
            **({"language_model": sha256_file(n_grams)} if n_grams.is_file() else {}),
            **({} if validation is None else {"validation": validation}),
            "shortlist": None
            if rows is None
            else corpus_fingerprint(rows, str(self.args.source_lang), str(self.args.target_lang)),
            **{name: None if path is None else sha256_file(path) for name, path in texts.items()},
        }

    def is_whole(self) -> bool:
        """Tells whether graphs, tokenizer and configuration are as the export has left them."""
        try:
            sums = read_record(self.folder / GRAPHS / RECORD, {"sha256": dict})["sha256"]
        except (OSError, ValueError):
            return False
        files = {self.folder / name: digest for name, digest in sums.items()}
        return all(file.is_file() and sha256_file(file) == digest for file, digest in files.items())

    def work(self) -> None:
        """Traces, quantises and compares the graphs, on the main process."""
        if process_state().is_main_process:
            export(self.args)

    @property
    def record(self) -> dict[str, Any]:
        """What `onnx/export.json` of the finished step holds."""
        return read_record(self.folder / GRAPHS / RECORD, {"parity": dict})

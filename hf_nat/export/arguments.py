"""The keys of an export."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..base.bounds import require_choice, require_number
from ..base.config import option, refuse_changed
from ..decoding.exported import PRECISIONS
from ..decoding.shortlist import ShortListArguments


@dataclass(frozen=True, kw_only=True)
class ExportArguments(ShortListArguments):
    """Which model becomes which graphs.

    Raises:
        ValueError: if the precision is unknown, or there are references without sentences.
    """

    model: str = field(metadata={"help": "checkpoint folder or Hub id of a NAT model"})
    output_dir: str = field(metadata={"help": "folder of the exported model"})
    quantize: str | None = option(None, "also graphs with weights in 8 bits: int8")
    quantize_embeddings: bool = option(
        True, "`quantize`: in 8 bits also embedding and output projection; false leaves them in single precision"
    )
    reduce_range: bool = option(
        False, "`quantize`: weights of 7 bits, for processors with AVX2 and without VNNI, where 8 may overflow"
    )
    sentences: str | None = option(
        None,
        "text file (plain or .gz) of sources on which graph and model are compared; default: the validation split "
        "that the model's run.json names, where it can be loaded, else random tokens",
    )
    references: str | None = option(None, "text file of their translations: what int8 costs in BLEU")
    target_lang: str | None = option(None, "language of the references and of the targets of `shortlist`")
    max_samples: int = option(200, "sentences that are compared, at most")
    max_iterations: int | None = option(None, "NAT model that refines: rounds by default, else the checkpoint's")
    length_beam: int | None = option(None, "NAT model with a length predictor: lengths tried in parallel")
    graph_decoding: str | None = option(None, "DA-Transformer: greedy or lookahead")
    collapse_repeats: bool | None = option(None, "NAT model: keep the first of equal neighbours")

    source_lang: str | None = option(None, "`shortlist`: language key of its sources")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shortlist is None:
            refuse_changed(self, ("source_lang",), "without `shortlist`")
            if self.references is None:
                refuse_changed(self, ("target_lang",), "without `references` and `shortlist`")
        if self.quantize is None:
            refuse_changed(self, ("quantize_embeddings", "reduce_range"), "without `quantize`")
        else:
            require_choice("quantize", self.quantize, PRECISIONS)
        if self.references is not None and (self.sentences is None or self.target_lang is None):
            raise ValueError("`references` must come with `sentences` and `target_lang`, got them alone.")
        require_number("max_samples", self.max_samples, least=1)

    @property
    def quantization(self) -> dict[str, bool]:
        """How weights become 8 bits, where that is not the default."""
        changed = {"embeddings": self.quantize_embeddings, "reduce_range": self.reduce_range}
        return {name: value for name, value in changed.items() if value != (name == "embeddings")}

    @property
    def knobs(self) -> dict[str, Any]:
        """The knobs of decoding that are set."""
        names = ("max_iterations", "length_beam", "graph_decoding", "collapse_repeats")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

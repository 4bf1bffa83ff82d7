"""The keys of `hf-nat filter`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..base.bounds import require_choice, require_number
from ..base.config import option, refuse_changed
from ..data import tokenizer_checksum
from .filter_rules import FILTER_COLUMNS, RULES, TOKEN_COLUMNS
from .flags import FLAGS, HARMLESS
from .judges import load_backward_model


# All that says that a target is no translation of its source.
DEFAULT_DROP = tuple(flag for flag in FLAGS if flag not in HARMLESS)
NO_FLAG = "none"


@dataclass(frozen=True, kw_only=True)
class FilterArguments:
    """Which training rows of a distilled corpus are left out.

    Raises:
        ValueError: if a flag or column is unknown, there is neither a rule nor a column, a number is out of range, or
            `output_dir` is `corpus`.
    """

    corpus: str = field(metadata={"help": "folder of a distilled corpus, with its manifest.json"})
    output_dir: str = field(metadata={"help": "folder of the filtered corpus, new or empty"})
    drop: list[str] = field(
        default_factory=lambda: list(DEFAULT_DROP),
        metadata={
            "help": f"rows with one of these flags go, out of {', '.join(FLAGS)}; {NO_FLAG} for no flag. By default "
            "all but kept_real and source_alone: the targets of the others say too little, too much or nothing of "
            "their source"
        },
    )
    min_score: float | None = option(
        None, "rows with a lower teacher_score go (nats per token); a row without a score stays"
    )
    worst_score: float | None = option(None, "this share (0-1) of the rows goes, those with the lowest teacher_score")
    max_length_ratio: float | None = option(None, "rows whose longer side has more than so many times the tokens go")
    max_copy_rate: float | None = option(
        None, "rows go whose target has a larger share (0-1) of the source's words, numbers not counted"
    )
    max_number_differences: int | None = option(
        None, "rows with more numbers on one side only go; numbers are compared by their digits"
    )
    max_url_differences: int | None = option(None, "rows with more URLs on one side only go")
    min_language_posterior: float | None = option(
        None,
        "rows go whose source or target has a lower probability (0-1) of being in its language rather than the other, "
        "by the words of the training sources and real targets; 0.5 tells nothing",
    )
    min_backward_score: float | None = option(
        None, "rows go whose source is less likely by `backward_teacher` (nats per token; minus the cross-entropy)"
    )
    worst_backward_score: float | None = option(
        None, "this share (0-1) of the rows goes, those with the lowest backward_score"
    )
    max_per_source: int | None = option(
        None, "of the rows of one source that other rules leave, so many stay, those with the best teacher_score"
    )
    max_per_target: int | None = option(None, "the same, of the rows of one target")
    columns: list[str] | None = option(
        None, f"columns to measure without a threshold, out of {', '.join(FILTER_COLUMNS)}"
    )
    tokens: str = option(
        "space",
        "words of length_ratio, copy_rate and language_posterior: space (between blanks), moses, or a tokenizer's "
        "folder",
    )
    backward_teacher: str | None = option(
        None,
        "for backward_score: a model of the other direction, folder or Hub id; without it the corpus must have the "
        "column",
    )
    backward_prefix: str | None = option(None, "text put before every target for that model", may_be_empty=True)
    model_source_lang: str | None = option(None, "multilingual backward_teacher: its code of the corpus's source")
    model_target_lang: str | None = option(None, "multilingual backward_teacher: its code of the corpus's target")
    trust_remote_code: bool = option(False, "execute the Python files that a backward_teacher brings")
    max_batch_tokens: int = option(1024, "tokens per batch of backward_teacher, padding counted")

    def __post_init__(self) -> None:
        for flag in self.flags:
            require_choice("drop", flag, FLAGS, where=f"or {NO_FLAG} alone")
        for column in self.columns or []:
            require_choice("columns", column, FILTER_COLUMNS)
        if not self.reasons and not self.columns:
            raise ValueError(
                f"A filter must have a rule, got none. Give `drop` or one of {', '.join(RULES)}, or `columns` to "
                "measure only."
            )
        for name, rule in RULES.items():
            rule.require(name, getattr(self, name))
        require_number("max_batch_tokens", self.max_batch_tokens, least=1)
        if self.backward_teacher and "backward_score" not in self.measured:
            raise ValueError(
                "`backward_teacher` must come with a use, got none. Give `worst_backward_score`, `min_backward_score` "
                "or `columns=backward_score`."
            )
        if not self.backward_teacher:
            of_teacher = ("backward_prefix", "model_source_lang", "model_target_lang", "trust_remote_code")
            refuse_changed(self, (*of_teacher, "max_batch_tokens"), "without `backward_teacher`")
        if not set(TOKEN_COLUMNS).intersection(self.measured):
            refuse_changed(self, ("tokens",), f"where none of {', '.join(TOKEN_COLUMNS)} is measured")
        if Path(self.output_dir).resolve() == Path(self.corpus).resolve():
            raise ValueError(f"`output_dir` must not be the corpus itself, got {self.output_dir!r}.")

    @property
    def flags(self) -> list[str]:
        """Flags whose rows go."""
        return [] if self.drop == [NO_FLAG] else self.drop

    @property
    def thresholds(self) -> dict[str, float]:
        """Those that are set, by the names of their rules."""
        return {name: getattr(self, name) for name in RULES if getattr(self, name) is not None}

    @property
    def reasons(self) -> list[str]:
        """Names under which rows that go are counted: flags, then thresholds."""
        return [*(flag for flag in FLAGS if flag in self.flags), *self.thresholds]

    @property
    def measured(self) -> list[str]:
        """Columns that the new corpus has for this filter."""
        wanted = {RULES[name].column for name in self.thresholds}.union(self.columns or [])
        return [column for column in FILTER_COLUMNS if column in wanted]

    @property
    def rule(self) -> dict[str, Any]:
        """What decides about a row, as the manifest records it; unset parts are left out."""
        rule: dict[str, Any] = dict(self.thresholds)
        if flags := [name for name in self.reasons if name in FLAGS]:
            rule["drop"] = flags
        if self.columns:
            rule["columns"] = self.measured
        return rule | self.measuring

    @property
    def measuring(self) -> dict[str, Any]:
        """What the measured columns depend on beside the corpus and the model."""
        settings: dict[str, Any] = {}
        if set(TOKEN_COLUMNS).intersection(self.measured):
            settings["tokens"] = self.tokens
            if checksum := tokenizer_checksum(self.tokens):
                settings["tokenizer_sha256" if Path(self.tokens).is_dir() else "tokenizer_commit"] = checksum
        if self.backward_teacher:
            settings["max_batch_tokens"] = self.max_batch_tokens
            names = ("backward_prefix", "model_source_lang", "model_target_lang")
            settings |= {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return settings

    def load_backward(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Loads the model of the other direction; see `load_backward_model`.

        Raises:
            ValueError: also if it is told languages and has none.
        """
        languages = (self.model_source_lang, self.model_target_lang)
        model, tokenizer = load_backward_model(
            str(self.backward_teacher), *languages, self.backward_prefix, self.trust_remote_code
        )
        if not hasattr(tokenizer, "src_lang"):
            where = f"for `{self.backward_teacher}`, a model of one pair of languages"
            refuse_changed(self, ("model_source_lang", "model_target_lang"), where)
        return model, tokenizer

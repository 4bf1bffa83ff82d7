"""Configuration of the CTC model."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_nat import GlancingConfig, SourceCopyMode


@strict
class CTCNATConfig(GlancingConfig):
    """Configuration of [`CTCNATForConditionalGeneration`]; see [`GlancingConfig`] and [`NATConfig`] for other fields.

    Args:
        upsample_ratio (`int`, defaults to 2): frames for each source token, EOS counted, at least 1.
        source_copy (`str`, defaults to `"uniform"`): what the decoder reads at the frames, see [`SourceCopy`].
        blank_token_id (`int`, *optional*): token that stands for "no token here" in the frames, by default
            `bos_token_id`, which no target holds. It needs a place in the vocabulary, not in the tokenizer.

    Raises:
        ValueError: if `upsample_ratio` is below 1, or the blank is missing, outside the vocabulary, or the token of
            padding, EOS or mask.

    Source: Libovický and Helcl 2018, `upsample_ratio` 3; Qian et al. 2021, 2.
    """

    model_type = "ctc_nat"

    upsample_ratio: int = 2
    source_copy: SourceCopyMode = "uniform"
    blank_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.upsample_ratio < 1:
            raise ValueError(f"`upsample_ratio` must be >= 1, got {self.upsample_ratio}. Use 2 or 3.")
        if self.blank_token_id is None:
            self.blank_token_id = self.bos_token_id
        taken = (self.pad_token_id, self.eos_token_id, self.mask_token_id)
        if self.blank_token_id is None or not 0 <= self.blank_token_id < self.vocab_size:
            raise ValueError(
                f"`blank_token_id` must be in [0, `vocab_size` = {self.vocab_size}), got {self.blank_token_id}. Give "
                "the id of a token that no target holds, such as a new one behind the vocabulary."
            )
        if self.blank_token_id in taken:
            raise ValueError(
                f"`blank_token_id` must not be the token of padding, EOS or mask {taken}, got {self.blank_token_id}. "
                "Give the id of a token that no target holds, such as a new one behind the vocabulary."
            )
        super().__post_init__(**kwargs)

"""Configuration of the DA-Transformer."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_nat import GlancingConfig, SourceCopyMode


@strict
class DATransformerConfig(GlancingConfig):
    """Configuration of [`DATransformerForConditionalGeneration`]; see [`GlancingConfig`] and [`NATConfig`] for others.

    Args:
        graph_size_ratio (`float`, defaults to 4): vertices for each source token, EOS counted, at least 1.
        source_copy (`str`, defaults to `"none"`): what the decoder reads at the vertices, see [`SourceCopy`].
        fuzzy_alignment (`bool`, defaults to `False`): learn to write the bigrams of the target, in whatever place,
            instead of the likelihood; for a model that has learned the latter.
        bos_token_id (`int`, defaults to 1): what the first vertex writes.
        label_smoothing (`float`, defaults to 0.0): uniform probability mass of what the vertices write, in [0, 1); the
            fuzzy alignment has none.

    Raises:
        ValueError: if `graph_size_ratio` is below 1, or `bos_token_id` is the token of padding, EOS or mask.

    Source: Huang et al. 2022 (arXiv:2205.07459), `graph_size_ratio` 8; Ma et al. 2023 (arXiv:2303.06662), who add the
        fuzzy alignment for the last 5,000 of 205,000 updates, with a `glancing_ratio` of 0.1.
    """

    model_type = "da_transformer"
    keys_to_ignore_at_inference = [*GlancingConfig.keys_to_ignore_at_inference, "links"]

    graph_size_ratio: float | int = 4
    source_copy: SourceCopyMode = "none"
    fuzzy_alignment: bool = False
    bos_token_id: int = 1
    label_smoothing: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        if self.graph_size_ratio < 1:
            raise ValueError(f"`graph_size_ratio` must be >= 1, got {self.graph_size_ratio}. Use 2 to 8.")
        taken = (self.pad_token_id, self.eos_token_id, self.mask_token_id)
        if self.bos_token_id in taken:
            raise ValueError(
                f"`bos_token_id` must not be the token of padding, EOS or mask {taken}, got {self.bos_token_id}. "
                "The first vertex of a graph writes it."
            )
        super().__post_init__(**kwargs)

"""Configuration of the Levenshtein Transformer."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from .configuration_nat import InsertionNATConfig


@strict
class LevenshteinTransformerConfig(InsertionNATConfig):
    """Configuration of [`LevenshteinTransformerForConditionalGeneration`].

    For the other fields see [`InsertionNATConfig`].

    Args:
        num_placeholder_bins (`int`, defaults to 256): number of placeholder classes (P), at least 2: 0 to P - 1
            placeholders in a slot. Larger counts are trained as P - 1.
        placeholder_label_smoothing (`float`, defaults to 0.01): uniform probability mass of the placeholder targets,
            in [0, 1).
        deletion_decoder (`"shared"` or `"own"`, defaults to `"shared"`): layers that the deletion head reads from:
            the decoder of the words, or a stack of its own.
        placeholder_decoder (`"shared"`, `"own"` or `"deletion"`, defaults to `"shared"`): layers that the placeholder
            head reads from: the decoder of the words, a stack of its own, or the deletion head's own.
        deletion_layers (`int`, *optional*): layers below the deletion head, from 1 to `decoder_layers`; by default
            all. Fewer are an early exit.
        placeholder_layers (`int`, *optional*): layers below the placeholder head, likewise. The words always take
            all layers.
        deletion_roll_in_alpha (`float`, defaults to 0.0): probability, for each sentence, that deletion is learnt on
            the initial canvas, which is empty in translation, instead of on the model's own insertions.
        insertion_roll_in_beta (`float`, defaults to 0.0): probability, for each sentence, that insertion is learnt on
            the initial canvas after the expert's deletions, the empty canvas, instead of on a randomly shortened
            target.
        sample_deletion_roll_in (`bool`, defaults to `False`): draw the words that deletion is learnt on from the
            model's distribution, as the original paper does, instead of taking the most probable ones.

    Raises:
        ValueError: if a field is out of range, or a head shares a stack that does not exist.

    Source: Gu et al. 2019 (arXiv:1905.11006), sections 3.1 (stacks, early exit) and 3.2 (alpha, beta); Zhou et al.
        2020, appendix A.2 (256 classes; alpha = beta = 0). The label smoothing is fairseq's.
    """

    model_type = "levenshtein_transformer"
    keys_to_ignore_at_inference = [
        *InsertionNATConfig.keys_to_ignore_at_inference,
        "placeholder_logits",
        "deletion_logits",
    ]

    num_placeholder_bins: int = 256
    placeholder_label_smoothing: float | int = 0.01
    deletion_decoder: Literal["shared", "own"] = "shared"
    placeholder_decoder: Literal["shared", "own", "deletion"] = "shared"
    deletion_layers: int | None = None
    placeholder_layers: int | None = None
    deletion_roll_in_alpha: float | int = 0.0
    insertion_roll_in_beta: float | int = 0.0
    sample_deletion_roll_in: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_placeholder_bins < 2:
            raise ValueError(f"`num_placeholder_bins` must be >= 2, got {self.num_placeholder_bins}.")
        if not 0 <= self.placeholder_label_smoothing < 1:
            raise ValueError(
                f"`placeholder_label_smoothing` must be in [0, 1), got {self.placeholder_label_smoothing}. "
                "Use 0 for none."
            )
        for name in ("deletion_layers", "placeholder_layers"):
            num_layers = getattr(self, name)
            if num_layers is not None and not 1 <= num_layers <= self.decoder_layers:
                raise ValueError(
                    f"`{name}` must be in [1, `decoder_layers` = {self.decoder_layers}], got {num_layers}."
                )
        for name in ("deletion_roll_in_alpha", "insertion_roll_in_beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}.")
        if self.placeholder_decoder == "deletion" and self.deletion_decoder != "own":
            raise ValueError(
                "`placeholder_decoder` must be 'own' or 'shared' where `deletion_decoder` is 'shared', got 'deletion'."
            )
        super().__post_init__(**kwargs)

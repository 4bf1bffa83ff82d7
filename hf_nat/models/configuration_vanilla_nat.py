"""Configuration of the vanilla NAT."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_nat import GlancingConfig, LengthNATConfig, SourceCopyMode


@strict
class VanillaNATConfig(GlancingConfig, LengthNATConfig):
    """Configuration of [`VanillaNATForConditionalGeneration`].

    See [`LengthNATConfig`] and [`GlancingConfig`] for the other fields; with glancing this is GLAT.

    Args:
        source_copy (`str`, defaults to `"uniform"`): what the decoder reads in place of the unknown tokens, see
            [`SourceCopy`].
        order_agnostic (`bool`, defaults to `False`): compare the predictions with the target's words in the order in
            which they are most probable (OaXE), for a model that has learned the target's own order. Needs SciPy.
        order_agnostic_margin (`float`, defaults to 0.0): probability below which a word, in that order, is left out of
            the loss, in [0, 1).

    Raises:
        ValueError: if `order_agnostic_margin` is out of range, or given without `order_agnostic`.

    Source: Du et al. 2021 (arXiv:2106.05093), who go on with OaXE after 300,000 updates, `order_agnostic_margin` 0.15.
    """

    model_type = "vanilla_nat"

    source_copy: SourceCopyMode = "uniform"
    order_agnostic: bool = False
    order_agnostic_margin: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        if not 0 <= self.order_agnostic_margin < 1:
            raise ValueError(
                f"`order_agnostic_margin` must be in [0, 1), got {self.order_agnostic_margin}. Use 0 for no margin."
            )
        if self.order_agnostic_margin and not self.order_agnostic:
            raise ValueError(
                f"`order_agnostic_margin` belongs to `order_agnostic`, got {self.order_agnostic_margin} without it."
            )
        super().__post_init__(**kwargs)

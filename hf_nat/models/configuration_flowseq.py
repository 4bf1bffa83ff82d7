"""Configuration of FlowSeq."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_nat import NATConfig


@strict
class FlowSeqConfig(NATConfig):
    """Configuration of [`FlowSeqForConditionalGeneration`]; see [`NATConfig`] for the other fields.

    Latent variables are as wide as the layers (D). FlowSeq-base as published has `d_model` 256, FFN 1024, 8 heads, 6
    encoder and 4 decoder layers and no `attention_output_projection`.

    Args:
        posterior_layers (`int`, *optional*): layers of the posterior, by default `decoder_layers`.
        posterior_word_dropout (`float`, defaults to 0.2): share of the target tokens that the posterior does not see
            in training, in [0, 1).
        flow_steps (`list[int]`, *optional*): Glow steps of each level of the prior, `[4, 4, 2]` by default. With L
            levels a target is padded to a multiple of 2^(L - 1) tokens.
        flow_ffn_dim (`int`, *optional*): width of the feed-forward layers in the prior, by default 2 * `d_model`.
        flow_attention_heads (`int`, *optional*): heads of the prior's attention, by default
            `decoder_attention_heads`; they divide `d_model` / 2.
        length_range (`int`, defaults to 20): largest difference between target and source length, in tokens.
        length_dropout (`float`, defaults to 0.33): dropout of the length predictor, in [0, 1].
        attention_output_projection (`bool`, defaults to `True`): whether attention ends with a projection, as a
            Marian teacher's does; the published model's does not.
        init_steps (`int`, defaults to 5000): training batches (updates times accumulated batches) before the prior
            takes part; until then posterior and decoder learn to reconstruct, without noise.
        kl_annealing_steps (`int`, defaults to 10000): training batches after these in which the weight of the KL
            divergence rises to 1.

    Raises:
        ValueError: if a number is out of its range.

    Source: Ma et al. 2019 (arXiv:1909.02480) and the authors' configuration and defaults.
    """

    model_type = "flowseq"

    posterior_layers: int | None = None
    posterior_word_dropout: float | int = 0.2
    flow_steps: list[int] | None = None
    flow_ffn_dim: int | None = None
    flow_attention_heads: int | None = None
    length_range: int = 20
    length_dropout: float | int = 0.33
    attention_output_projection: bool = True
    init_steps: int = 5000
    kl_annealing_steps: int = 10000

    def __post_init__(self, **kwargs: Any) -> None:
        if self.posterior_layers is None:
            self.posterior_layers = self.decoder_layers
        if self.flow_steps is None:
            self.flow_steps = [4, 4, 2]
        if self.flow_ffn_dim is None:
            self.flow_ffn_dim = 2 * self.d_model
        if self.flow_attention_heads is None:
            self.flow_attention_heads = self.decoder_attention_heads
        super().__post_init__(**kwargs)
        for name, minimum in (("posterior_layers", 1), ("init_steps", 0), ("kl_annealing_steps", 1)):
            if getattr(self, name) < minimum:
                raise ValueError(f"`{name}` must be >= {minimum}, got {getattr(self, name)}.")
        if not 0 <= self.posterior_word_dropout < 1:
            raise ValueError(f"`posterior_word_dropout` must be in [0, 1), got {self.posterior_word_dropout}.")
        if not self.flow_steps or min(self.flow_steps) < 1:
            raise ValueError(f"`flow_steps` must be numbers >= 1, one for each level, got {self.flow_steps}.")
        if self.d_model % (2 * self.flow_attention_heads):
            raise ValueError(
                f"`flow_attention_heads` must divide half of `d_model` = {self.d_model}, "
                f"got {self.flow_attention_heads}."
            )
        for name in ("length_range", "max_position_embeddings"):
            if getattr(self, name) < self.length_unit:
                raise ValueError(
                    f"`{name}` must be >= {self.length_unit} with {self.num_levels} levels, got {getattr(self, name)}."
                )

    @property
    def num_levels(self) -> int:
        """Number of levels of the prior."""
        return len(self.flow_steps or ())

    @property
    def length_unit(self) -> int:
        """Number of tokens of which every padded target length is a multiple."""
        return 2 ** (self.num_levels - 1)

    @property
    def longest_target(self) -> int:
        """See [`NATConfig.longest_target`]; targets are padded to whole units."""
        return self.max_position_embeddings // self.length_unit * self.length_unit

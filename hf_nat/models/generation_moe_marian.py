"""Generation with one expert of a mixture.

Dimension letters: B batch, S source, T target, K experts.
"""

from typing import Any, ClassVar, cast

import torch
from transformers import GenerationConfig, GenerationMixin

from .configuration_moe_marian import MoEMarianConfig


class MoEGenerationMixin(GenerationMixin):
    """Adds the choice of the expert to `generate`: `expert`, in the call or in generation_config.json."""

    # The decoding knobs beside those of transformers.
    generation_defaults: ClassVar[dict[str, Any]] = {"expert": 0}

    config: MoEMarianConfig
    generation_config: GenerationConfig

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        expert: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generates as every model of transformers does, with one expert.

        Args:
            inputs (`torch.LongTensor` of shape `(B, S)`, *optional*): source tokens; or `input_ids` by name.
            generation_config (`GenerationConfig`, *optional*): settings other than the model's own.
            expert (`int`, *optional*): the expert, in [0, K); by default `expert` of the generation config where it
                has one, else the one whose token is its `decoder_start_token_id`.
            **kwargs: see `GenerationMixin.generate`.

        Returns:
            `torch.LongTensor` of shape `(B, 1 + T)`, the expert's token first, or a `ModelOutput`.

        Raises:
            ValueError: if there is no such expert, or the decoder's start is given twice.
        """
        starts = [name for name in ("decoder_start_token_id", "decoder_input_ids") if kwargs.get(name) is not None]
        if expert is not None and starts:
            raise ValueError(f"Only one of `expert` and `{starts[0]}` must be given, got both. Leave one out.")
        if not starts:
            for settings in (generation_config, self.generation_config):
                expert = getattr(settings, "expert", None) if expert is None else expert
        if expert is not None:
            kwargs["decoder_start_token_id"] = self.expert_token_id(expert)
        return cast(Any, super()).generate(inputs, generation_config, **kwargs)

    def expert_token_id(self, expert: int) -> int:
        """Returns the start token of an expert.

        Args:
            expert (`int`): number of the expert, in [0, K).

        Raises:
            ValueError: if there is no such expert.
        """
        if not 0 <= expert < self.config.num_experts:
            raise ValueError(
                f"`expert` must be in [0, {self.config.num_experts}), the model's experts, got {expert}. "
                "The first is 0."
            )
        return cast(list[int], self.config.expert_token_ids)[expert]

"""Configuration of iNAT."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_nat import LengthNATConfig, SourceCopyMode


@strict
class IterativeNATConfig(LengthNATConfig):
    """Configuration of [`IterativeNATForConditionalGeneration`]; see [`LengthNATConfig`] for the other fields.

    Args:
        source_copy (`str`, defaults to `"uniform"`): what the decoder reads in the first round, see [`SourceCopy`].
        num_training_rounds (`int`, defaults to 4): decoder passes over each sentence in training, at least 1.
        denoising_probability (`float`, defaults to 0.5): share of the later passes that read a corrupted target in
            place of the model's own translation, in [0, 1].
        corruption_rate (`float`, defaults to 0.33): share of the corrupted positions, in [0, 1], see [`corrupt`].
        sample_predictions (`bool`, defaults to `True`): in training sample the model's own translation from its
            distribution, in place of taking the most probable tokens.

    Raises:
        ValueError: if one of the numbers is out of range.

    Source: Zhou et al. 2020, appendix A.2 (4 rounds, 50 %); the corruption rate and the sampling are fairseq's.
    """

    model_type = "iterative_nat"

    source_copy: SourceCopyMode = "uniform"
    num_training_rounds: int = 4
    denoising_probability: float | int = 0.5
    corruption_rate: float | int = 0.33
    sample_predictions: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_training_rounds < 1:
            raise ValueError(f"`num_training_rounds` must be >= 1, got {self.num_training_rounds}.")
        for name in ("denoising_probability", "corruption_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}. Use 0 for none.")
        super().__post_init__(**kwargs)

"""`pipeline("nat-translation", model=...)`, in the place of the translation pipeline that transformers 5 dropped."""

from typing import Any

from transformers import Pipeline
from transformers.utils import ModelOutput


class NATTranslationPipeline(Pipeline):
    """Text in, `[{"translation_text": ...}]` out, for every seq2seq model; registered as `nat-translation`.

    A call takes a text or a list of texts and, beside `batch_size`:

    Args:
        truncation (`bool`, *optional*, defaults to `False`): cut sources to the model's positions. By default a longer
            one is an error.
        **generate_kwargs: passed on to `model.generate` (`max_iterations`, `length_beam`, `num_beams`, ...).
    """

    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False

    def _sanitize_parameters(
        self, truncation: bool | None = None, **generate_kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {} if truncation is None else {"truncation": truncation}, generate_kwargs, {}

    def preprocess(self, input_: str, truncation: Any = False, **_: Any) -> Any:
        """Encodes one text as a batch of one."""
        cut: dict[str, Any] = {"truncation": True, "max_length": self.model.config.max_position_embeddings}
        tokenizer: Any = self.tokenizer
        return tokenizer(input_, return_tensors="pt", return_token_type_ids=False, **(cut if truncation else {}))

    def _forward(self, input_tensors: Any, **generate_kwargs: Any) -> Any:
        model: Any = self.model
        return ModelOutput(sequences=model.generate(**input_tensors, **generate_kwargs))

    def postprocess(self, model_outputs: Any, **_: Any) -> list[dict[str, str]]:
        """Decodes the outputs of one text."""
        tokenizer: Any = self.tokenizer
        texts = tokenizer.batch_decode(model_outputs["sequences"], skip_special_tokens=True)
        return [{"translation_text": text} for text in texts]

"""Configuration fields that all non-autoregressive models share."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN


_LEAST_ONE = (
    *("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"),
    *("encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings"),
)
# What a decoder reads at masks, see `SourceCopy`.
SourceCopyMode = Literal["uniform", "uniform_shifted", "interpolate", "soft", "attention", "none"]


def require_buildable(config: PreTrainedConfig) -> None:
    """Raises ValueError for fields, as Marian names them, that no encoder and decoder can be built with."""
    for name in _LEAST_ONE:
        if getattr(config, name) < 1:
            raise ValueError(f"`{name}` must be >= 1, got {getattr(config, name)}.")
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"`{name}` must be in [0, 1], got {getattr(config, name)}.")
    if config.init_std < 0:
        raise ValueError(f"`init_std` must be >= 0, got {config.init_std}.")
    if config.activation_function not in ACT2FN:
        raise ValueError(f"`activation_function` must be one of {sorted(ACT2FN)}, got {config.activation_function!r}.")


@strict
class NATConfig(PreTrainedConfig):
    """Base configuration of the non-autoregressive models; the field names are Marian's.

    The defaults are the paper's `base` size. `mask_token_id` is a token of its own: `<unk>` stays an ordinary,
    legal output.

    Args:
        vocab_size (`int`, defaults to 32000): number of tokens of the joint vocabulary (V).
        d_model (`int`, defaults to 512): width of the layers (D).
        encoder_layers (`int`, defaults to 6): number of encoder layers.
        decoder_layers (`int`, defaults to 6): number of decoder layers.
        encoder_attention_heads (`int`, defaults to 8): heads of each encoder layer; they divide `d_model`.
        decoder_attention_heads (`int`, defaults to 8): heads of each decoder layer; they divide `d_model`.
        encoder_ffn_dim (`int`, defaults to 2048): width of the encoder's feed-forward layers.
        decoder_ffn_dim (`int`, defaults to 2048): width of the decoder's feed-forward layers.
        activation_function (`str`, defaults to `"relu"`): activation of the feed-forward layers.
        dropout (`float`, defaults to 0.1): dropout of embeddings and layer outputs, in [0, 1].
        attention_dropout (`float`, defaults to 0.0): dropout of attention weights, in [0, 1].
        activation_dropout (`float`, defaults to 0.0): dropout inside the feed-forward layers, in [0, 1].
        init_std (`float`, defaults to 0.02): standard deviation of initial weights.
        scale_embedding (`bool`, defaults to `True`): multiply token embeddings by sqrt(D).
        max_position_embeddings (`int`, defaults to 1024): longest source and target, in tokens with EOS.
        position_embedding_type (`"sinusoidal"` or `"learned"`, defaults to `"sinusoidal"`): positions of both sides.
            The paper's are learned; they start from N(0, `init_std`), far below the token embeddings, and take long
            to be of use.
        pad_token_id (`int`, defaults to 0): padding, on the right.
        bos_token_id (`int`, *optional*, defaults to 1): never written by a model.
        eos_token_id (`int`, defaults to 2): ends source and target.
        mask_token_id (`int`, defaults to 4): token to predict in a canvas.
        label_smoothing (`float`, defaults to 0.1): uniform probability mass of the word targets, in [0, 1).

    Raises:
        ValueError: if heads do not divide `d_model`, `label_smoothing` is out of range, or a special token id is
            outside the vocabulary or shared.
    """

    keys_to_ignore_at_inference = [
        "length_logits",
        "loss_components",
        "token_shares",
        "encoder_last_hidden_state",
        "encoder_hidden_states",
        "encoder_attentions",
        "decoder_hidden_states",
        "decoder_attentions",
        "cross_attentions",
    ]
    attribute_map = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    vocab_size: int = 32000
    d_model: int = 512
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_attention_heads: int = 8
    decoder_attention_heads: int = 8
    encoder_ffn_dim: int = 2048
    decoder_ffn_dim: int = 2048
    activation_function: str = "relu"
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    init_std: float = 0.02
    scale_embedding: bool = True
    max_position_embeddings: int = 1024
    position_embedding_type: Literal["sinusoidal", "learned"] = "sinusoidal"
    pad_token_id: int = 0
    bos_token_id: int | None = 1
    eos_token_id: int = 2
    mask_token_id: int = 4
    label_smoothing: float | int = 0.1
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        require_buildable(self)
        for name in ("encoder_attention_heads", "decoder_attention_heads"):
            if self.d_model % getattr(self, name):
                raise ValueError(f"`{name}` must divide `d_model` = {self.d_model}, got {getattr(self, name)}.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1), got {self.label_smoothing}. Use 0 for none.")
        special = {name: getattr(self, name) for name in ("pad_token_id", "eos_token_id", "mask_token_id")}
        for name, token_id in {**special, "bos_token_id": self.bos_token_id}.items():
            if token_id is not None and not 0 <= token_id < self.vocab_size:
                raise ValueError(f"`{name}` must be in [0, `vocab_size` = {self.vocab_size}), got {token_id}.")
        if len(set(special.values())) < len(special):
            raise ValueError(f"Pad, EOS and mask must be three different tokens, got {special}.")
        super().__post_init__(**kwargs)

    @property
    def longest_target(self) -> int:
        """Tokens of the longest target that the decoder reads, with EOS."""
        return self.max_position_embeddings


@strict
class LengthNATConfig(NATConfig):
    """Base configuration of the models that predict the target length before they decode.

    Args:
        length_loss_weight (`float`, defaults to 0.1): weight of the length loss beside the word loss, at least 0.
        length_prediction (`"offset"` or `"absolute"`, defaults to `"offset"`): whether a length class stands for the
            target length minus the source length or for the target length itself.
        num_length_bins (`int`, defaults to 256): number of length classes (M), at least 2.

    Raises:
        ValueError: if `length_loss_weight` or `num_length_bins` is out of range.

    Source: Zhou et al. 2020, appendix A.2 (256 classes); the offsets and the weight are fairseq's.
    """

    length_loss_weight: float | int = 0.1
    length_prediction: Literal["offset", "absolute"] = "offset"
    num_length_bins: int = 256

    def __post_init__(self, **kwargs: Any) -> None:
        if self.length_loss_weight < 0:
            raise ValueError(f"`length_loss_weight` must be >= 0, got {self.length_loss_weight}.")
        if self.num_length_bins < 2:
            raise ValueError(f"`num_length_bins` must be >= 2, got {self.num_length_bins}.")
        super().__post_init__(**kwargs)


@strict
class InsertionNATConfig(NATConfig):
    """Base configuration of the models that insert tokens into an empty canvas; the decoder reads BOS before it.

    Args:
        bos_token_id (`int`, defaults to 1): opens the canvas; the slot before the first token lies behind it.

    Raises:
        ValueError: if `bos_token_id` is the padding.
    """

    bos_token_id: int = 1

    def __post_init__(self, **kwargs: Any) -> None:
        if self.bos_token_id == self.pad_token_id:
            raise ValueError(f"`bos_token_id` must not be the padding, got {self.bos_token_id}. It opens the canvas.")
        super().__post_init__(**kwargs)

    @property
    def longest_target(self) -> int:
        """See [`NATConfig.longest_target`]; the decoder also reads BOS."""
        return self.max_position_embeddings - 1


@strict
class GlancingConfig(NATConfig):
    """Base configuration of the models that can glance at the target in training, see [`Glancing`].

    Args:
        glancing_ratio (`float`, defaults to 0.0): target tokens revealed per wrong token of the first pass, in
            [0, 1]; 0 switches the first pass off.
        glancing_end_ratio (`float`, *optional*): value that the ratio changes to, by default `glancing_ratio`.
        glancing_steps (`int`, *optional*): training batches (updates times accumulated batches) in which it does so,
            linearly; at least 1, and needed with `glancing_end_ratio`.

    Raises:
        ValueError: if a number is out of its range, or one of `glancing_end_ratio` and `glancing_steps` is missing.

    Source: Qian et al. 2021, from 0.5 to 0.3 over all updates; Huang et al. 2022, from 0.5 to 0.1 over two thirds.
    """

    glancing_ratio: float | int = 0.0
    glancing_end_ratio: float | int | None = None
    glancing_steps: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for name in ("glancing_ratio", "glancing_end_ratio"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {value}. Use 0 for no glancing.")
        if (self.glancing_end_ratio is None) != (self.glancing_steps is None):
            raise ValueError(
                "`glancing_end_ratio` and `glancing_steps` belong together, got "
                f"{self.glancing_end_ratio} and {self.glancing_steps}. Give both, or none for a constant ratio."
            )
        if self.glancing_steps is not None and self.glancing_steps < 1:
            raise ValueError(f"`glancing_steps` must be >= 1, got {self.glancing_steps}.")
        super().__post_init__(**kwargs)

    @property
    def is_glancing(self) -> bool:
        """Whether a first pass reveals target tokens at any time of the training."""
        return bool(self.glancing_ratio or self.glancing_end_ratio)

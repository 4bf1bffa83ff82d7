#!/usr/bin/env python
"""Makes checkpoints with random weights and sentences of one length, for timings that say nothing of quality.

    python scripts/random_checkpoints.py --size base --vocab_size 32000 --length 28 --output_dir runs/random

Folders: `teacher` (MarianMT; it never ends by itself, so limit it: `max_new_tokens=28`), `vanilla_nat`, `cmlm` and
`da_transformer` (a graph of 4 vertices a source token), which write as many tokens as the source has, and `ctc_nat`
(2 frames a source token); with one decoder layer `teacher_shallow` and, with the others in the encoder,
`teacher_deep_shallow` and `ctc_nat_deep_shallow`; beside them `sentences.txt`, each sentence of so many tokens with
EOS.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_nat.base.files import atomic_path
from hf_nat.data.tokenizer import SPECIAL_TOKENS
from hf_nat.models import ARCHITECTURES, marian_config, new_teacher, size_config


STUDENTS: dict[str, dict[str, Any]] = {
    "vanilla_nat": {"num_length_bins": 2},  # the length of the source, and one less
    "cmlm": {"num_length_bins": 2},
    "ctc_nat": {"upsample_ratio": 2},
    "da_transformer": {"graph_size_ratio": 4},
}
# Of a token that is never written: finite, since 8 bits know no infinity.
_NEVER = -1e4
# How sure a graph is of its next vertex.
_SHARPNESS = 8.0


def word_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Returns a tokenizer whose tokens are the words `w5`, `w6` and so on, by their ids, and which ends in EOS."""
    special = list(SPECIAL_TOKENS.values())
    words = special + [f"w{number}" for number in range(len(special), vocab_size)]
    ids = {word: token_id for token_id, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL_TOKENS["unk_token"]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    eos = SPECIAL_TOKENS["eos_token"]
    backend.post_processor = processors.TemplateProcessing(single=f"$A {eos}", special_tokens=[(eos, ids[eos])])
    return PreTrainedTokenizerFast(tokenizer_object=backend, padding_side="right", **SPECIAL_TOKENS)


@torch.no_grad()
def _keep_length(student: Any) -> None:
    """Makes a student write as many tokens as the source has."""
    # The sum of an encoder state is then that of the bias alone, which only the second class sees.
    student.model.encoder.layers[-1].final_layer_norm.bias.fill_(1)
    student.length_predictor.classifier.weight[:] = torch.tensor([[0.0], [1.0]])


@torch.no_grad()
def _step_evenly(student: Any) -> None:
    """Makes the paths of a graph go on by `graph_size_ratio` vertices: they write as many tokens as the source has.

    In each head a query is the sinusoid of the position so many vertices later, a key that of its own position.
    """
    config, links, num_heads = student.config, student.links, student.config.decoder_attention_heads
    width = config.d_model // num_heads
    frequencies = torch.pi / torch.arange(1, width // 2 + 1)
    positions = torch.arange(config.max_position_embeddings).unsqueeze(1) * frequencies
    step = config.graph_size_ratio * frequencies
    links.embed_positions.weight[:, :width] = torch.cat([positions.cos(), positions.sin()], dim=1)
    turn = torch.cat(
        [torch.cat([step.cos().diag(), -step.sin().diag()], 1), torch.cat([step.sin().diag(), step.cos().diag()], 1)]
    )
    for projection, matrix in ((links.q_proj, _SHARPNESS * turn), (links.k_proj, torch.eye(width))):
        projection.weight.zero_()
        projection.bias.zero_()
        projection.weight[:, config.d_model : config.d_model + width] = matrix.repeat(num_heads, 1)


def _shallow_decoder(size: dict[str, Any], keep_depth: bool) -> dict[str, Any]:
    """Returns a size with one decoder layer, with `keep_depth` the others in the encoder."""
    moved = size["decoder_layers"] - 1 if keep_depth else 0
    return size | {"encoder_layers": size["encoder_layers"] + moved, "decoder_layers": 1}


def make(size: str, vocab_size: int, length: int, num_sentences: int, folder: Path) -> None:
    """Writes teacher, students and sentences.

    Args:
        size (`str`): a key of `hf_nat.models.sizes.SIZES`.
        vocab_size (`int`): number of tokens (V).
        length (`int`): tokens of a sentence, EOS counted.
        num_sentences (`int`): lines of `sentences.txt`.
        folder (`Path`): where all goes.
    """
    torch.manual_seed(0)
    tokenizer = word_tokenizer(vocab_size)
    vocabulary = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    full: dict[str, Any] = size_config(size)
    shallow, deep_shallow = (_shallow_decoder(full, keep_depth) for keep_depth in (False, True))
    made: dict[str, Any] = {}
    for name, layers in (("teacher", full), ("teacher_shallow", shallow), ("teacher_deep_shallow", deep_shallow)):
        made[name] = new_teacher(marian_config(size, vocab_size=vocab_size, **vocabulary | layers))
        made[name].final_logits_bias[0, list(vocabulary.values())] = _NEVER
    special = {**vocabulary, "mask_token_id": tokenizer.mask_token_id, "vocab_size": vocab_size}
    for name, fields in (*STUDENTS.items(), ("ctc_nat_deep_shallow", STUDENTS["ctc_nat"] | deep_shallow)):
        config_class, model_class = ARCHITECTURES[name.removesuffix("_deep_shallow")]
        student: Any = model_class(config_class(**full | special | fields))
        if "num_length_bins" in fields:
            _keep_length(student)
        if name == "da_transformer":
            _step_evenly(student)
        made[name] = student
    for name, model in made.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    ids = torch.randint(len(SPECIAL_TOKENS), vocab_size, (num_sentences, length - 1)).tolist()
    with atomic_path(folder / "sentences.txt") as temporary:
        lines = (" ".join(f"w{token_id}" for token_id in row) for row in ids)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line and makes everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--vocab_size", type=int, default=32000)
    parser.add_argument("--length", type=int, default=28, help="tokens of a sentence, EOS counted")
    parser.add_argument("--num_sentences", type=int, default=128)
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.length < 2 or args.num_sentences < 1:
        parser.error("--length must be >= 2 and --num_sentences >= 1")
    make(args.size, args.vocab_size, args.length, args.num_sentences, args.output_dir)


if __name__ == "__main__":
    main()

"""Random checkpoints read and write as many tokens as they are asked to."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch

from hf_nat.decoding import load_model


def test_random_checkpoints_read_and_write_so_many_tokens(tmp_path: Path) -> None:
    main = runpy.run_path(str(Path(__file__).parents[2] / "scripts/random_checkpoints.py"))["main"]
    main(["--size=nano", "--vocab_size=60", "--length=7", "--num_sentences=3", f"--output_dir={tmp_path}"])
    sentences = (tmp_path / "sentences.txt").read_text(encoding="utf-8").splitlines()
    teachers = {"teacher": (2, 2), "teacher_shallow": (2, 1), "teacher_deep_shallow": (3, 1)}
    expected = dict.fromkeys([*teachers, "vanilla_nat", "cmlm", "da_transformer"], 7)
    layers = teachers | {"ctc_nat_deep_shallow": (3, 1)}
    for name, length in (expected | {"ctc_nat": None, "ctc_nat_deep_shallow": None}).items():
        model, tokenizer = load_model(tmp_path / name, device="cpu")
        assert (model.config.encoder_layers, model.config.decoder_layers) == layers.get(name, (2, 2))
        batch = tokenizer(sentences, return_tensors="pt")
        assert batch["input_ids"].shape == (3, 7) and tokenizer.unk_token_id not in batch["input_ids"]
        with torch.inference_mode():
            limit = {"max_new_tokens": 7, "max_length": None} if name in teachers else {}
            output = model.generate(**batch, **limit)
        written = output[:, 1:] if name in teachers else output
        assert length is None or written.ne(tokenizer.pad_token_id).sum(dim=1).tolist() == [length] * 3

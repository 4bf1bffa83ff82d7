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
    expected = {"teacher": 7, "vanilla_nat": 7, "cmlm": 7, "ctc_nat": None, "da_transformer": None}
    for name, length in expected.items():
        model, tokenizer = load_model(tmp_path / name, device="cpu")
        batch = tokenizer(sentences, return_tensors="pt")
        assert batch["input_ids"].shape == (3, 7) and tokenizer.unk_token_id not in batch["input_ids"]
        with torch.inference_mode():
            limit = {"max_new_tokens": 7, "max_length": None} if name == "teacher" else {}
            output = model.generate(**batch, **limit)
        written = output[:, 1:] if name == "teacher" else output
        assert length is None or written.ne(tokenizer.pad_token_id).sum(dim=1).tolist() == [length] * 3

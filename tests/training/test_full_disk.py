"""A disk that is full while a checkpoint is written."""

from __future__ import annotations

import errno
import os

import pytest
from safetensors import SafetensorError
from transformers import PreTrainedModel, Trainer

from hf_nat.training.averaging import list_checkpoints


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
ERRORS = [
    (PreTrainedModel, "save_pretrained", FULL),
    (PreTrainedModel, "save_pretrained", SafetensorError("I/O error: No space left on device (os error 28)")),
    (Trainer, "_save_optimizer_and_scheduler", RuntimeError("PytorchStreamWriter failed writing file data/0")),
]


@pytest.mark.parametrize(("writer", "name", "error"), ERRORS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_the_last_good_checkpoint_stays_and_the_run_goes_on(writer, name, error, tiny_run, tmp_path):
    whole, calls = getattr(writer, name), []

    def full_at_the_second(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            whole(*args, **kwargs)  # Part of the checkpoint is there by then.
            raise error
        return whole(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, name, full_at_the_second)
        with pytest.raises(OSError, match="checkpoint-12, but it cannot be written: .* checkpoint is .*checkpoint-6"):
            tiny_run()
    run = tmp_path / "run"
    assert [folder.name for folder in list_checkpoints(run)] == ["checkpoint-6"]
    assert not (run / "checkpoint-12").exists()
    assert tiny_run()["num_updates"] == 12 and (run / "model.safetensors").is_file()


def test_a_fault_of_the_model_is_no_full_disk(tiny_run, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        tiny_run()

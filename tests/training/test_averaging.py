import pytest
import torch
from safetensors.torch import save_file

from hf_nat.training.averaging import average_checkpoints, list_checkpoints


def checkpoint(run, step, **tensors):
    folder = run / f"checkpoint-{step}"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "trainer_state.json").write_text("{}")
    return folder


def test_average_is_the_mean_in_the_checkpoints_dtype(tmp_path):
    folders = [
        checkpoint(tmp_path, step, weight=torch.full((2,), value, dtype=torch.bfloat16))
        for step, value in ((1, 1.0), (2, 1.0078125), (3, 1.0))
    ]
    average = average_checkpoints(folders)
    assert average["weight"].dtype == torch.bfloat16
    # A sum in bfloat16 would lose the small difference: 1 + 1.0078125 + 1 rounds to 3.
    expected = torch.tensor((1 + 1.0078125 + 1) / 3).to(torch.bfloat16)
    assert average["weight"].tolist() == [expected.item()] * 2


def test_different_parameters_are_refused(tmp_path):
    folders = [checkpoint(tmp_path, 1, a=torch.ones(1)), checkpoint(tmp_path, 2, b=torch.ones(1))]
    with pytest.raises(ValueError, match="got 'a' in only one of"):
        average_checkpoints(folders)


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="at least one checkpoint, got none"):
        average_checkpoints([])


def test_list_checkpoints_orders_by_step_and_skips_unfinished(tmp_path):
    for step in (1000, 200, 30):
        checkpoint(tmp_path, step, a=torch.ones(1))
    unfinished = checkpoint(tmp_path, 2000, a=torch.ones(1))
    (unfinished / "trainer_state.json").write_text("{")
    steps = ["checkpoint-30", "checkpoint-200", "checkpoint-1000"]
    assert [folder.name for folder in list_checkpoints(tmp_path)] == steps
    (unfinished / "trainer_state.json").unlink()
    assert [folder.name for folder in list_checkpoints(tmp_path)] == steps

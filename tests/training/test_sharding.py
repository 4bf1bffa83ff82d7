"""Models cut into pieces, here by FSDP over one process: what is whole again is what was cut."""

import pytest
import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from hf_nat.models import ARCHITECTURES, marian_config, new_teacher, size_config
from hf_nat.training.sharding import is_sharded, set_weights, whole_model


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def build(model_type):
    fields = {"vocab_size": 40, "d_model": 16, "max_position_embeddings": 32}
    if model_type == "marian":
        return new_teacher(marian_config("nano", pad_token_id=0, bos_token_id=1, eos_token_id=2, **fields))
    config_class, model_class = ARCHITECTURES[model_type]
    return model_class(config_class(**{**size_config("nano"), **fields}))


def shard(model):
    for layer in [*model.model.encoder.layers, *model.model.decoder.layers]:
        fully_shard(layer)
    model.set_input_embeddings(model.get_input_embeddings())
    fully_shard(model)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())


@pytest.mark.parametrize("model_type", ["marian", *ARCHITECTURES])
def test_whole_model_is_an_ordinary_one_with_the_same_weights(process_group, model_type):
    model = build(model_type).eval()
    kind, expected = type(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shard(model)
    assert is_sharded(model) and type(model) is not kind
    state = torch.get_rng_state()
    whole = whole_model(model)
    assert torch.equal(torch.get_rng_state(), state), "evaluation must not change the course of the training"
    assert type(whole) is kind and not is_sharded(whole) and not whole.training
    assert whole.generation_config == model.generation_config
    assert whole.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in whole.state_dict().items())
    assert whole.lm_head.weight is whole.model.encoder.embed_tokens.weight, "tied weights stay tied"


def test_a_model_in_one_piece_is_not_copied():
    model = build("cmlm")
    assert whole_model(model) is model


@pytest.mark.parametrize("cut", [False, True])
def test_weights_are_set_by_name(process_group, cut):
    model, other = build("cmlm"), build("cmlm")
    if cut:
        shard(model)
    expected = {name: tensor + 1 for name, tensor in other.state_dict().items()}
    del expected["lm_head.weight"], expected["model.encoder.embed_tokens.weight"]  # as a checkpoint has it
    set_weights(model, expected)
    assert is_sharded(model) == cut
    state = whole_model(model).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert torch.equal(state["lm_head.weight"], expected["model.shared.weight"])

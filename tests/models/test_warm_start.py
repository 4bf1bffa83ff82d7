"""Students that start from a teacher of another depth."""

import pytest
import torch
from nat_model_tester import VOCAB_SIZE, tiny_teacher

from hf_nat.models import ARCHITECTURES
from hf_nat.models.warm_start import copy_blocks, selected_layers


@pytest.mark.parametrize(
    ("num_layers", "num_wanted", "selection", "expected"),
    [
        (6, 6, "spread", [0, 1, 2, 3, 4, 5]),
        (6, 3, "spread", [0, 2, 5]),
        (6, 2, "spread", [0, 5]),
        (6, 1, "spread", [0]),
        (3, 5, "spread", [0, 0, 1, 1, 2]),
        (6, 2, "first", [0, 1]),
        (6, 2, "last", [4, 5]),
    ],
)
def test_layers_are_chosen_in_their_order(num_layers, num_wanted, selection, expected):
    assert selected_layers(num_layers, num_wanted, selection) == expected


@pytest.mark.parametrize("selection", ("first", "last"))
def test_the_first_of_too_few_layers_are_an_error(selection):
    with pytest.raises(ValueError, match=f"must be spread for .*, got '{selection}' for 3 of 2"):
        selected_layers(2, 3, selection)


def test_a_student_that_writes_word_by_word_has_the_teachers_bias():
    teacher, student = tiny_teacher(encoder_layers=2), tiny_teacher(vocab_size=VOCAB_SIZE + 1)
    teacher.final_logits_bias.normal_()
    copy_blocks(student, teacher, VOCAB_SIZE)
    assert torch.equal(student.final_logits_bias[:, :-1], teacher.final_logits_bias)
    assert student.final_logits_bias[0, -1] == 0


@pytest.mark.parametrize("selection", ("spread", "first", "last"))
def test_a_shallow_student_has_the_teachers_layers(selection):
    teacher = tiny_teacher(encoder_layers=3, decoder_layers=3)
    student = ARCHITECTURES["vanilla_nat"][1].from_teacher(
        teacher,
        vocab_size=VOCAB_SIZE + 2,
        mask_token_id=VOCAB_SIZE,
        encoder_layers=2,
        decoder_layers=1,
        layer_selection=selection,
    )
    assert (len(student.model.encoder.layers), len(student.model.decoder.layers)) == (2, 1)
    for side, wanted in (("encoder", 2), ("decoder", 1)):
        for layer, source in enumerate(selected_layers(3, wanted, selection)):
            own, other = (getattr(model.model, side).layers for model in (student, teacher))
            expected = other[source].state_dict()
            assert all(torch.equal(value, expected[name]) for name, value in own[layer].state_dict().items())

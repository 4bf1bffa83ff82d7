"""The loop on a model whose rounds are scripted, and what needs several candidates of a sentence."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from nat_model_tester import (
    EOS,
    LENGTH_MODEL_TYPES,
    PAD,
    TINY,
    assert_translations,
    tiny_batch,
    tiny_model,
    tiny_teacher,
)
from torch import nn
from torch.testing import assert_close
from transformers.generation import BaseStreamer

from hf_nat.models import NATConfig, NATGenerationMixin, NATModel, NATPreTrainedModel, NATState
from hf_nat.models.word_choice import _argmax, _whole_blocks, average_logits


@dataclasses.dataclass(frozen=True)
class CountdownState(NATState):
    rounds_needed: torch.Tensor = None


class CountdownModel(NATGenerationMixin, NATPreTrainedModel):
    """Appends one token a round, as often as the first source token says, and has a knob of its own."""

    generation_defaults = {**NATGenerationMixin.generation_defaults, "first_token": 10}

    def __init__(self, config: NATConfig) -> None:
        super().__init__(config)
        self.model = NATModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def init_state(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        members: tuple,
        encoder_hidden_states: tuple[torch.Tensor, ...],
        settings: SimpleNamespace,
    ) -> CountdownState:
        self.live_rows: list[int] = []
        self.settings = settings
        tokens = torch.full((len(input_ids), 1), EOS)
        return CountdownState(
            input_ids=input_ids,
            attention_mask=attention_mask,
            members=members,
            encoder_hidden_states=encoder_hidden_states,
            tokens=tokens,
            scores=torch.zeros(tokens.shape),
            finished=torch.zeros(len(input_ids), dtype=torch.bool),
            max_iterations=settings.max_iterations,
            rounds_needed=input_ids[:, 0] - 4,
        )

    def refine(self, state: CountdownState) -> CountdownState:
        self.live_rows.append(len(state.tokens))
        assert torch.equal(state.rounds_needed, state.input_ids[:, 0] - 4)
        assert len(state.encoder_hidden_states[0]) == len(state.attention_mask) == len(state.tokens)
        assert state.intermediate == ()
        new = state.input_ids[:, :1]
        return dataclasses.replace(
            state,
            tokens=torch.cat([new, state.tokens], dim=1),
            scores=torch.cat([torch.full(new.shape, -1.0 - state.iteration), state.scores], dim=1),
            finished=state.rounds_needed <= state.iteration + 1,
            intermediate=(torch.cat([new, new, state.tokens], dim=1),),
        )


@pytest.fixture
def countdown() -> CountdownModel:
    return CountdownModel(NATConfig(**TINY)).eval()


# Rows that need 3, 1, 2 and 4 rounds.
INPUT_IDS = torch.tensor([[7, 11, EOS], [5, EOS, PAD], [6, EOS, PAD], [8, 9, EOS]])


def test_loop_drops_finished_rows_and_restores_the_order(countdown: CountdownModel) -> None:
    output = countdown.generate(INPUT_IDS, return_dict_in_generate=True)
    assert output.sequences.tolist() == [
        [7, 7, 7, EOS, PAD],
        [5, EOS, PAD, PAD, PAD],
        [6, 6, EOS, PAD, PAD],
        [8, 8, 8, 8, EOS],
    ]
    assert output.iterations.tolist() == [3, 1, 2, 4]
    assert output.token_scores[2].tolist() == [-2, -1, 0, 0, 0]
    assert output.sequences_scores.tolist() == [-2.0, -1.0, -1.5, -2.5]
    assert countdown.live_rows == [4, 3, 2, 1]


def test_loop_ends_at_max_iterations(countdown: CountdownModel) -> None:
    output = countdown.generate(INPUT_IDS, max_iterations=2, return_dict_in_generate=True)
    assert output.sequences.tolist() == [[7, 7, EOS], [5, EOS, PAD], [6, 6, EOS], [8, 8, EOS]]
    assert output.iterations.tolist() == [2, 1, 2, 2]


def test_loop_keeps_all_rows_under_synced_gpus(countdown: CountdownModel) -> None:
    output = countdown.generate(INPUT_IDS, max_iterations=5, synced_gpus=True, return_dict_in_generate=True)
    assert countdown.live_rows == [4] * 5
    assert output.iterations.tolist() == [5] * 4


def test_history_holds_initial_intermediate_and_final_canvases(countdown: CountdownModel) -> None:
    history = countdown.generate(INPUT_IDS, return_history=True).history
    assert [canvas.tolist() for canvas in history[2]] == [
        [EOS],
        [6, 6, EOS],
        [6, EOS],
        [6, 6, 6, EOS],
        [6, 6, EOS],
    ]
    assert [len(canvases) for canvases in history] == [7, 3, 5, 9]


def test_streamer_gets_the_canvases_of_every_round(countdown: CountdownModel) -> None:
    class Recorder(BaseStreamer):
        puts: list = []

        def put(self, value: list[torch.Tensor]) -> None:
            self.puts.append([canvas.tolist() for canvas in value])

        def end(self) -> None:
            self.puts.append("end")

    streamer = Recorder()
    with_streamer = countdown.generate(INPUT_IDS[1:3], streamer=streamer)
    assert streamer.puts == [
        [[[EOS], [EOS]]],
        [[[5, 5, EOS], [6, 6, EOS]], [[5, EOS], [6, EOS]]],
        [[[6, 6, 6, EOS]], [[6, 6, EOS]]],
        "end",
    ]
    assert torch.equal(with_streamer, countdown.generate(INPUT_IDS[1:3]))


def test_collapse_repeats_shortens_and_rescores(countdown: CountdownModel) -> None:
    output = countdown.generate(INPUT_IDS, collapse_repeats=True, return_dict_in_generate=True)
    assert output.sequences.tolist() == [[7, EOS], [5, EOS], [6, EOS], [8, EOS]]
    assert output.sequences_scores.tolist() == [-3.0, -1.0, -2.0, -4.0]


def test_knobs_are_those_of_the_architecture(countdown: CountdownModel) -> None:
    countdown.generate(INPUT_IDS)
    assert countdown.settings.first_token == 10
    countdown.generation_config.first_token = 11
    countdown.generate(INPUT_IDS)
    assert countdown.settings.first_token == 11
    countdown.generate(INPUT_IDS, first_token=12, max_iterations=None)
    assert (countdown.settings.first_token, countdown.settings.max_iterations) == (12, 10)
    with pytest.raises(ValueError, match=r"got \['length_beam'\]"):
        countdown.generate(INPUT_IDS, length_beam=2)
    with pytest.raises(ValueError, match="at least 2 candidates to choose from, got 1"):
        countdown.generate(INPUT_IDS, teacher=tiny_teacher())


def test_model_without_rounds_of_its_own_is_an_error() -> None:
    class Incomplete(NATGenerationMixin):
        def __init__(self) -> None:
            pass

    with pytest.raises(NotImplementedError, match="Incomplete must define `init_state`"):
        Incomplete().init_state(INPUT_IDS, INPUT_IDS, (), (), SimpleNamespace())
    with pytest.raises(NotImplementedError, match="Incomplete must define `refine`"):
        Incomplete().refine(None)


@pytest.mark.parametrize("num_classes", [1, 63, 64, 128, 200])
def test_argmax_in_blocks_is_the_first_of_equal_ones(num_classes: int) -> None:
    # Few values, so that most rows have equal ones in several blocks.
    logits = torch.randint(0, 3, (50, num_classes)).float()
    logits[:5] = float("-inf")
    assert torch.equal(_argmax(logits), logits.argmax(dim=1))


def test_classes_that_fill_a_block_have_no_probability() -> None:
    weight, states = torch.randn(70, 4), torch.randn(9, 4)
    filled = torch.nn.functional.linear(states, *_whole_blocks(weight, None))
    assert filled.shape == (9, 128)
    torch.testing.assert_close(filled.softmax(dim=1)[:, :70], (states @ weight.T).softmax(dim=1))
    assert not filled.softmax(dim=1)[:, 70:].any()


def test_average_logits_averages_probabilities() -> None:
    first, second = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    averaged = average_logits([first, second])
    assert_close(averaged.exp(), (first.softmax(dim=-1) + second.softmax(dim=-1)) / 2)
    assert torch.equal(average_logits([first.bfloat16()]), first.bfloat16().float())


@pytest.fixture(params=LENGTH_MODEL_TYPES)
def model(request: pytest.FixtureRequest) -> NATPreTrainedModel:
    return tiny_model(request.param)


def candidates_one_by_one(model: NATPreTrainedModel, batch: dict, num_candidates: int, monkeypatch) -> list:
    """Outputs for the best length alone, for the second best alone, ..."""
    original = model.length_predictor.candidates

    def only(index: int):
        return lambda logits, lengths, _beam, cap: original(logits, lengths, num_candidates, cap)[:, [index]]

    outputs = []
    for index in range(num_candidates):
        with monkeypatch.context() as patch:
            patch.setattr(model.length_predictor, "candidates", only(index))
            outputs.append(model.generate(batch["input_ids"], return_dict_in_generate=True))
    return outputs


def test_length_beam_returns_the_candidate_of_best_mean_log_probability(model, monkeypatch) -> None:
    if type(model)._candidate_scores is not NATGenerationMixin._candidate_scores:
        pytest.skip("chooses by scores of its own")
    batch = tiny_batch()
    candidates = candidates_one_by_one(model, batch, 4, monkeypatch)
    output = model.generate(batch["input_ids"], length_beam=4, return_dict_in_generate=True, return_history=True)
    assert_translations(output.sequences)
    winners = torch.stack([candidate.sequences_scores for candidate in candidates]).argmax(dim=0)
    assert winners.any()
    for row, winner in enumerate(winners.tolist()):
        expected = candidates[winner].sequences[row]
        expected = expected[expected != PAD]
        assert torch.equal(output.sequences[row, : len(expected)], expected)
        assert output.sequences[row, len(expected) :].eq(PAD).all()
        assert_close(output.sequences_scores[row], candidates[winner].sequences_scores[row], rtol=1e-4, atol=1e-5)
        assert output.iterations[row] == candidates[winner].iterations[row]
        assert torch.equal(output.history[row][-1], expected)


def test_teacher_chooses_the_candidate_it_finds_most_probable(model, monkeypatch) -> None:
    batch, teacher = tiny_batch(), tiny_teacher()
    candidates = candidates_one_by_one(model, batch, 4, monkeypatch)
    output = model.generate(batch["input_ids"], length_beam=4, teacher=teacher, return_dict_in_generate=True)
    own_choice = model.generate(batch["input_ids"], length_beam=4)
    for row in range(len(output.sequences)):
        source = batch["input_ids"][row : row + 1, : int(batch["attention_mask"][row].sum())]
        translations = [candidate.sequences[row][candidate.sequences[row] != PAD] for candidate in candidates]
        # The teacher's own loss is the mean negative log-probability over all tokens, EOS counted.
        losses = [float(teacher(input_ids=source, labels=t.unsqueeze(0)).loss.detach()) for t in translations]
        expected = translations[losses.index(min(losses))]
        assert torch.equal(output.sequences[row, : len(expected)], expected)
        assert output.sequences[row, len(expected) :].eq(PAD).all()
    assert output.sequences.shape != own_choice.shape or not torch.equal(output.sequences, own_choice)


def test_unusable_teacher_or_beam_is_an_error(model: NATPreTrainedModel) -> None:
    source = torch.tensor([[5, 6, EOS]])
    with pytest.raises(ValueError, match="at least 2 candidates to choose from, got 1"):
        model.generate(source, teacher=tiny_teacher())
    with pytest.raises(ValueError, match=r"\(24 tokens, EOS 2\), got 20 tokens, EOS 2"):
        model.generate(source, teacher=tiny_teacher(vocab_size=20), length_beam=2)
    with pytest.raises(ValueError, match="`length_beam` must be at most the .* length classes, got 64"):
        model.generate(source, length_beam=64)
    with pytest.raises(ValueError, match="`length_beam` must be >= 1, got 0"):
        model.generate(source, length_beam=0)


def test_teacher_may_lack_the_student_s_last_special_tokens() -> None:
    student = type(tiny_model("cmlm")).from_teacher(tiny_teacher(), vocab_size=26, mask_token_id=25, bos_token_id=24)
    sequences = student.eval().generate(torch.tensor([[5, 6, EOS]]), length_beam=3, teacher=tiny_teacher())
    assert_translations(sequences)

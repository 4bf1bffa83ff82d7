"""The mixture of experts, uniform and hard by default: EM, decoding with one expert, checkpoints, training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from nat_model_tester import BOS, EOS, PAD, TARGETS, TINY, VOCAB_SIZE, tiny_batch
from torch.nn.functional import cross_entropy, log_softmax
from torch.testing import assert_close
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    MarianMTModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)
from transformers.modeling_outputs import Seq2SeqLMOutput

from hf_nat.base.config import load_config
from hf_nat.base.utils import read_json
from hf_nat.data.corpora import load_corpus
from hf_nat.data.toy import ToyTask, generate_toy_corpus
from hf_nat.decoding import DecodingArguments, load_model, translate
from hf_nat.distillation import DistillArguments
from hf_nat.evaluation import EvaluateArguments, evaluate
from hf_nat.models import (
    MoEMarianConfig,
    MoEMarianMTModel,
    MoESeq2SeqLMOutput,
    marian_config,
    moe_marian_config,
    new_teacher,
)
from hf_nat.steps import distill
from hf_nat.training import expert_usage
from hf_nat.training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments
from hf_nat.training.expert_usage import ExpertUsage
from hf_nat.training.run import train


K = 3
SPECIAL = {"pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": BOS}


def tiny_moe(num_experts: int = K, seed: int = 0, **fields: Any) -> MoEMarianMTModel:
    """A model in evaluation mode whose weights are large enough for varied outputs and winners."""
    settings = {**TINY, "init_std": 0.3, "dropout": 0.0, **SPECIAL, **fields}
    torch.manual_seed(seed)
    model = new_teacher(moe_marian_config("nano", num_experts=num_experts, **settings))
    assert isinstance(model, MoEMarianMTModel)
    return model.eval()


def plain_copy(model: MoEMarianMTModel) -> MarianMTModel:
    """transformers' own model with the same weights, the experts' tokens being words like others."""
    fields = {**TINY, "vocab_size": model.config.vocab_size, "init_std": 0.3, "dropout": model.config.dropout}
    plain = MarianMTModel(marian_config("nano", **SPECIAL, **fields))
    plain.load_state_dict(model.state_dict())
    return plain.eval()


def start_with(expert: int | torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    shifted = labels.masked_fill(labels.eq(-100), PAD).roll(1, dims=1)
    shifted[:, 0] = VOCAB_SIZE + expert
    return shifted


# E-step


def test_e_step_is_that_of_plain_models_on_single_sentences() -> None:
    model, batch = tiny_moe(), tiny_batch()
    plain, expected = plain_copy(model), torch.zeros(len(TARGETS), K)
    for row, target in enumerate(TARGETS):
        source = batch["input_ids"][row : row + 1, : int(batch["attention_mask"][row].sum())]
        for expert in range(K):
            decoder_input_ids = torch.tensor([[VOCAB_SIZE + expert, *target[:-1]]])
            logits = plain(input_ids=source, decoder_input_ids=decoder_input_ids).logits[0, :, :VOCAB_SIZE]
            expected[row, expert] = log_softmax(logits, dim=-1)[range(len(target)), target].sum()
    output = model(**batch)
    assert_close(output.expert_log_probs, expected, rtol=1e-4, atol=1e-4)
    assert output.experts.tolist() == expected.argmax(dim=1).tolist()
    assert len(set(output.experts.tolist())) > 1, "a test of one winner alone proves little"
    assert output.expert_counts.tolist() == [output.experts.tolist().count(expert) for expert in range(K)]
    assert not output.expert_log_probs.requires_grad


def test_e_step_has_no_dropout_and_leaves_the_random_state() -> None:
    model, batch = tiny_moe(dropout=0.5, attention_dropout=0.3, activation_dropout=0.3), tiny_batch()
    expected = model(**batch).expert_log_probs
    state = torch.get_rng_state()
    model.train()
    assert torch.equal(model.expert_log_probs(**batch), expected)
    assert torch.equal(torch.get_rng_state(), state)
    output = model(**batch)
    assert torch.equal(output.expert_log_probs, expected)
    assert not torch.equal(torch.get_rng_state(), state), "the M-step has dropout"


@pytest.mark.parametrize("fails", [False, True])
def test_e_step_restores_the_mode_of_every_module(fails: bool) -> None:
    model = tiny_moe(dropout=0.1).train()
    model.get_encoder().eval()  # a frozen part
    expected = {name: module.training for name, module in model.named_modules()}
    assert len(set(expected.values())) == 2
    if fails:

        def fail(*_: Any) -> None:
            assert not model.training
            raise RuntimeError("decoder")

        model.get_decoder().register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="decoder"):
            model(**tiny_batch())
    else:
        model(**tiny_batch())
    assert {name: module.training for name, module in model.named_modules()} == expected


def test_e_step_costs_one_encoder_pass_and_one_decoder_pass_per_expert() -> None:
    model, calls = tiny_moe(), []
    model.get_encoder().register_forward_hook(lambda *_: calls.append("encoder"))
    model.get_decoder().register_forward_hook(lambda *_: calls.append("decoder"))
    model.expert_log_probs(**tiny_batch())
    assert (calls.count("encoder"), calls.count("decoder")) == (1, K)
    model(**tiny_batch())
    assert (calls.count("encoder"), calls.count("decoder")) == (1 + 2, K + K + 1)


def test_winner_does_not_depend_on_padding_or_other_rows() -> None:
    model = tiny_moe()
    full = model(**tiny_batch())
    for rows in ([0], [1], [2], [3], [3, 1], [2, 3, 0, 1]):
        part = model(**tiny_batch(rows, extra_padding=3))
        assert torch.equal(part.experts, full.experts[rows])
        assert_close(part.expert_log_probs, full.expert_log_probs[rows], rtol=1e-4, atol=1e-4)


def test_label_smoothing_bears_on_the_loss_alone() -> None:
    batch = tiny_batch()
    sharp, smooth = tiny_moe()(**batch), tiny_moe(label_smoothing=0.2)(**batch)
    assert torch.equal(smooth.expert_log_probs, sharp.expert_log_probs)
    words = smooth.logits[..., :VOCAB_SIZE].transpose(1, 2)
    assert_close(smooth.loss, cross_entropy(words, batch["labels"], label_smoothing=0.2))
    assert_close(sharp.loss, cross_entropy(words, batch["labels"]))


# M-step


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_m_step_is_the_cross_entropy_of_the_winner(dropout: float) -> None:
    model, batch = tiny_moe(dropout=dropout).train(), tiny_batch()
    torch.manual_seed(3)
    output = model(**batch)
    num_tokens = int(batch["labels"].ne(-100).sum())
    if not dropout:
        assert_close(output.loss, -output.expert_log_probs.max(dim=1).values.sum() / num_tokens)
    plain = plain_copy(model).train()
    torch.manual_seed(3)
    logits = plain(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=start_with(output.experts, batch["labels"]),
    ).logits[..., :VOCAB_SIZE]
    assert_close(output.logits[..., :VOCAB_SIZE], logits)
    assert_close(output.loss, cross_entropy(logits.transpose(1, 2), batch["labels"]))


def test_decoder_input_ids_switch_the_mixture_off() -> None:
    model, batch = tiny_moe(), tiny_batch()
    for expert in range(K):
        output = model(**batch, decoder_input_ids=start_with(expert, batch["labels"]))
        assert output.experts is None and output.expert_log_probs is None
        total = -model(**batch).expert_log_probs[:, expert].sum()
        assert_close(output.loss, total / batch["labels"].ne(-100).sum())
    with pytest.raises(ValueError, match="One of `labels` and `decoder_input_ids` must be given, got none"):
        model(batch["input_ids"])


def test_loss_of_batch_is_the_sum_over_micro_batches() -> None:
    model, batch = tiny_moe(label_smoothing=0.1), tiny_batch()
    num_items = int(batch["labels"].ne(-100).sum())
    parts = [model(**tiny_batch(rows), num_items_in_batch=num_items).loss for rows in ([3, 0], [1], [2])]
    assert_close(torch.stack(parts).sum(), model(**batch).loss)


def test_gradients_reach_everything_but_the_tokens_of_the_losers() -> None:
    model, batch = tiny_moe(num_experts=4, label_smoothing=0.1).train(), tiny_batch()
    output = model(**batch)
    output.loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            if not name.endswith("k_proj.bias"):  # shifts all scores of a query alike
                assert parameter.grad.any(), name
    reached = model.model.shared.weight.grad[VOCAB_SIZE:].any(dim=1).tolist()
    winners = set(output.experts.tolist())
    assert len(winners) < 4
    assert reached == [expert in winners for expert in range(4)]


def test_gradients_under_autocast_are_not_lost_to_the_e_step() -> None:
    model, batch = tiny_moe().train(), tiny_batch()
    gradients = []
    experts = model(**batch).experts
    for inputs in ({}, {"decoder_input_ids": start_with(experts, batch["labels"])}):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            model(**batch, **inputs).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() >= {"model.decoder.layers.0.fc1.weight"}
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_tuple_output_and_given_encoder_outputs() -> None:
    model, batch = tiny_moe(), tiny_batch()
    expected = model(**batch)
    assert torch.equal(model(**batch, return_dict=False)[0], expected.loss)
    encoded = model.get_encoder()(batch["input_ids"], batch["attention_mask"])
    output = model(encoder_outputs=encoded, attention_mask=batch["attention_mask"], labels=batch["labels"])
    assert_close(output.expert_log_probs, expected.expert_log_probs)
    assert_close(output.loss, expected.loss)


def test_one_expert_is_a_plain_marian() -> None:
    """With its token's embedding where Marian has that of padding, its own start token."""
    model, batch = tiny_moe(num_experts=1), tiny_batch()
    with torch.no_grad():
        model.model.shared.weight[PAD] = model.model.shared.weight[VOCAB_SIZE]
    plain = new_teacher(marian_config("nano", **SPECIAL, **TINY, dropout=0.0)).eval()
    weights = {
        name: w[..., :VOCAB_SIZE] if name == "final_logits_bias" else w[:VOCAB_SIZE] if len(w) == VOCAB_SIZE + 1 else w
        for name, w in model.state_dict().items()
    }
    plain.load_state_dict(weights)
    output, expected = model(**batch), plain(**batch)
    assert output.experts.tolist() == [0] * len(TARGETS)
    assert_close(output.logits[..., :VOCAB_SIZE], expected.logits)
    assert_close(output.loss, expected.loss)
    for settings in ({}, {"num_beams": 4}):
        sequences = [m.generate(batch["input_ids"], max_length=12, **settings)[:, 1:] for m in (model, plain)]
        assert torch.equal(*sequences)


# Generation


@pytest.mark.parametrize(
    "settings", [{}, {"num_beams": 4, "num_return_sequences": 4}, {"do_sample": True, "num_return_sequences": 8}]
)
def test_expert_tokens_are_never_generated(settings: dict[str, Any]) -> None:
    model, batch = tiny_moe(), tiny_batch()
    with torch.no_grad():
        model.final_logits_bias[:, VOCAB_SIZE:] = 100
    for expert in range(K):
        output = model.generate(batch["input_ids"], expert=expert, max_length=16, **settings)
        assert output[:, 0].eq(VOCAB_SIZE + expert).all()
        assert (output[:, 1:] < VOCAB_SIZE).all()
    assert model(**batch).logits[..., VOCAB_SIZE:].eq(float("-inf")).all()


def test_generate_chooses_the_expert() -> None:
    model, input_ids = tiny_moe(), tiny_batch()["input_ids"]
    by_expert = [model.generate(input_ids, expert=expert) for expert in range(K)]
    for expert, sequences in enumerate(by_expert):
        expected = plain_copy(model).generate(
            input_ids,
            decoder_start_token_id=VOCAB_SIZE + expert,
            suppress_tokens=model.config.expert_token_ids,
            generation_config=model.generation_config,
        )
        assert torch.equal(sequences, expected)
    assert torch.equal(model.generate(input_ids, labels=input_ids), by_expert[0])
    model.generation_config.decoder_start_token_id = VOCAB_SIZE + 1
    assert torch.equal(model.generate(input_ids), by_expert[1])
    model.generation_config.expert = 2
    assert torch.equal(model.generate(input_ids), by_expert[2])
    assert torch.equal(model.generate(input_ids, expert=0), by_expert[0])
    assert torch.equal(model.generate(input_ids, decoder_start_token_id=VOCAB_SIZE), by_expert[0])
    settings = GenerationConfig(expert=0, max_length=TINY["max_position_embeddings"])
    assert torch.equal(model.generate(input_ids, settings), by_expert[0])


def test_generate_of_a_missing_expert_is_an_error() -> None:
    model, input_ids = tiny_moe(), tiny_batch()["input_ids"]
    for expert in (-1, K):
        with pytest.raises(ValueError, match=rf"`expert` must be in \[0, 3\), the model's experts, got {expert}"):
            model.generate(input_ids, expert=expert)
    with pytest.raises(ValueError, match="Only one of `expert` and `decoder_start_token_id` must be given"):
        model.generate(input_ids, expert=0, decoder_start_token_id=4)


# Configuration, saving, loading


def test_config_puts_the_experts_behind_the_tokenizer() -> None:
    config = tiny_moe().config
    assert (config.vocab_size, config.decoder_vocab_size) == (VOCAB_SIZE + K, VOCAB_SIZE + K)
    assert config.expert_token_ids == [VOCAB_SIZE, VOCAB_SIZE + 1, VOCAB_SIZE + 2]
    assert config.decoder_start_token_id == VOCAB_SIZE
    MoEMarianConfig()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_experts": 0}, "`num_experts` must be >= 1, got 0"),
        ({"label_smoothing": 1.0}, r"`label_smoothing` must be in \[0, 1\), got 1.0"),
        ({"expert_token_ids": [7, 8]}, r"must be `num_experts` = 3 different tokens, got \[7, 8\]"),
        ({"expert_token_ids": [7, 7, 8]}, r"must be `num_experts` = 3 different tokens, got \[7, 7, 8\]"),
        ({"expert_token_ids": [8, 9, 10]}, r"must be in \[0, 10\) and none of pad, BOS and EOS, got \[8, 9, 10\]"),
        ({"expert_token_ids": [2, 8, 9]}, r"none of pad, BOS and EOS, got \[2, 8, 9\]"),
        ({"num_experts": 11}, r"must be in \[0, 10\)"),
    ],
)
def test_config_out_of_range_is_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoEMarianConfig(vocab_size=10, **SPECIAL, **fields)


def test_unknown_field_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"must be fields of `MoEMarianConfig`, got \['num_expert'\]"):
        moe_marian_config("nano", vocab_size=10, num_expert=2, **SPECIAL)


def test_save_and_load_gives_identical_model(tmp_path: Path) -> None:
    model, batch = tiny_moe(label_smoothing=0.1), tiny_batch()
    model.generation_config.expert = 1
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(loaded) is MoEMarianMTModel
    assert AutoConfig.from_pretrained(tmp_path).expert_token_ids == model.config.expert_token_ids
    assert loaded.lm_head.weight is loaded.model.shared.weight is loaded.model.decoder.embed_tokens.weight
    output, expected = loaded(**batch), model(**batch)
    assert torch.equal(output.loss, expected.loss)
    assert torch.equal(output.expert_log_probs, expected.expert_log_probs)
    sequences = loaded.generate(batch["input_ids"])
    assert sequences[:, 0].eq(VOCAB_SIZE + 1).all()
    assert torch.equal(sequences, model.generate(batch["input_ids"]))


# Training


def test_stock_trainer_trains_the_mixture(tmp_path: Path) -> None:
    model, batch = tiny_moe(dropout=0.1), tiny_batch()
    assert not hasattr(model, "prepare_decoder_input_ids_from_labels")
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        predict_with_generate=True,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    rows = [{name: batch[name][row] for name in batch} for row in range(len(TARGETS))]
    trainer = Seq2SeqTrainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    loss = trainer.train().training_loss
    metrics = trainer.evaluate(max_length=9)
    assert 1 < loss < 16 and 1 < metrics["eval_loss"] < 16
    trainer.save_model()
    assert (tmp_path / "modeling_moe_marian.py").exists()


@pytest.fixture(scope="module")
def moe_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Folder of a short run of a soft mixture with a learned prior, its corpus and its metrics."""
    folder = tmp_path_factory.mktemp("moe")
    corpus = generate_toy_corpus(
        folder / "corpus", ToyTask(num_words=12), sizes={"train": 60, "validation": 5, "test": 5}
    )
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 64}
    variant = {"prior": "learned", "assignment": "soft"}
    values = {
        "model_type": "moe_marian",
        "size": "nano",
        "model_config": json.dumps({**sizes, **variant, "num_experts": 2, "init_std": 0.3}),
        "corpus": corpus,
        "source_lang": "src",
        "target_lang": "tgt",
        "vocab_size": 120,
        "output_dir": folder / "run",
        "max_tokens": 200,
        "max_steps": 4,
        "gradient_accumulation_steps": 2,
        "logging_steps": 2,
        "label_smoothing": 0.1,
        "report_to": "none",
        "disable_tqdm": "true",
        "use_cpu": "true",
    }
    arguments = (ModelArguments, DataArguments, NATSeq2SeqTrainingArguments)
    metrics = train(*load_config(arguments, [f"--{key}={value}" for key, value in values.items()]))
    return folder / "run", corpus, metrics


def test_run_logs_the_experts_and_leaves_a_teacher(moe_run: tuple[Path, Path, dict[str, Any]]) -> None:
    folder, _, metrics = moe_run
    history = [log for log in read_json(folder / "trainer_state.json")["log_history"] if "loss" in log]
    assert [log["step"] for log in history] == [2, 4]
    for log in history:
        assert log["expert_share_0"] + log["expert_share_1"] == pytest.approx(1, abs=1e-3)
        assert 0 < log["expert_entropy"] <= math.log(2) + 1e-4
        # Per target token of both accumulation steps, not a multiple of it.
        assert log["loss"] == pytest.approx(metrics["eval_loss"], rel=0.4)
    model, tokenizer = load_model(folder)
    assert model.config.vocab_size == len(tokenizer) + 2
    assert (model.config.label_smoothing, model.config.prior, model.config.assignment) == (0.1, "learned", "soft")
    outputs = translate(model, tokenizer, ["bado kivu", "kivu"], expert=1, num_beams=2, with_scores=True)
    assert all(output.score is not None and output.score > float("-inf") for output in outputs)


@pytest.mark.parametrize("strategy", ["beam", "sampling"])
def test_distill_with_one_expert(moe_run: tuple[Path, Path, dict[str, Any]], tmp_path: Path, strategy: str) -> None:
    folder, corpus, _ = moe_run
    model, tokenizer = load_model(folder)
    written = {}
    for expert in (None, 0, 1):
        args = DistillArguments(
            teacher=str(folder),
            corpus=str(corpus),
            source_lang="src",
            target_lang="tgt",
            output_dir=str(tmp_path / f"{expert}"),
            strategy=strategy,
            num_beams=2,
            max_new_tokens=8,
            expert=expert,
        )
        distill(model, tokenizer, args)
        manifest = read_json(tmp_path / f"{expert}" / "manifest.json")
        assert manifest["decoding"].get("expert") == expert
        assert ("expert" in manifest["decoding"]) == (expert is not None)
        written[expert] = load_corpus(str(tmp_path / f"{expert}"), "train", source_lang="src", target_lang="tgt")[
            "translation"
        ]
    assert written[0] == written[None]
    assert written[0] != written[1]


def test_decoding_options_name_the_expert() -> None:
    model = tiny_moe()
    assert DecodingArguments(expert=0).options(model) == {"num_beams": 1, "expert": 0}
    assert DecodingArguments(expert=2, num_beams=3).options(model)["expert"] == 2
    assert "expert" not in DecodingArguments().options(model)
    with pytest.raises(ValueError, match="`expert` must be left out for a model without experts, got 0"):
        DecodingArguments(expert=0).options(plain_copy(model))


def test_evaluate_with_one_expert(moe_run: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, corpus, _ = moe_run
    args = EvaluateArguments(
        model=str(folder),
        corpus=str(corpus),
        source_lang="src",
        target_lang="tgt",
        output_dir=str(tmp_path),
        metrics=["bleu"],
    )
    hypotheses = {}
    for expert in (0, 1):
        decoding = DecodingArguments(expert=expert)
        assert evaluate(args, decoding)["decoding"]["expert"] == expert
        hypotheses[expert] = (tmp_path / "translations.txt").read_text(encoding="utf-8")
    assert hypotheses[0] != hypotheses[1]


def usage_of(counts: list[float], posteriors: list[list[float]]) -> MoESeq2SeqLMOutput:
    return MoESeq2SeqLMOutput(expert_counts=torch.tensor(counts), expert_posteriors=torch.tensor(posteriors))


def test_degenerate_mixtures_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(expert_usage.logger, "warning", messages.append)
    usage = ExpertUsage(Accelerator(cpu=True))
    usage.add(Seq2SeqLMOutput())
    assert usage.summary() == {}
    usage.add(usage_of([50, 30, 3], [[1.0, 0.0, 0.0]] * 83))
    usage.add(usage_of([10, 5, 2], [[0.5, 0.5, 0.0]] * 17))
    shares = {"expert_share_0": 0.6, "expert_share_1": 0.35, "expert_share_2": 0.05}
    assert usage.summary() == {**shares, "expert_entropy": round(0.17 * math.log(2), 4)}
    assert usage.summary() == {} and messages == []
    usage.add(usage_of([96, 4, 0], [[1.0, 0.0, 0.0]] * 100))
    shares = {"expert_share_0": 0.96, "expert_share_1": 0.04, "expert_share_2": 0.0}
    assert usage.summary() == {**shares, "expert_entropy": 0}
    assert len(messages) == 2
    assert "got 4.0% for expert 1" in messages[0] and "got 0.0% for expert 2" in messages[1]
    usage.add(usage_of([5 / 3] * 3, [[0.32, 0.34, 0.34]] * 5))
    assert usage.summary()["expert_share_2"] == pytest.approx(1 / 3, abs=1e-4)
    assert len(messages) == 3 and "got an entropy of 1.098 out of 1.099 nats" in messages[2]
    usage.add(usage_of([7.0], [[1.0]] * 7))
    assert usage.summary() == {"expert_share_0": 1.0, "expert_entropy": 0} and len(messages) == 3

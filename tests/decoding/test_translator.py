from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from nat_model_tester import save, tiny_student
from transformers import MarianMTModel

from hf_nat.decoding import Translation, Translator, load_model, token_batches, translate


UNSEEN = ["two dogs run", "the woman walks", "a red street", "hello hello", "the men in the park"]
BEAM = {"num_beams": 4, "length_penalty": 1.0, "early_stopping": True, "max_new_tokens": 12}


def raise_on_call(*args: object, **kwargs: object) -> None:
    raise AssertionError("The model must not be called.")


def log_probs_one_by_one(model: MarianMTModel, source: list[int], target: list[int]) -> list[float]:
    """Log-probability of each target token, every one from a forward pass over its own prefix."""
    prefix, result = [model.config.decoder_start_token_id], []
    for token in target:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([prefix])).logits[0, -1]
        result.append(logits.log_softmax(-1)[token].item())
        prefix.append(token)
    return result


def test_order_of_the_input_is_kept_and_batches_do_not_matter(copy_teacher, tiny_tokenizer, sentences):
    sources = [*sentences, *UNSEEN, ""]
    batched = translate(copy_teacher, tiny_tokenizer, sources, num_beams=4, max_new_tokens=12)
    alone = translate(copy_teacher, tiny_tokenizer, sources, max_batch_tokens=1, num_beams=4, max_new_tokens=12)
    backward = translate(copy_teacher, tiny_tokenizer, sources[::-1], num_beams=4, max_new_tokens=12)
    assert len({translation.text for translation in batched}) > 4, "the teacher should not say always the same"
    assert batched == alone == backward[::-1]


@pytest.mark.parametrize("num_beams", [1, 4])
def test_text_is_that_of_generate(copy_teacher, tiny_tokenizer, num_beams):
    settings = BEAM | {"num_beams": num_beams, "early_stopping": num_beams > 1}
    for source, translation in zip(UNSEEN, translate(copy_teacher, tiny_tokenizer, UNSEEN, **settings), strict=True):
        inputs = tiny_tokenizer(source, return_tensors="pt", return_token_type_ids=False)
        sequence = copy_teacher.generate(**inputs, **settings)[0]
        assert translation.text == tiny_tokenizer.decode(sequence, skip_special_tokens=True)
        assert translation.iterations is None


@pytest.mark.parametrize("num_beams", [1, 4])
def test_score_is_the_mean_log_prob_per_token_with_eos(copy_teacher, tiny_tokenizer, sentences, num_beams):
    settings = BEAM | {"num_beams": num_beams, "early_stopping": num_beams > 1}
    sources = [*sentences, *UNSEEN]
    translations = translate(copy_teacher, tiny_tokenizer, sources, with_scores=True, **settings)
    assert not all(translation.truncated for translation in translations)
    for source, translation in zip(sources, translations, strict=True):
        inputs = tiny_tokenizer(source, return_tensors="pt", return_token_type_ids=False)
        target = copy_teacher.generate(**inputs, **settings)[0, 1:].tolist()
        if 2 in target:
            target = target[: target.index(2) + 1]
        log_probs = log_probs_one_by_one(copy_teacher, inputs["input_ids"][0].tolist(), target)
        assert translation.score == pytest.approx(sum(log_probs) / len(target), abs=1e-5)
        assert translation.num_tokens == len(target) - target.count(2)


def test_beam_search_of_transformers_divides_by_the_length_with_eos(copy_teacher, tiny_tokenizer):
    """With `length_penalty` 1 the beam ranks by the very score that `translate` reports."""
    inputs = tiny_tokenizer(UNSEEN[1], return_tensors="pt", return_token_type_ids=False)
    output = copy_teacher.generate(**inputs, **BEAM, return_dict_in_generate=True, output_scores=True)
    (translation,) = translate(copy_teacher, tiny_tokenizer, UNSEEN[1:2], with_scores=True, **BEAM)
    target = output.sequences[0, 1:].tolist()
    log_probs = log_probs_one_by_one(copy_teacher, inputs["input_ids"][0].tolist(), target[: target.index(2) + 1])
    assert len(log_probs) > 2
    assert output.sequences_scores.item() == pytest.approx(sum(log_probs) / len(log_probs), abs=1e-5)
    assert output.sequences_scores.item() == pytest.approx(translation.score, abs=1e-5)


def test_scores_of_an_at_model_are_computed_on_request_only(copy_teacher, tiny_tokenizer):
    assert translate(copy_teacher, tiny_tokenizer, ["hello"], num_beams=4, max_new_tokens=12)[0].score is None


def test_blank_sentences_do_not_reach_the_model(copy_teacher, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(copy_teacher, "generate", raise_on_call)
    blank = Translation("", None, 0, False, None)
    assert translate(copy_teacher, tiny_tokenizer, ["", " \t", "\u00a0"]) == [blank] * 3
    assert translate(copy_teacher, tiny_tokenizer, []) == []


def test_output_at_its_length_limit_is_truncated(copy_teacher, tiny_tokenizer, sentences):
    (free,) = translate(copy_teacher, tiny_tokenizer, sentences[2:3], num_beams=1)
    (exact,) = translate(copy_teacher, tiny_tokenizer, sentences[2:3], num_beams=1, max_new_tokens=free.num_tokens + 1)
    (cut,) = translate(copy_teacher, tiny_tokenizer, sentences[2:3], num_beams=1, max_new_tokens=free.num_tokens - 1)
    assert (free.text, free.truncated) == (sentences[2], False)
    assert (exact.text, exact.truncated) == (sentences[2], True)
    assert (cut.num_tokens, cut.truncated) == (free.num_tokens - 1, True)


def test_a_source_beyond_the_positions_is_cut_flagged_and_counted(copy_teacher, tiny_tokenizer, caplog):
    sources = ["hello", "a dog runs " * 100, "b" * 100]
    with caplog.at_level(logging.WARNING, logger="hf_nat.decoding"):
        translations = translate(copy_teacher, tiny_tokenizer, sources, num_beams=1)
    assert [translation.truncated for translation in translations] == [False, True, True]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("hf_nat.decoding")] == [
        "Cut 2 of 3 sources to the 64 positions of the model."
    ]


def test_max_new_tokens_stays_inside_the_positions(copy_teacher, tiny_tokenizer, monkeypatch):
    asked = []
    generate = copy_teacher.generate
    monkeypatch.setattr(copy_teacher, "generate", lambda **kwargs: asked.append(kwargs) or generate(**kwargs))
    translate(copy_teacher, tiny_tokenizer, ["hello"])
    translate(copy_teacher, tiny_tokenizer, ["hello"], max_new_tokens=1000)
    translate(copy_teacher, tiny_tokenizer, ["hello"], max_new_tokens=9)
    assert [kwargs["max_new_tokens"] for kwargs in asked] == [64, 64, 9]


def test_a_checkpoints_own_max_length_neither_counts_nor_warns(copy_teacher, tiny_tokenizer, monkeypatch, caplog):
    monkeypatch.setattr(copy_teacher.generation_config, "max_length", 3)
    transformers_logger = logging.getLogger("transformers")
    transformers_logger.addHandler(caplog.handler)
    try:
        (translation,) = translate(copy_teacher, tiny_tokenizer, ["the cat sleeps"], num_beams=1)
    finally:
        transformers_logger.removeHandler(caplog.handler)
    assert translation.text == "the cat sleeps"
    assert not caplog.records


def test_output_is_one_line(copy_teacher, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(type(tiny_tokenizer), "batch_decode", lambda *args, **kwargs: [" two\r\nlines\n"])
    assert translate(copy_teacher, tiny_tokenizer, ["hello"], num_beams=1)[0].text == "two lines"


def test_stream_keeps_the_order_and_reads_one_window_at_a_time(copy_teacher, tiny_tokenizer, sentences):
    sources = [*sentences, "", *UNSEEN]
    num_read = 0

    def lines() -> Iterator[str]:
        nonlocal num_read
        for source in sources:
            num_read += 1
            yield source

    stream = Translator(copy_teacher, tiny_tokenizer, num_beams=1).stream(lines(), window=4)
    first = next(stream)
    assert num_read == 4
    assert [first, *stream] == translate(copy_teacher, tiny_tokenizer, sources, num_beams=1)


def test_sizes_below_one_are_an_error(copy_teacher, tiny_tokenizer):
    with pytest.raises(ValueError, match="`max_batch_tokens` must be >= 1, got 0"):
        Translator(copy_teacher, tiny_tokenizer, max_batch_tokens=0)
    for settings in (
        {"num_beams": 0},
        {"max_length_a": float("nan")},
        {"max_length_a": -1.0},
        {"max_batch_tokens": 0},
    ):
        with pytest.raises(ValueError, match=f"`{next(iter(settings))}` must be .*>= "):
            Translator(copy_teacher, tiny_tokenizer, **settings)
    for window in (0, -1, 1.5, "2", None, 10**30):
        with pytest.raises(ValueError, match=r"`window` must be a whole number in \[1, "):
            Translator(copy_teacher, tiny_tokenizer).stream(["hello"], window=window)


def test_one_text_is_no_list_of_sentences(copy_teacher, tiny_tokenizer):
    translator = Translator(copy_teacher, tiny_tokenizer)
    for call in (translator, translator.candidates, translator.stream):
        with pytest.raises(ValueError, match=r"must be several texts, got the text 'hello'\. Write \[text\] for one"):
            call("hello")
        for value in (b"hello", None, 5):
            with pytest.raises(ValueError, match="must be several texts, got a "):
                call(value)


@pytest.mark.parametrize("value", [None, 5, b"hello", ["hello"], float("nan"), "a \ud800 b"])
def test_what_is_no_text_is_told_with_its_number(value, copy_teacher, tiny_tokenizer):
    translator = Translator(copy_teacher, tiny_tokenizer)
    streams = (lambda given: list(translator.stream(given)), lambda given: list(translator.stream(given, window=1)))
    for call in (translator, translator.candidates, *streams):
        with pytest.raises(ValueError, match=r"must be Unicode texts, got .* as number 2\."):
            call(["hello", value])


def test_sentences_come_from_whatever_gives_them(copy_teacher, tiny_tokenizer, sentences):
    translator = Translator(copy_teacher, tiny_tokenizer)
    expected = translator(sentences)
    for given in (iter(sentences), (text for text in sentences), tuple(sentences), dict.fromkeys(sentences)):
        assert translator(given) == expected
    assert translator.candidates(iter(sentences)) == [[output] for output in expected]


def test_a_nat_model_has_candidates_too(tiny_tokenizer, sentences):
    model = tiny_student("ctc_nat", tiny_tokenizer)
    several = Translator(model, tiny_tokenizer, ctc_beam_size=4, num_return_sequences=3, with_scores=True)
    lists = several.candidates(["", *sentences])
    assert [len(outputs) for outputs in lists] == [1, *[3] * len(sentences)]
    assert [[output.candidate for output in outputs] for outputs in lists[1:]] == [[0, 1, 2]] * len(sentences)
    assert all(len({output.text for output in outputs}) == 3 for outputs in lists[1:])
    best = translate(model, tiny_tokenizer, ["", *sentences], ctc_beam_size=4)
    assert [output.text for output in several(["", *sentences])] == [output.text for output in best]
    assert [outputs[0].text for outputs in lists] == [output.text for output in best]


def test_token_batches_fill_the_budget_and_hold_every_index_once():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 30, (200,), generator=generator).tolist()
    batches = token_batches(lengths, 64)
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    for batch, following in zip(batches, batches[1:], strict=False):
        longest = max(lengths[index] for index in batch)
        assert longest * len(batch) <= 64 < longest * (len(batch) + 1)
        assert min(lengths[index] for index in batch) >= max(lengths[index] for index in following)


def test_token_batches_of_sentences_above_the_budget_are_single():
    assert token_batches([5, 9, 2, 9], 8) == [[1], [3], [0], [2]]
    assert token_batches([], 8) == []


def test_load_model_gives_a_saved_model_ready_to_translate(copy_teacher, tiny_tokenizer, tmp_path):
    save(tmp_path, copy_teacher, tiny_tokenizer)
    model, tokenizer = load_model(tmp_path, device="cpu")
    assert not model.training
    assert model.device.type == "cpu"
    settings = {"num_beams": 4, "max_new_tokens": 12, "with_scores": True}
    assert translate(model, tokenizer, UNSEEN, **settings) == translate(
        copy_teacher, tiny_tokenizer, UNSEEN, **settings
    )
    assert load_model(tmp_path, device="cpu", dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_nat_models_report_rounds_and_scores(tiny_tokenizer, sentences):
    model = tiny_student("vanilla_nat", tiny_tokenizer, max_position_embeddings=64)
    sources = [*sentences, "", *UNSEEN]
    translations = translate(model, tiny_tokenizer, sources, with_scores=True)
    alone = translate(model, tiny_tokenizer, sources, max_batch_tokens=1)
    assert [replace(translation, score=None) for translation in translations] == alone
    for source, translation in zip(sources, translations, strict=True):
        assert translation.iterations == (1 if source else None)
        assert (translation.score is not None and translation.score < 0) == bool(source)
        assert not translation.truncated

"""Several teachers: their mean at each step, and the union of their candidates."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from distillation.strategy_runs import JUDGE, most_vowels
from marian_tokenizers import save_marian_tokenizer
from teachers import m2m100, nllb
from transformers import MarianConfig, MarianMTModel, MarianTokenizer, PreTrainedTokenizerFast

from hf_nat.base.utils import read_json
from hf_nat.decoding import Translator
from hf_nat.distillation import DistillArguments
from hf_nat.distillation.ensemble import TeacherEnsemble
from hf_nat.distillation.manifest import teacher_identity
from hf_nat.models import MoEMarianConfig, MoEMarianMTModel
from hf_nat.steps import distill


def best_sequence(
    models: list[MarianMTModel], input_ids: torch.Tensor, length: int, num_tokens: int
) -> tuple[list[int], float]:
    """Of all outputs of so many tokens at most, the one with the highest mean log-probability: every one is scored."""
    eos, start = models[0].config.eos_token_id, models[0].config.decoder_start_token_id
    best: tuple[list[int], float] = ([], -torch.inf)
    open_prefixes: list[tuple[list[int], float]] = [([], 0.0)]
    for step in range(1, length + 1):
        extended = []
        for prefix, total in open_prefixes:
            decoder_input_ids = torch.tensor([[start, *prefix]])
            with torch.no_grad():
                probs = [
                    model(input_ids=input_ids, decoder_input_ids=decoder_input_ids).logits[0, -1].softmax(-1)
                    for model in models
                ]
            mean = torch.stack(probs).mean(0).log()
            for token in range(num_tokens):
                score = total + mean[token].item()
                if token == eos or step == length:
                    best = max(best, ([*prefix, token], score / step), key=lambda found: found[1])
                else:
                    extended.append(([*prefix, token], score))
        open_prefixes = extended
    return best


def test_a_wide_beam_finds_the_best_output_under_the_mean_of_the_probabilities() -> None:
    sizes = {"encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}
    models = []
    for seed, width, layers in ((0, 8, 1), (1, 16, 2)):
        torch.manual_seed(seed)
        shape = {"d_model": width, "encoder_layers": layers, "decoder_layers": layers, "init_std": 0.8}
        config = MarianConfig(
            vocab_size=6, max_position_embeddings=16, forced_eos_token_id=None, **sizes, **special, **shape
        )
        models.append(MarianMTModel(config).eval())
    models[0].generation_config.use_cache = False  # It is made of caches.
    ensemble = TeacherEnsemble(models).eval()
    for source in ([3, 4, 2], [5, 3, 3, 2]):
        input_ids = torch.tensor([source])
        options = {"num_beams": 36, "length_penalty": 1.0, "early_stopping": False, "max_new_tokens": 3}
        found = ensemble.generate(input_ids=input_ids, do_sample=False, **options)[0, 1:].tolist()
        expected, _ = best_sequence(models, input_ids, 3, 6)
        assert found[: len(expected)] == expected


def test_rows_of_an_ensemble_of_one_teacher_twice_are_its_own(
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    rows: Callable,
    second: str,
    tmp_path: Path,
) -> None:
    copy_teacher.save_pretrained(tmp_path / "first")
    tiny_tokenizer.save_pretrained(tmp_path / "first")

    def run(name: str, **changes: Any) -> list[dict[str, Any]]:
        return rows(distill(copy.deepcopy(copy_teacher), tiny_tokenizer, arguments(name, **changes)))

    alone = run("alone")
    twice = run("twice", ensemble=[str(tmp_path / "first")])
    scores = [[row.pop("teacher_score") for row in side] for side in (alone, twice)]
    assert twice == alone
    assert scores[0] == pytest.approx(scores[1], abs=2e-4)
    mixed = run("mixed", ensemble=[second])
    assert [row["translation"] for row in mixed] != [row["translation"] for row in alone]
    manifest = read_json(tmp_path / "mixed" / "manifest.json")
    assert (manifest["decoding"]["ensemble"], manifest["teachers"]) == (2, ["the teacher", second])
    samples = run("samples", ensemble=[second], strategy="mbr", candidates="sampling", num_candidates=4)
    assert samples == run(
        "again", ensemble=[second], strategy="mbr", candidates="sampling", num_candidates=4, shard_size=5
    )


@pytest.mark.parametrize("candidates", ["beam", "sampling"])
def test_the_judge_chooses_among_the_candidates_of_all(
    candidates: str,
    unsure_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    rows: Callable,
    sources: list[str],
    second: str,
    third: str,
    tmp_path: Path,
) -> None:
    options = {"strategy": "rerank", "quality": JUDGE, "candidates": candidates, "num_candidates": 3}
    args = arguments("union", **options, union=[second, third], union_prefixes=["", "two "])
    found = rows(distill(unsure_teacher, tiny_tokenizer, args))
    others = [args.load_member(second), args.load_member(third)]
    teachers = [(unsure_teacher, tiny_tokenizer, ""), (*others[0], ""), (*others[1], "two ")]
    written_by = set()
    for number, (row, source) in enumerate(zip(found, sources, strict=True)):
        if not source:
            assert (row["translation"]["xx"], row["teacher"], row["candidate"]) == ("", None, None)
            continue
        texts = []
        for teacher, (model, tokenizer, prefix) in enumerate(teachers):
            kwargs = args.translate_kwargs([number], teacher)
            (outputs,) = Translator(model, tokenizer, **kwargs).candidates([prefix + source])
            texts += [output.text for output in outputs]
        scores = most_vowels([source] * 9, texts)
        best = scores.index(max(scores))
        assert (row["translation"]["xx"], row["candidate"], row["teacher"]) == (texts[best], best, best // 3)
        written_by.add(best // 3)
    assert len(written_by) > 1
    manifest = read_json(tmp_path / "union" / "manifest.json")
    assert (len(manifest["union"]), manifest["decoding"]["union"]) == (2, 3)
    card = (tmp_path / "union" / "README.md").read_text()
    assert "| Further teacher, 2 | " in card and "| `teacher` | " in card and "| Judge, `quality` | " in card


@pytest.fixture
def multilingual(sentences: list[str], tmp_path: Path) -> dict[str, str]:
    """Teachers of two families, whose codes of one language differ, as folders."""
    folders = {}
    for build in (nllb, m2m100):
        (tmp_path / f"{build.__name__}_pieces").mkdir()
        torch.manual_seed(7)
        built = build(tmp_path / f"{build.__name__}_pieces", sentences)
        folders[build.__name__] = str(tmp_path / build.__name__)
        for part in (built.model, built.tokenizer):
            part.save_pretrained(folders[build.__name__])
    return folders


def test_every_teacher_of_a_union_has_its_own_codes(
    unsure_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    multilingual: dict[str, str],
    third: str,
    tmp_path: Path,
) -> None:
    options = {"strategy": "mbr", "num_candidates": 2, "union": [multilingual["nllb"], third, multilingual["m2m100"]]}
    args = arguments(**options, union_languages=["eng_Latn:deu_Latn", "", "en:de"])
    members = args.load_union()
    assert [getattr(tokenizer, "src_lang", None) for _, tokenizer in members] == ["eng_Latn", None, "en"]
    forced = [members[0][1].convert_tokens_to_ids("deu_Latn"), None, members[2][1].get_lang_id("de")]
    assert [model.generation_config.forced_bos_token_id for model, _ in members] == forced
    manifest = read_json(distill(unsure_teacher, tiny_tokenizer, args) / "manifest.json")
    assert manifest["decoding"]["union_languages"] == ["eng_Latn:deu_Latn", "", "en:de"]
    found = [own["teacher_generation_config"].get("forced_bos_token_id") for own in manifest["union"]]
    assert found == forced


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"union": ["m2m100"]}, "`union` must be told its languages where it has several, as this M2M100Tokenizer"),
        ({"union": ["m2m100"], "union_languages": [""]}, "`union` must be told its languages where it has several"),
        ({"union": ["third"], "union_languages": ["en:de"]}, "Languages must be left out for a .*, which has none"),
        ({"union": ["m2m100"], "union_languages": ["en:deu_Latn"]}, "A language must be one that .*, got 'deu_Latn'"),
        ({"backward_teacher": "m2m100"}, "`backward_teacher` must be told its languages where it has several"),
        (
            {"backward_teacher": "third", "backward_languages": "de:en"},
            "`backward_languages` must be left out for `.*third`, a model of one pair of languages, got 'de:en'",
        ),
    ],
    ids=str,
)
def test_languages_that_a_further_teacher_has_not(
    changes: dict[str, Any],
    message: str,
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    multilingual: dict[str, str],
    third: str,
) -> None:
    folders = {**multilingual, "third": third}
    if "union" in changes:
        changes = {"strategy": "mbr", **changes, "union": [folders[name] for name in changes["union"]]}
    else:
        changes = {"strategy": "rerank", **changes, "backward_teacher": folders[changes["backward_teacher"]]}
    args = arguments(**changes)
    with pytest.raises(ValueError, match=message):
        distill(copy_teacher, tiny_tokenizer, args)
    assert not Path(args.output_dir).exists()


@pytest.mark.parametrize("own", [False, True])
def test_a_backward_teacher_may_have_its_own_codes(
    own: bool,
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    multilingual: dict[str, str],
) -> None:
    codes: dict[str, Any] = {"model_source_lang": "en", "model_target_lang": "de"}
    if own:
        codes = {"backward_languages": "de:en"}
    args = arguments(strategy="rerank", backward_teacher=multilingual["m2m100"], **codes)
    model, tokenizer = args.load_backward(multilingual["m2m100"])
    assert (tokenizer.src_lang, model.generation_config.forced_bos_token_id) == ("de", tokenizer.get_lang_id("en"))
    if own:
        manifest = read_json(distill(copy_teacher, tiny_tokenizer, args) / "manifest.json")
        assert manifest["decoding"]["choice"].endswith("by the backward teacher, from and into de:en")


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_an_expert_is_the_first_teachers(
    backend: str,
    tiny_tokenizer: PreTrainedTokenizerFast,
    copy_teacher: MarianMTModel,
    arguments: Callable[..., DistillArguments],
    rows: Callable,
    second: str,
) -> None:
    if backend == "auto":
        pytest.importorskip("ctranslate2")
    torch.manual_seed(1)
    size = len(tiny_tokenizer) + 2
    shape = {"vocab_size": size, "decoder_vocab_size": size, "num_experts": 2, "init_std": 0.5}
    mixture = MoEMarianMTModel(MoEMarianConfig(**{**copy_teacher.config.to_dict(), **shape})).eval()
    mixture.generation_config.expert = 1
    options = {"strategy": "rerank", "quality": JUDGE, "num_candidates": 2, "union": [second], "backend": backend}
    found = {}
    for expert in (None, 0, 1):
        folder = distill(mixture, tiny_tokenizer, arguments(f"expert-{expert}", **options, expert=expert))
        found[expert] = [row["translation"]["xx"] for row in rows(folder)]
        decoding = read_json(folder / "manifest.json")["decoding"]
        assert decoding["expert"] == (1 if expert is None else expert)
        assert decoding["backend"] == ("ct2" if backend == "auto" else "torch")
    assert found[None] == found[1] != found[0]


def test_samples_of_several_teachers_are_not_drawn_alike(arguments: Callable[..., DistillArguments]) -> None:
    args = arguments(strategy="mbr", candidates="sampling", num_candidates=2, union=["x"])
    zeros = torch.zeros(2, 1000)
    drawn = [
        args.translate_kwargs([0], teacher)["processors"]([0])(torch.zeros(2, 1, dtype=torch.long), zeros).argmax(1)
        for teacher in (0, 1)
    ]
    assert len(set(torch.cat(drawn).tolist())) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"union": ["a"]}, "`union` must come with a strategy that chooses among candidates, .* got 'beam'"),
        ({"union": ["a"], "ensemble": ["b"], "strategy": "mbr"}, "Only one of `ensemble` and `union`"),
        (
            {"union": ["a"], "union_prefixes": [], "strategy": "mbr"},
            "`union_prefixes` must be as many .*, got 0",
        ),
        ({"ensemble": ["a"], "backend": "ct2"}, "`backend` must be torch for an `ensemble`, got 'ct2'"),
        (
            {"union_languages": ["en:de"]},
            "`union_languages` must be as many as `union`, got 1 and 0. Write ''",
        ),
        (
            {"union": ["a", "b"], "union_languages": ["en:de", "en"], "strategy": "mbr"},
            "`union_languages` must be SRC:TGT, as eng_Latn:deu_Latn, got 'en'",
        ),
        (
            {"strategy": "rerank", "backward_teacher": "a", "backward_languages": "a:b:c"},
            "`backward_languages` must be SRC:TGT, .* got 'a:b:c'",
        ),
        ({"backward_languages": "de:en"}, "`backward_languages` must be left out where it has no effect"),
    ],
)
def test_arguments_that_break_a_rule(changes: dict, message: str, arguments: Callable[..., DistillArguments]) -> None:
    with pytest.raises(ValueError, match=message):
        arguments(**changes)


def test_an_ensemble_has_one_vocabulary(
    copy_teacher: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    arguments: Callable[..., DistillArguments],
    third: str,
) -> None:
    args = arguments(ensemble=[third])
    with pytest.raises(ValueError, match="`ensemble` must be of teachers with one vocabulary, got another one in"):
        distill(copy_teacher, tiny_tokenizer, args)
    assert not Path(args.output_dir).exists()


def test_the_longest_source_of_an_ensemble_is_that_of_the_member_with_the_fewest_positions() -> None:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 8, "vocab_size": 6, "pad_token_id": 0}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_start_token_id": 0}
    models = [MarianMTModel(MarianConfig(**sizes, **heads, max_position_embeddings=n)) for n in (32, 16, 24)]
    ensemble = TeacherEnsemble(models)
    assert ensemble.config.max_position_embeddings == 16 and models[0].config.max_position_embeddings == 32


def test_the_rules_of_a_tokenizer_of_sentencepiece_are_a_part_of_its_identity(
    copy_teacher: MarianMTModel, tmp_path: Path
) -> None:
    save_marian_tokenizer(tmp_path / "one", ["abc aab bca"] * 3, ["x y z"] * 3, vocab_size=12)
    save_marian_tokenizer(tmp_path / "two", ["cab bac bb"] * 3, ["x y z"] * 3, vocab_size=12)
    shutil.copytree(tmp_path / "one", tmp_path / "mixed")
    shutil.copy(tmp_path / "two/source.spm", tmp_path / "mixed")
    found = [
        teacher_identity(copy_teacher, MarianTokenizer.from_pretrained(tmp_path / name))["tokenizer_sha256"]
        for name in ("one", "one", "mixed")
    ]
    assert found[0] == found[1] != found[2]

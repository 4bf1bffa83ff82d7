"""The systems of the decoding benchmark: one checkpoint, one backend, one way of decoding.

Their options are told in `benchmark_decoding.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from transformers import AutoModelForSeq2SeqLM, BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from hf_nat.base.bounds import require_choice
from hf_nat.data.corpora import load_corpus
from hf_nat.data.encoding import encode
from hf_nat.data.pretrained import load_pretrained_config
from hf_nat.data.tokenizer import load_tokenizer
from hf_nat.decoding import DecodingArguments, Draft, DraftCounts, NGramLanguageModel, load_model, max_new_tokens
from hf_nat.decoding.drafting import DraftOutput
from hf_nat.decoding.shortlist import ShortListArguments, build_short_list


# Backend -> the option that says in which precision it computes.
_PRECISIONS = {"torch": "dtype", "ct2": "compute_type", "onnx": "quantize", "openvino": ""}


@dataclass(frozen=True, kw_only=True)
class _ShortListOf(ShortListArguments):
    """The short list of a NAT model in torch."""

    source_lang: str | None
    target_lang: str | None


@dataclass
class System:
    """One checkpoint with one way of decoding."""

    name: str
    path: str
    decoding: dict[str, Any]
    model: Any = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    files: Sequence[Path] = ()
    # Of the drafts that the model verified, where a student drafts for it.
    drafted: DraftCounts = field(default_factory=DraftCounts)

    @property
    def num_parameters(self) -> int:
        """Parameters of the model, also of one whose weights are elsewhere, and of a student that drafts for it."""
        if isinstance(self.model, PreTrainedModel):
            draft: Draft | None = self.decoding.get("custom_generate")
            return self.model.num_parameters() + (0 if draft is None else draft.model.num_parameters())
        with torch.device("meta"):
            return AutoModelForSeq2SeqLM.from_config(self.model.config).num_parameters()

    @property
    def has_short_list(self) -> bool:
        """Whether it chooses from a list of its batch."""
        return "short_list" in self.decoding or bool(getattr(self.model, "record", {}).get("shortlist"))

    @property
    def precision(self) -> str:
        """In which precision it computes."""
        sessions = getattr(self.model, "sessions", None)
        if sessions is None:
            return str(self.model.dtype).removeprefix("torch.")
        return next(iter(sessions.values())).precision or ("int8" if "int8" in self.files[0].name else "float32")

    def prepare(self, sentences: Sequence[str]) -> BatchEncoding | list[list[str]]:
        """Tokenises one batch and puts it on the model's device."""
        return self.tokenizer.pad(self._encode(sentences), return_tensors="pt").to(self.model.device)

    def _encode(self, sentences: Sequence[str]) -> Any:
        longest = getattr(self.model.config, "max_position_embeddings", None)
        return encode(self.tokenizer, sentences, max_source_length=longest)

    def generate(self, batch: Any) -> tuple[float, list[list[int]]]:
        """Decodes one batch; returns seconds and the output tokens without pad, BOS and EOS."""
        start = time.perf_counter()
        output = self.model.generate(**batch, **self.decoding)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        seconds = time.perf_counter() - start
        if isinstance(output, DraftOutput):
            self.drafted.num_sentences += len(output.sequences)
            self.drafted.teacher_calls += int(output.teacher_calls.sum())
            self.drafted.accepted_tokens += int(output.accepted_tokens.sum())
            output = output.sequences
        frame = {self.tokenizer.pad_token_id, self.tokenizer.bos_token_id, self.tokenizer.eos_token_id}
        return seconds, [[token_id for token_id in row if token_id not in frame] for row in output.tolist()]


@dataclass
class CTranslate2System(System):
    """A MarianMT teacher in CTranslate2, converted in `folder`."""

    folder: Path = Path()
    compute_type: str = "float32"
    shortlist: str | None = None

    def __post_init__(self) -> None:
        from ctranslate2 import Translator

        self.translator = Translator(
            str(self.folder),
            device=self.model.device.type,
            device_index=self.model.device.index or 0,
            compute_type=self.compute_type,
            inter_threads=1,
            intra_threads=torch.get_num_threads(),
        )
        self.beam = {"num_beams": 1, "length_penalty": 1.0} | self.decoding
        asked = self.beam.pop("max_new_tokens", None)
        self.limit = max_new_tokens(self.model, {} if asked is None else {"max_new_tokens": asked})
        if unknown := sorted(self.beam.keys() - {"num_beams", "length_penalty"}):
            raise ValueError(f"`{unknown[0]}` must be left out under `backend=ct2`, of system {self.name!r}.")

    @property
    def has_short_list(self) -> bool:
        """Whether it chooses from a list of its batch."""
        return self.shortlist is not None

    @property
    def precision(self) -> str:
        """In which precision it computes."""
        return self.translator.compute_type

    def prepare(self, sentences: Sequence[str]) -> list[list[str]]:
        """Tokenises one batch; tokens are named by their ids."""
        return [[str(token_id) for token_id in ids] for ids in self._encode(sentences)["input_ids"]]

    def generate(self, batch: Any) -> tuple[float, list[list[int]]]:
        """Decodes one batch; returns seconds and the output tokens without pad, BOS and EOS."""
        start = time.perf_counter()
        results = self.translator.translate_batch(
            batch,
            beam_size=self.beam["num_beams"],
            length_penalty=self.beam["length_penalty"],
            max_input_length=0,
            max_decoding_length=self.limit,
            use_vmap=self.shortlist is not None,
        )
        return time.perf_counter() - start, [[int(name) for name in result.hypotheses[0]] for result in results]


def convert(path: str, folder: Path, compute_type: str, shortlist: Any) -> None:
    """Writes a MarianMT teacher for CTranslate2.

    Args:
        path (`str`): folder of the teacher, or Hub id.
        folder (`Path`): the new folder.
        compute_type (`str`): CTranslate2's name of a precision, in which the weights are saved.
        shortlist: pairs of sentences whose links make short lists, or None.
    """
    from hf_nat.distillation.ct2 import convert_teacher

    model, tokenizer = load_model(path, device="cpu")
    vmap = None
    if shortlist is not None:
        vmap = folder.with_suffix(".vmap")
        special = {model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id}
        words = [token for token in range(model.config.vocab_size) if token not in special]
        options: dict[str, Any] = {
            f"num_{name}": ShortListArguments.__dataclass_fields__[f"shortlist_{name}"].default
            for name in ("best", "frequent")
        }
        lists = build_short_list(shortlist, tokenizer, words, model.config.vocab_size, **options)
        always = " ".join(map(str, lists.always.tolist()))
        rows = (f"{source}\t{' '.join(map(str, sorted(set(row))))}" for source, row in enumerate(lists.best.tolist()))
        vmap.write_text("\n".join([f"\t{always}", *rows]) + "\n", encoding="utf-8")
    quantization = None if compute_type in ("default", "auto") else compute_type
    convert_teacher(model, folder, quantization=quantization, vmap=vmap)


def load_system(
    name: str,
    path: str,
    options: dict[str, Any],
    device: str | None,
    work: Path | None = None,
    languages: tuple[str | None, str | None] = (None, None),
) -> System:
    """Loads a checkpoint for the backend that its options name.

    Args:
        name (`str`): name of the system.
        path (`str`): checkpoint folder or Hub id.
        options (`dict[str, Any]`): options of `generate` and of loading.
        device (`str`, *optional*): by default the accelerator, where there is one.
        work (`Path`, *optional*): folder in which a teacher is converted for CTranslate2, unless it has been before.
        languages (`tuple[str, str]`, *optional*): keys of source and target language, for a short list.

    Raises:
        ValueError: if there is no such backend, or an option is not one of this backend.
    """
    decoding = dict(options)
    backend = decoding.pop("backend", "torch")
    require_choice("backend", backend, sorted(_PRECISIONS), where=f"in system {name!r}")
    own = _PRECISIONS[backend]
    for wrong in sorted(({"dtype", "compute_type", "quantize"} - {own}) & decoding.keys()):
        remedy = f"`{own}`" if own else "left out"
        raise ValueError(f"`{wrong}` must be {remedy} under `backend={backend}`, of system {name!r}.")
    shortlist = decoding.pop("shortlist", None)
    if shortlist is not None and (backend not in ("torch", "ct2") or None in languages):
        raise ValueError(
            "`shortlist` must come with `backend=torch` or `backend=ct2`, --source_lang and --target_lang, of system "
            f"{name!r}. A graph has the one that it was exported with."
        )
    precision = {own: decoding.pop(own)} if own in decoding else {}
    if backend != "ct2":
        loaded = load_model(path, device=device, backend=backend, **precision)
        files = _weights(path, loaded[0])
        if any(option.startswith("draft") for option in decoding):
            decoding = _with_draft(decoding, loaded[0])
            student = decoding["custom_generate"].model
            files += _weights(student.name_or_path, student)
        if file := decoding.get("language_model"):
            decoding["language_model"] = NGramLanguageModel(file, loaded[1])
        listed = _ShortListOf(shortlist=shortlist, source_lang=languages[0], target_lang=languages[1])
        decoding |= listed.short_list_kwargs(*loaded)
        return System(name, path, decoding, *loaded, files=files)
    assert work is not None
    folder = work / name
    if not folder.exists():
        rows = shortlist and load_corpus(shortlist, "train", source_lang=str(languages[0]), target_lang=languages[1])
        pairs = rows and [tuple(pair[lang] for lang in languages) for pair in rows["translation"]]
        convert(path, folder, precision.get("compute_type", "float32"), pairs)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = SimpleNamespace(config=load_pretrained_config(path), device=place)
    files = [folder / "model.bin", *folder.glob("vmap.txt")]
    return CTranslate2System(
        *(name, path, decoding, model, load_tokenizer(path)),
        files=files,
        folder=folder,
        shortlist=shortlist,
        **precision,
    )


def _with_draft(decoding: dict[str, Any], teacher: PreTrainedModel) -> dict[str, Any]:
    """Options of the teacher's `generate` out of those of the commands, the student that drafts for it loaded."""
    commands = {key: decoding[key] for key in DecodingArguments.__dataclass_fields__ if key in decoding}
    kwargs = DecodingArguments(**commands).generate_kwargs(teacher)
    draft = kwargs.pop("draft")
    draft.model.to(teacher.device)
    del kwargs["max_batch_tokens"]
    others = {key: value for key, value in decoding.items() if key not in commands}
    return others | kwargs | {"custom_generate": draft, "return_dict_in_generate": True}


def _weights(path: str, model: Any) -> list[Path]:
    """The files that hold the weights; none for a Hub id."""
    if hasattr(model, "sessions"):
        return [session.path for session in model.sessions.values()]
    return sorted([*Path(path).glob("*.safetensors")] or Path(path).glob("pytorch_model*.bin"))


def parse_system(text: str) -> tuple[str, str, dict[str, Any]]:
    """Splits `NAME=PATH[:option=value,...]` into name, path and options."""
    name, _, rest = text.partition("=")
    path, colon, options = rest.rpartition(":")
    if not colon or "=" not in options:
        path, options = rest, ""
    if not name or not path:
        raise ValueError(
            f"A system must be NAME=PATH[:option=value,...], got {text!r}. Example: beam5=DIR:num_beams=5."
        )
    pairs = (option.partition("=") for option in options.split(",") if option)
    return name, path, {key: yaml.safe_load(value) for key, _, value in pairs}

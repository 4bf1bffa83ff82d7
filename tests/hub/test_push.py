"""What a push sends, refuses, deletes and says, by the real client to a Hub on the loopback interface."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hub_server import TOKEN
from transformers import MarianMTModel

from hf_nat.base.config import load_config
from hf_nat.cards import model_card
from hf_nat.hub.push import PushArguments, push


LEFTOVERS = (
    "checkpoint-100/model.safetensors",
    "checkpoint-100/optimizer.pt",
    "runs/Nov22/events.out.tfevents.1",
    "scheduler.pt",
    "rng_state_0.pth",
    "trainer_state.json",
    "training_args.bin",
    "data/.train-00000-of-00002.parquet.77.tmp",
    ".git/config",
    "eval-test/.cache/x",
)
MODEL_FILES = [
    "README.md",
    "config.json",
    "eval-test/metrics.json",
    "generation_config.json",
    "metrics.json",
    "model.safetensors",
    "run.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


def add(folder: Path, name: str, text: str = "leftover") -> None:
    """Puts a file beside a result."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_push_arguments_come_from_the_command_line() -> None:
    (args,) = load_config(
        [PushArguments], ["--folder", "a", "--repo-id", "b/c", "--repo-type", "dataset", "--dry-run"]
    )
    assert args == PushArguments("a", "b/c", repo_type="dataset", dry_run=True)
    (args,) = load_config([PushArguments], ["--folder", "a", "--repo-id", "b/c", "--private", "false"])
    assert args == PushArguments("a", "b/c", private=False)
    (args,) = load_config([PushArguments], ["--folder", "a", "--local-dir", "c", "--leave_out", "x", "y*"])
    assert args == PushArguments("a", local_dir="c", leave_out=["x", "y*"])


def test_dry_run_lists_exactly_what_would_go_and_what_stays(model_folder: Path) -> None:
    for name in LEFTOVERS:
        add(model_folder, name)
    before = {path: path.read_bytes() for path in model_folder.rglob("*") if path.is_file()}
    plan = push(PushArguments(str(model_folder), "owner/name", dry_run=True))
    assert {path: path.read_bytes() for path in model_folder.rglob("*") if path.is_file()} == before
    assert plan.url is None
    assert plan.repo_type == "model"
    assert list(plan.files) == MODEL_FILES
    here = {path: (model_folder / path).stat().st_size for path in MODEL_FILES if path != "README.md"}
    assert plan.files == {**here, "README.md": len(model_card(model_folder, "owner/name").encode())}
    assert sorted(plan.left_out) == sorted(LEFTOVERS)
    *_, stay, gone, last = plan.summary().splitlines()
    assert stay.split("stay here:")[0].strip() == f"{len('leftover') * len(LEFTOVERS)} bytes"
    assert "checkpoint-100/," in stay and "training_args.bin" in stay and "model-*-of-*.safetensors" in gone
    assert last.split("bytes")[0].strip() == f"{sum(plan.files.values()):,}"
    assert last.endswith("in 9 files: model repository owner/name")


def test_a_model_is_one_whatever_its_folder_is_called(student_folders: list[Path], capsys) -> None:
    """A file of its code may have the folder's name, as that of an `evaluate` module has; it is not run."""
    folder = next(path for path in student_folders if path.name == "ctc_nat").rename(student_folders[0].parent / "ctc")
    (folder / "ctc.py").write_text("raise SystemExit('run')\n", encoding="utf-8")
    plan = push(PushArguments(folder=str(folder), repo_id="me/ctc", dry_run=True))
    assert plan.repo_type == "model" and "ctc.py" in plan.files


def test_dry_run_needs_no_token_and_sends_nothing(hub, corpus_folder: Path) -> None:
    before = sorted(corpus_folder.rglob("*"))
    assert push(PushArguments(str(corpus_folder), "owner/corpus", dry_run=True)).url is None
    assert hub.log == []
    assert sorted(corpus_folder.rglob("*")) == before


@pytest.mark.usefixtures("logged_in")
def test_push_model_arrives_whole_in_one_private_commit(hub, model_folder: Path) -> None:
    for name in LEFTOVERS:
        add(model_folder, name)
    plan = push(PushArguments(str(model_folder), "owner/teacher"))
    assert plan.url is not None
    assert plan.url.startswith(f"{hub.url}/models/owner/teacher/commit/")
    assert hub.messages == ["initial commit", "Push with hf_nat"]
    assert hub.repositories["models/owner/teacher"].private
    files = hub.files("models/owner/teacher")
    assert files.pop(".gitattributes")
    assert 'checkpoint = "owner/teacher"' in files["README.md"].decode()
    assert len(files["README.md"]) == plan.files["README.md"]
    assert not (model_folder / "README.md").exists()
    assert files == {path: (model_folder / path).read_bytes() for path in MODEL_FILES if path != "README.md"} | {
        "README.md": files["README.md"]
    }


@pytest.mark.usefixtures("logged_in")
def test_the_card_that_someone_wrote_for_a_model_goes_as_it_is(hub, model_folder: Path) -> None:
    (model_folder / "README.md").write_text("Mine.")
    push(PushArguments(str(model_folder), "owner/teacher"))
    assert hub.files("models/owner/teacher")["README.md"] == b"Mine."
    assert (model_folder / "README.md").read_text() == "Mine."


@pytest.mark.parametrize("card", [b"\xff\xfe", b"---\nsdk: [1\n---\n", b"---\n- a\n---\n"])
def test_a_damaged_card_is_named(model_folder: Path, corpus_folder: Path, card: bytes) -> None:
    for folder in (model_folder, corpus_folder):
        (folder / "README.md").write_bytes(card)
        with pytest.raises(ValueError, match=r"README\.md` must be UTF-8"):
            push(PushArguments(str(folder), "owner/name", dry_run=True))


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize("private", [True, False])
def test_visibility_is_that_of_the_flag_and_holds_no_code_for_a_corpus(hub, corpus_folder: Path, private) -> None:
    push(PushArguments(str(corpus_folder), "owner/corpus", private=private, commit_message="Mine"))
    assert hub.repositories["datasets/owner/corpus"].private is private
    assert {Path(path).suffix for path in hub.files("datasets/owner/corpus")} == {"", ".md", ".json", ".parquet"}
    assert hub.messages[-1] == "Mine"


@pytest.mark.usefixtures("logged_in")
def test_second_push_deletes_shards_and_measures_that_are_gone(hub, corpus_folder: Path) -> None:
    add(corpus_folder, "metrics.json", "{}")
    (corpus_folder / "README.md").write_text("Mine.")
    push(PushArguments(str(corpus_folder), "owner/corpus"))
    add(corpus_folder, "notes.md", "kept")
    push(PushArguments(str(corpus_folder), "owner/corpus"))
    for name in ("metrics.json", "manifest.json", "notes.md", "data/train-00001-of-00002.parquet"):
        (corpus_folder / name).unlink()
    shards = corpus_folder / "data"
    (shards / "train-00000-of-00002.parquet").rename(shards / "train-00000-of-00001.parquet")
    push(PushArguments(str(corpus_folder), "owner/corpus"))
    files = hub.files("datasets/owner/corpus")
    assert [path for path in files if path.startswith("data/train")] == ["data/train-00000-of-00001.parquet"]
    assert {"metrics.json", "manifest.json"}.isdisjoint(files)
    assert files["notes.md"] == b"kept"


@pytest.mark.usefixtures("logged_in")
def test_second_push_deletes_weights_that_are_gone(hub, model_folder: Path) -> None:
    push(PushArguments(str(model_folder), "owner/teacher"))
    model = MarianMTModel.from_pretrained(model_folder)
    (model_folder / "model.safetensors").unlink()
    model.save_pretrained(model_folder, max_shard_size=10_000)
    push(PushArguments(str(model_folder), "owner/teacher"))
    files = hub.files("models/owner/teacher")
    assert "model.safetensors.index.json" in files
    assert "model.safetensors" not in files


@pytest.mark.usefixtures("logged_in")
def test_second_push_deletes_nothing_that_is_left_out_or_of_the_other_kind(hub, model_folder: Path) -> None:
    add(model_folder, "onnx/model.onnx", "graph")
    push(PushArguments(str(model_folder), "owner/teacher"))
    add(model_folder, "config.json", (model_folder / "config.json").read_text() + "\n")
    plan = push(PushArguments(str(model_folder), "owner/teacher", leave_out=["model.safetensors"]))
    assert "model.safetensors" not in "\n".join(plan.replaced) and "unless above: onnx/*" in plan.summary()
    (model_folder / "onnx/model.onnx").unlink()
    add(model_folder, "onnx/model_int8.onnx", "smaller")
    (model_folder / "model.safetensors").unlink()
    push(PushArguments(str(model_folder), "owner/teacher"))
    files = hub.files("models/owner/teacher")
    assert files.keys() >= {"model.safetensors", "onnx/model_int8.onnx"} and "onnx/model.onnx" not in files


@pytest.mark.usefixtures("logged_in")
def test_a_shard_that_is_left_out_stays_there(hub, corpus_folder: Path) -> None:
    for options in ({}, {"leave_out": ["data/train-*"]}):
        push(PushArguments(str(corpus_folder), "owner/corpus", config_name="beam", **options))
    assert any(path.startswith("beam/train-") for path in hub.files("datasets/owner/corpus"))


@pytest.mark.usefixtures("logged_in")
def test_second_push_of_the_same_makes_no_commit(hub, model_folder: Path, corpus_folder: Path) -> None:
    for folder in (model_folder, corpus_folder):
        first = push(PushArguments(str(folder), f"owner/{folder.name}"))
        commits, sent = len(hub.messages), hub.uploaded()
        again = push(PushArguments(str(folder), f"owner/{folder.name}"))
        assert Path(str(again.url)).name == Path(str(first.url)).name
        assert (len(hub.messages), hub.uploaded()) == (commits, sent)


@pytest.mark.usefixtures("logged_in")
def test_push_to_a_branch_leaves_main_alone(hub, corpus_folder: Path) -> None:
    push(PushArguments(str(corpus_folder), "owner/corpus", revision="v2"))
    assert list(hub.files("datasets/owner/corpus")) == [".gitattributes"]
    assert "manifest.json" in hub.files("datasets/owner/corpus", "v2")


@pytest.mark.usefixtures("logged_in")
def test_tag_names_the_commit_and_never_moves(hub, corpus_folder: Path) -> None:
    args = PushArguments(str(corpus_folder), "owner/corpus", tag="v1")
    plan = push(args)
    repository = hub.repositories["datasets/owner/corpus"]
    assert repository.tags == {"v1": Path(str(plan.url)).name} == {"v1": repository.branches["main"]}
    push(args)
    add(corpus_folder, "notes.md")
    push(PushArguments(str(corpus_folder), "owner/corpus"))
    assert repository.tags["v1"] != repository.branches["main"]
    add(corpus_folder, "more.md")
    sent = len(hub.messages)
    with pytest.raises(ValueError, match=rf"`tag` must be new, but 'v1' .* commit {repository.tags['v1']}"):
        push(args)
    assert len(hub.messages) == sent


@pytest.mark.usefixtures("logged_in")
def test_space_goes_with_its_sdk(hub, tmp_path: Path) -> None:
    add(tmp_path / "demo", "README.md", "---\ntitle: Demo\nsdk: gradio\n---\nTranslate.\n")
    add(tmp_path / "demo", "app.py", "import gradio\n")
    plan = push(PushArguments(str(tmp_path / "demo"), "owner/demo"))
    assert plan.repo_type == "space"
    assert hub.repositories["spaces/owner/demo"].sdk == "gradio"
    assert hub.files("spaces/owner/demo")["app.py"] == b"import gradio\n"
    add(tmp_path / "demo", "app.py", "import gradio as gr\n")
    push(PushArguments(str(tmp_path / "demo"), "owner/demo", leave_out=["README.md"]))
    assert hub.files("spaces/owner/demo")["app.py"] == b"import gradio as gr\n"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("optimizer.pt", "x", "an optimizer's state"),
        ("optimizer.bin", "x", "an optimizer's state"),
        ("sub/optimizer_0/x.distcp", "x", "an optimizer's state"),
        ("global_step10/zero_pp_rank_0_mp_rank_00_optim_states.pt", "x", "an optimizer's state"),
        (".env", "x", "a secret by its name"),
        ("sub/.env.local", "x", "a secret by its name"),
        ("checkpoint-1/id_rsa", "x", "a secret by its name"),
        ("server.pem", "x", "a secret by its name"),
        ("notes.txt", "log in with hf_" + "aB3" * 12 + " please", "a text with a token or a private key"),
        ("run.log", "x\n" * 9000 + "AKIA" + "A1B2" * 4, "a text with a token or a private key"),
        ("notes.md", "ghp_" + "a1" * 20, "a text with a token or a private key"),
        ("sub/key", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "a text with a token or a private key"),
    ],
)
def test_secrets_and_optimizer_states_go_only_if_told(model_folder: Path, name: str, text: str, reason: str) -> None:
    add(model_folder, name, text)
    args = {"folder": str(model_folder), "repo_id": "owner/name", "dry_run": True}
    with pytest.raises(ValueError, match=r"with `--leave_out .*`, or send them with `--allow") as raised:
        push(PushArguments(**args))
    assert f"{name} ({reason})" in str(raised.value)
    assert text.split()[-1] not in str(raised.value) or len(text) == 1
    assert name in push(PushArguments(**args, leave_out=[name])).left_out
    assert name in push(PushArguments(**args, allow=[name])).files


def test_own_token_goes_nowhere_whatever_it_looks_like(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(model_folder, "notes.txt", "my-strange-token")
    args = PushArguments(str(model_folder), "owner/name", dry_run=True)
    assert "notes.txt" in push(args).files
    monkeypatch.setenv("HF_TOKEN", "my-strange-token")
    with pytest.raises(ValueError, match="notes.txt"):
        push(args)


def test_words_that_only_begin_like_a_token_are_none(model_folder: Path) -> None:
    add(model_folder, "notes.txt", "hf_nat hf_hub_download xhf_" + "a" * 40)
    add(model_folder, "empty.txt", "")
    (model_folder / "binary.dat").write_bytes(b"\0hf_" + b"a" * 40)
    files = push(PushArguments(str(model_folder), "owner/name", dry_run=True)).files
    assert {"notes.txt", "empty.txt", "binary.dat"} <= files.keys()


def test_push_without_token_says_so_before_anything_is_sent(hub, model_folder: Path) -> None:
    with pytest.raises(PermissionError, match=r"push to owner/teacher needs .* Run `hf auth login` or set HF_TOKEN\."):
        push(PushArguments(str(model_folder), "owner/teacher"))
    assert hub.log == []


def test_push_with_a_refused_token_says_so(hub, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_nobodysToken")
    with pytest.raises(PermissionError, match=r"refused to write to owner/teacher \(status 401\)"):
        push(PushArguments(str(model_folder), "owner/teacher"))
    assert hub.repositories == {}


@pytest.mark.parametrize("repo_id", ["name", "a/b/c", ""])
def test_push_repo_id_without_owner_is_an_error(model_folder: Path, repo_id: str) -> None:
    with pytest.raises(ValueError, match=f"`repo_id` must be owner/name, got '{repo_id}'"):
        push(PushArguments(str(model_folder), repo_id, dry_run=True))


def test_push_malformed_repo_id_is_an_error(model_folder: Path) -> None:
    with pytest.raises(ValueError, match="owner/na me"):
        push(PushArguments(str(model_folder), "owner/na me", dry_run=True))
    assert not (model_folder / "README.md").exists()


def test_push_needs_one_destination(tmp_path: Path) -> None:
    for options in ({}, {"repo_id": "owner/name", "local_dir": "there"}):
        with pytest.raises(ValueError, match="Give `repo_id` or `local_dir`, one of them"):
            PushArguments(str(tmp_path), **options)
    with pytest.raises(ValueError, match="are for the Hub"):
        PushArguments(str(tmp_path), local_dir="there", tag="v1")


def test_push_wrong_repo_type_is_an_error(corpus_folder: Path) -> None:
    with pytest.raises(ValueError, match="`repo_type` must be 'dataset' for .*, got 'model'"):
        push(PushArguments(str(corpus_folder), "owner/name", repo_type="model", dry_run=True))


def test_push_options_of_corpora_are_an_error_for_a_model(model_folder: Path, tmp_path: Path) -> None:
    for options in ({"repo_id": "owner/name", "config_name": "beam"}, {"local_dir": str(tmp_path / "there")}):
        with pytest.raises(ValueError, match="are for corpora, got the model"):
            push(PushArguments(str(model_folder), **options))


def test_push_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`folder` must be an existing folder, got '.*nowhere'"):
        push(PushArguments(str(tmp_path / "nowhere"), "owner/name", dry_run=True))


def test_push_folder_that_is_neither_model_nor_corpus_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=rf"{re.escape(repr(str(tmp_path)))} with \['config\.json'\]"):
        push(PushArguments(str(tmp_path), "owner/name", dry_run=True))


def test_push_model_without_tokenizer_is_an_error(model_folder: Path) -> None:
    (model_folder / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"must hold the model's tokenizer, got '.*teacher'"):
        push(PushArguments(str(model_folder), "owner/name", dry_run=True))


def test_push_corpus_of_an_unfinished_distillation_is_an_error(corpus_folder: Path) -> None:
    (corpus_folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"manifest\.json or a README\.md, got '.*distilled' with neither"):
        push(PushArguments(str(corpus_folder), "owner/name", dry_run=True))


def test_push_corpus_that_lost_a_shard_is_an_error(corpus_folder: Path) -> None:
    (corpus_folder / "data/train-00001-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match=r"every shard of its manifest, .* without data/train-00001-of-"):
        push(PushArguments(str(corpus_folder), "owner/name", dry_run=True))


def test_push_corpus_with_its_own_card_needs_no_manifest(corpus_folder: Path) -> None:
    (corpus_folder / "manifest.json").unlink()
    (corpus_folder / "README.md").write_text("Mine.")
    assert push(PushArguments(str(corpus_folder), "owner/name", dry_run=True)).files["README.md"] == len("Mine.")


def test_token_of_the_test_looks_like_one() -> None:
    assert re.fullmatch("hf_[A-Za-z0-9]{30,}", TOKEN)

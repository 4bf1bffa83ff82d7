"""Folders that hold more than files, names that git and the Hub refuse, and corpora that lack something."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hf_nat.hub.push import PushArguments, push
from hf_nat_cli import main


def plan(folder: Path, **options):
    return push(PushArguments(str(folder), "owner/name", dry_run=True, **options))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody else."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text("mine")
    return folder


@pytest.mark.parametrize("name", ["link.txt", "sub", "sub/link.txt", "README.md", "config.json", "data"])
def test_a_link_out_of_the_folder_is_refused(name: str, model_folder: Path, outside: Path) -> None:
    target = outside / "secret.txt" if "." in name else outside
    if name == "config.json":
        (model_folder / name).rename(target)
    (model_folder / name).parent.mkdir(exist_ok=True)
    (model_folder / name).symlink_to(os.path.relpath(target, (model_folder / name).parent))
    with pytest.raises(
        ValueError, match=rf"{name} \(a link out of the folder\)\. .*behind them with `--follow_links`"
    ):
        plan(model_folder)
    files = plan(model_folder, follow_links=True).files
    sent = f"{name}/secret.txt" if target == outside else name
    assert sent in files
    if name != "config.json":
        left_out = plan(model_folder, leave_out=[name]).left_out
        assert name in left_out and sent not in plan(model_folder, leave_out=[name]).files


def test_a_temporary_file_that_goes_meanwhile_is_not_missed(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists, gone = Path.exists, model_folder / ".README.md.1.tmp"

    def exists_and_goes(path: Path) -> bool:
        found = exists(path)
        if path == gone:
            gone.unlink()
        return found

    before = plan(model_folder)
    for exists_now in (lambda path: path != gone and exists(path), exists_and_goes):
        gone.write_text("the card that another push writes")
        monkeypatch.setattr(Path, "exists", exists_now)
        assert plan(model_folder) == before


def test_links_inside_the_folder_go(model_folder: Path) -> None:
    (model_folder / "sub").mkdir()
    (model_folder / "sub/notes.txt").write_text("x")
    (model_folder / "copy.txt").symlink_to("sub/notes.txt")
    (model_folder / "other").symlink_to("sub")
    link = model_folder.with_name("link")
    link.symlink_to(model_folder)
    for folder in (model_folder, link):
        assert {"copy.txt", "sub/notes.txt", "other/notes.txt"} <= plan(folder).files.keys()


def test_links_in_what_stays_here_do_not_matter(model_folder: Path, outside: Path) -> None:
    (model_folder / "runs").symlink_to(outside)
    (model_folder / ".cache").symlink_to(outside)
    assert not any("secret" in name for name in plan(model_folder).files)


@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize("links", [{"loop": "."}, {"a/x": "../b", "b/y": "../a"}, {"a/up": ".."}])
def test_links_in_a_circle_end(links: dict[str, str], follow_links: bool, model_folder: Path) -> None:
    for name, target in links.items():
        (model_folder / name).parent.mkdir(exist_ok=True)
        (model_folder / name).symlink_to(target)
    with pytest.raises(ValueError, match=r"\(a link to a folder that holds it\).*`--leave_out"):
        plan(model_folder, follow_links=follow_links)


def test_a_snapshot_of_the_cache_goes(model_folder: Path, tmp_path: Path) -> None:
    expected = plan(model_folder).files
    snapshot, blobs = tmp_path / "cache/snapshots/1", tmp_path / "cache/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(path for path in sorted(model_folder.rglob("*")) if path.is_file()):
        link = snapshot / path.relative_to(model_folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / str(number))
        link.symlink_to(blobs / str(number))
    assert plan(snapshot).files.keys() == expected.keys()
    (tmp_path / "cache/secret.txt").write_text("mine")
    (snapshot / "link.txt").symlink_to(tmp_path / "cache/secret.txt")
    with pytest.raises(ValueError, match=r"link.txt \(a link out of the folder\)"):
        plan(snapshot)


@pytest.mark.parametrize(
    "name", ["pipe", "config.json", "README.md", "manifest.json", "data/train-0.parquet", "socket"]
)
def test_what_is_no_file_is_refused_and_never_read(name: str, model_folder: Path, monkeypatch) -> None:
    path = model_folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    monkeypatch.chdir(path.parent)  # The name of a socket has a limit of 108 bytes.
    if name == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    else:
        os.mkfifo(path)
    with pytest.raises(ValueError, match=rf"{name} \(a pipe, socket or device\)"):
        plan(model_folder)
    if name in ("pipe", "socket"):
        assert name in plan(model_folder, leave_out=[name]).left_out


def test_a_link_to_nothing_is_refused(model_folder: Path) -> None:
    (model_folder / "link").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"link \(a link to nothing\).*`--leave_out link`"):
        plan(model_folder)
    assert "link" in plan(model_folder, leave_out=["link"]).summary()


BAD_REFS = [
    "../../x",
    "a b",
    "a..b",
    "-x",
    "/x",
    "x/",
    "x.",
    ".x",
    "a/.b",
    "a//b",
    "x.lock",
    "x.lock/y",
    "@",
    "a@{1}",
    "",
]
BAD_REFS += [f"a{character}b" for character in "~^:?*[\\\x7f\t\n"]


@pytest.mark.parametrize("option", ["revision", "tag"])
@pytest.mark.parametrize("name", BAD_REFS)
def test_a_name_that_git_refuses_is_refused_before_all_else(option: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{option}` must be a name that git takes"):
        PushArguments("folder", "owner/name", **{option: name})


@pytest.mark.parametrize("name", ["v1.0", "main", "refs/pr/1", "a/b-c_d", "@x", "x@y", "ü"])
def test_a_name_that_git_takes_is_taken(name: str) -> None:
    assert PushArguments("folder", "owner/name", revision=name, tag=name).tag == name


@pytest.mark.parametrize(
    "name", ["owner/na--me", "owner/na..me", "owner/-name", "owner/name.git", "ömer/name", "o/" + "x" * 97]
)
def test_a_name_that_the_hub_refuses_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="(?i)repo"):
        PushArguments("folder", name)


@pytest.mark.parametrize("options", [[], ["--config_name=beam"]])
@pytest.mark.parametrize("manifest", [None, "", "{oops", "\udc80", "{}", "[]", '{"counts": {}}'])
def test_a_corpus_without_a_sound_manifest_is_one_line(
    manifest: str | None, options: list[str], corpus_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = corpus_folder / "manifest.json"
    path.unlink()
    if manifest is not None:
        path.write_bytes(manifest.encode(errors="surrogateescape"))
    assert main(["push", f"--folder={corpus_folder}", "--repo_id=owner/name", "--dry_run", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "manifest.json" in error and str(corpus_folder) in error


@pytest.mark.parametrize("place", [".", "sub", ".."])
def test_corpora_are_put_together_beside_the_folder(place: str, corpus_folder: Path) -> None:
    with pytest.raises(ValueError, match="`local_dir` must lie beside `folder`"):
        push(PushArguments(str(corpus_folder), local_dir=str(corpus_folder / place)))


@pytest.mark.parametrize("name", ["config.json", "notes.txt", "sub/train.de"])
def test_corpora_are_not_put_among_other_things(name: str, corpus_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "there" / name
    path.parent.mkdir(parents=True)
    path.write_text("x")
    with pytest.raises(ValueError, match=rf"`local_dir` must be new or empty, .* with \['{name.split('/')[0]}'\]"):
        push(PushArguments(str(corpus_folder), local_dir=str(tmp_path / "there")))
    assert [file for file in (tmp_path / "there").rglob("*") if file.is_file()] == [path]


def test_corpora_are_put_to_corpora_and_to_words(corpus_folder: Path, greedy_folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / ".git").mkdir(parents=True)
    (there / "README.md").write_text("Mine.")
    for folder, name in ((corpus_folder, "beam"), (greedy_folder, "greedy"), (corpus_folder, "beam")):
        push(PushArguments(str(folder), local_dir=str(there), config_name=name))
    assert (there / "beam/manifest.json").is_file() and (there / "greedy/manifest.json").is_file()

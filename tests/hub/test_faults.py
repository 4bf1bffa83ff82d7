"""Pushes through a bad network and a busy Hub: what is asked again, what is sent twice, and what nobody may see."""

from __future__ import annotations

import hashlib
import logging
import traceback
from pathlib import Path

import pytest
from hub_server import TOKEN, Fault
from huggingface_hub import constants

from hf_nat.hub.push import PushArguments, push
from hf_nat.hub.retries import MAX_ATTEMPTS
from hf_nat_cli import main


LOST = 10**6
SHARD = "data/train-00000-of-00002.parquet"


@pytest.fixture
def args(logged_in, corpus_folder: Path) -> PushArguments:
    """A push of a corpus with one large shard."""
    with open(corpus_folder / SHARD, "ab") as file:
        file.write(b"\0" * 100_000)
    # The last 100 KB are no parquet, and these tests read none.
    (corpus_folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (corpus_folder / "manifest.json").unlink()
    return PushArguments(str(corpus_folder), "owner/corpus")


def sizes(folder: Path) -> int:
    """Bytes of all shards."""
    return sum(path.stat().st_size for path in (folder / "data").iterdir())


def arrived(hub, folder: Path) -> bool:
    """Tells whether the repository holds exactly the folder."""
    files = {path: content for path, content in hub.files("datasets/owner/corpus").items() if path != ".gitattributes"}
    here = [path for path in folder.rglob("*") if path.is_file()]
    return files == {path.relative_to(folder).as_posix(): path.read_bytes() for path in here}


@pytest.mark.parametrize(
    "line",
    [
        "POST /api/repos/create",
        "GET /api/datasets/owner/corpus",
        "GET .*/tree/",
        "POST /api/validate-yaml",
        "POST .*/preupload/",
        "POST .*/objects/batch",
        "PUT /lfs/",
        "POST .*/verify",
        "POST .*/commit/",
        "POST .*/branch/",
        "GET .*/refs",
        "POST .*/tag/",
    ],
)
@pytest.mark.parametrize("fault", [{"status": 503}, {"cut_after": 0}], ids=["503", "cut"])
def test_every_request_may_fail_once(hub, args, line: str, fault: dict, corpus_folder: Path) -> None:
    hub.faults.append(Fault(line, **fault))
    args.revision, args.tag = "v2", "t"
    url = push(args).url
    assert hub.faults[0].times == 0, "the fault was not met"
    repository = hub.repositories["datasets/owner/corpus"]
    assert repository.tags == {"t": repository.branches["v2"]} == {"t": Path(str(url)).name}
    assert len(hub.messages) == 2
    hub.repositories["datasets/owner/corpus"].branches["main"] = repository.branches["v2"]
    assert arrived(hub, corpus_folder)


@pytest.mark.parametrize("line", ["POST /api/repos/create", "POST .*/commit/", "POST .*/tag/", "PUT /lfs/"])
def test_reply_that_is_lost_makes_nothing_twice(hub, args, line: str, corpus_folder: Path) -> None:
    hub.faults.append(Fault(line, lose_reply=True))
    args.tag = "t"
    push(args)
    assert len(hub.messages) == 2
    assert hub.repositories["datasets/owner/corpus"].tags == {
        "t": hub.repositories["datasets/owner/corpus"].branches["main"]
    }
    assert arrived(hub, corpus_folder)


def test_connection_cut_in_the_middle_of_a_file_sends_only_that_file_again(hub, args, corpus_folder: Path) -> None:
    hub.faults.append(Fault("PUT /lfs/", cut_after=1000))
    push(args)
    assert arrived(hub, corpus_folder)
    assert hub.uploaded() == sizes(corpus_folder) + 1000


def test_later_push_sends_only_what_had_not_arrived(hub, args, waits: list[float], corpus_folder: Path) -> None:
    oid = hashlib.sha256((corpus_folder / SHARD).read_bytes()).hexdigest()
    hub.faults.append(Fault(f"PUT /lfs/{oid}", cut_after=1000, times=LOST))
    with pytest.raises(ConnectionError, match="Run the same command again") as raised:
        push(args)
    assert len(hub.messages) == 1, "a commit without its files"
    cuts = LOST - hub.faults[0].times
    others = sizes(corpus_folder) - (corpus_folder / SHARD).stat().st_size
    assert hub.uploaded() == others + 1000 * cuts
    assert f"{MAX_ATTEMPTS} of {MAX_ATTEMPTS} times" in str(raised.value)
    hub.faults.clear()
    hub.log.clear()
    push(args)
    assert hub.uploaded() == (corpus_folder / SHARD).stat().st_size
    assert arrived(hub, corpus_folder)


def test_large_file_goes_in_parts_of_which_only_the_cut_one_is_sent_again(hub, args, corpus_folder: Path) -> None:
    hub.part_size = 20_000
    hub.faults.append(Fault("PUT /lfs/.*/3", cut_after=1000))
    push(args)
    parts = -(-(corpus_folder / SHARD).stat().st_size // hub.part_size)
    assert sum(request.line.startswith("POST /lfs") and "complete" in request.line for request in hub.log) == 1
    assert sum("/lfs/" in request.line and request.line[-2] == "/" for request in hub.log) == parts + 1
    assert hub.uploaded() == sizes(corpus_folder) + 1000
    assert arrived(hub, corpus_folder)


@pytest.mark.parametrize("line", ["POST .*/commit/", "POST .*/preupload/", "POST /api/repos/create"])
@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "7"}, {"RateLimit": '"api";r=0;t=7', "RateLimit-Policy": '"fixed window";"api";q=9;w=300'}],
    ids=["Retry-After", "RateLimit"],
)
def test_a_busy_hub_is_asked_again_when_it_says(hub, args, waits, line: str, headers: dict) -> None:
    hub.faults.append(Fault(line, status=429, headers=headers))
    push(args)
    assert waits == [8.0]
    assert len(hub.messages) == 2


def test_a_hub_that_asks_for_an_hour_is_not_waited_for(hub, args, waits) -> None:
    hub.faults.append(Fault("POST .*/commit/", status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(ConnectionError, match="(?s)cut short 1 of 5 times.*again in 3601 s or later"):
        push(args)
    assert waits == []


def test_a_hub_that_stays_broken_is_left_after_five_attempts(hub, args, waits) -> None:
    hub.faults.append(Fault(".*", status=500, times=LOST))
    with pytest.raises(ConnectionError, match=r"push to owner/corpus was cut short 5 of 5 times: .*500"):
        push(args)
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert len(hub.log) == 5


def test_a_request_that_the_hub_finds_wrong_is_not_repeated(hub, args, waits) -> None:
    hub.faults.append(Fault("POST .*/commit/", status=422))
    with pytest.raises(OSError, match="422"):
        push(args)
    assert waits == []


def test_command_says_what_to_do_without_a_traceback(hub, args, waits, capsys) -> None:
    hub.faults.append(Fault(".*", status=503, times=LOST))
    assert main(["push", "--folder", args.folder, "--repo_id", args.repo_id]) == 2
    assert "Run the same command again in" in capsys.readouterr().err


def test_configuration_that_someone_pushes_meanwhile_is_not_lost(
    hub, logged_in, corpus_folder: Path, greedy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(PushArguments(str(corpus_folder), "owner/m30k", config_name="first"))
    verify = hub.resolve
    rival = [PushArguments(str(greedy_folder), "owner/m30k", config_name="greedy")]

    def resolve(repository: str, revision: str) -> str | None:
        # The rival commits between our reading of the card and our commit.
        if rival and hub.log[-1].line.startswith("POST") and "/commit/" in hub.log[-1].line:
            push(rival.pop())
        return verify(repository, revision)

    monkeypatch.setattr(hub, "resolve", resolve)
    push(PushArguments(str(corpus_folder), "owner/m30k", config_name="beam"))
    assert 412 in [request.status for request in hub.log]
    card = hub.files("datasets/owner/m30k")["README.md"].decode()
    assert [name for name in ("first", "beam", "greedy") if f"\n- config_name: {name}\n" in card] == [
        "first",
        "beam",
        "greedy",
    ]
    assert "beam/manifest.json" in hub.files("datasets/owner/m30k")
    assert "greedy/manifest.json" in hub.files("datasets/owner/m30k")


@pytest.mark.parametrize("fault", [None, Fault("POST .*/commit/", status=400), Fault(".*", status=500, times=LOST)])
def test_nobody_sees_the_token(hub, args, fault, tmp_path: Path, caplog, capfd, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_DEBUG", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="huggingface_hub")
    hub.faults.extend([fault] if fault else [])
    shown = ""
    try:
        push(args)
    except OSError as error:
        shown = "".join(traceback.format_exception(error))
    assert bool(shown) is bool(fault)
    shown += caplog.text + "".join(capfd.readouterr())
    assert "owner/corpus" in shown
    assert TOKEN not in shown
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(TOKEN.encode() in path.read_bytes() for path in files)
    assert not any(TOKEN.encode() in content for content in hub.blobs.values())

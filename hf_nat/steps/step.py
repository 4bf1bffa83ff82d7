"""A step: a typed plan that knows its fingerprint, does its work once, and leaves a record and a card."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout
from transformers.utils import logging

from ..base.files import atomic_path, new_folder
from ..base.folders import remove_leftovers
from ..base.processes import main_process_decides, process_state
from ..base.utils import check_record, environment, read_record, write_json


logger = logging.get_logger(__name__)

RECORD_FILE = "step.json"
CARD = "README.md"
LOCK_FILE = ".lock"
_HOLDER_FILE = ".lock-holder"
# A record names the versions of these; with others the bytes may differ, which is said and no more.
_VERSIONS = ("torch", "transformers", "ctranslate2")


class Step(ABC):
    """One piece of work with a folder of its own.

    `run` is all that a caller needs: where the same step is finished it writes no more than cards that are gone; it
    goes on where it was begun, and refuses a folder that holds something else. The processes of a launcher call it
    together.

    A subclass is a frozen dataclass of arguments that are resolved, and says what its bytes depend on: `settings`,
    known before any work, and `inputs`, fingerprints of what it reads, which the steps before it may have to make
    first. Paths, logs and cards are in neither.
    """

    name: ClassVar[str]
    # Inputs that may change beside a finished result, which is then made anew in its place.
    renewing: ClassVar[tuple[str, ...]] = ()
    # The option that names the folder, for errors.
    folder_option: ClassVar[str] = "output_dir"
    args: Any

    @property
    def folder(self) -> Path:
        """Where the step writes, by default the `output_dir` of its arguments; it is locked meanwhile."""
        return Path(self.args.output_dir)

    @property
    def record_path(self) -> Path:
        """File of the record."""
        return self.folder / RECORD_FILE

    @property
    def remedy(self) -> str:
        """What an error about the folder advises."""
        return _REMEDY

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Arguments that decide about the bytes, as JSON can hold them."""

    @abstractmethod
    def inputs(self) -> dict[str, Any]:
        """Fingerprints of what is read: local inputs by their content, those on the Hub by their commit."""

    def check_inputs(self, made: Collection[Path] = ()) -> None:  # noqa: B027 - not every step has to
        """Raises for an input that is not there, so that work before this step is not in vain.

        Args:
            made (`Collection[Path]`, *optional*): folders that are written before this step runs.
        """

    def prepare(self) -> None:  # noqa: B027 - not every step has to
        """Finds out what would fail, before anything is written; all processes call it."""

    @abstractmethod
    def work(self) -> None:
        """Does the work, from where a killed run stopped; all processes call it."""

    def contents(self) -> list[str]:
        """Names of what is in the folder and bears on the step; before it has begun there must be none."""
        return sorted(
            path.name for path in self.folder.glob("*") if not path.name.startswith(".") and path != self.record_path
        )

    def made(self) -> list[str]:
        """Names of what a run has made that binds: without any, the folder is free for another run of the step."""
        return self.contents()

    def discard(self) -> None:  # noqa: B027 - not every step leaves something
        """Removes what a run left that made no result, on the main process."""

    def is_whole(self) -> bool:
        """Tells, of a finished step, whether everything that it made is still there."""
        return True

    def seal(self) -> dict[str, Any]:
        """What the record of the finished step says of what was made, for `is_whole`; by default nothing."""
        return {}

    def card_folders(self) -> list[Path]:
        """The folders whose README.md the step writes; a finished step writes those anew that are gone."""
        return []

    def write_card(self) -> None:  # noqa: B027 - not every step has one
        """Writes the cards of what was made, on the main process."""

    def check(self) -> None:
        """Compares the settings with those that the folder was begun with: an error now, not in hours.

        Raises:
            ValueError: naming the setting that differs, with both values and the remedy, or what else is there.
        """
        record = self._record()
        if record is None:
            self._require_empty()
        elif record["finished"] or self.made():
            self._compare(record, {"settings": self.settings()})

    def run(self) -> Path:
        """Does what is left to do.

        Returns:
            `Path`: the folder.

        Raises:
            ValueError: if the folder holds something else, naming the first field that differs, another process works
                in it, or an argument is no Unicode text.
        """
        _require_unicode(self)
        state = process_state()
        with state.main_process_first():
            # All processes read the inputs; the main one first, so that the others find them in the caches.
            identity = _plain({"settings": self.settings(), "inputs": self.inputs()})
        # Before the lock, so that not even its file comes into a folder of something else; and again, once no other
        # process can change it.
        main_process_decides(lambda: self._own_record(identity))
        if main_process_decides(lambda: not self._may_write() and self._is_finished(identity)):
            logger.info(f"{self.folder}: this {self.name} step is finished already.")
            return self.folder
        with self._lock():
            if main_process_decides(lambda: self._is_finished(identity)):
                logger.info(f"{self.folder}: this {self.name} step is finished already.")
                if state.is_main_process and not all((card / CARD).is_file() for card in self.card_folders()):
                    self.write_card()
                return self.folder
            self.prepare()
            if state.is_main_process:
                remove_leftovers(self.folder)
                if not self.made():
                    self.discard()
                self._write_record(identity, finished=False)
            state.wait_for_everyone()
            try:
                self.work()
            except Exception:
                if state.is_main_process and not self.made():
                    self.discard()  # What is wrong can be mended and run again here.
                    self.record_path.unlink()
                raise
            state.wait_for_everyone()
            if state.is_main_process:
                self.write_card()
                self._write_record(identity, finished=True)
            state.wait_for_everyone()
        return self.folder

    def _may_write(self) -> bool:
        return not self.folder.is_dir() or os.access(self.folder, os.W_OK, effective_ids=True)

    def _is_finished(self, identity: Mapping[str, Any]) -> bool:
        """Compares the folder with this step; returns whether there is nothing to do."""
        record = self._own_record(identity)
        if record is None:
            return False
        self._warn_of_versions(record)
        now = identity["inputs"]  # What cannot be had any more has not changed.
        is_same = all(name not in now or record["inputs"].get(name) == now[name] for name in self.renewing)
        return record["finished"] and is_same and self.is_whole()

    def _own_record(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the record of this step, None in a free folder; anything else is an error."""
        record = self._record()
        if record is None:
            self._require_empty()
        elif not record["finished"] and not self.made():
            return None
        else:
            self._compare(record, identity)
        return record

    def _record(self) -> dict[str, Any] | None:
        if not os.path.lexists(self.record_path):
            return None
        try:
            record = read_record(self.record_path, {"step": str, "settings": dict, "inputs": dict, "finished": bool})
            check_record(record.get("versions", {}), {}, "`versions`")
        except ValueError as error:
            raise ValueError(
                f"`{self.record_path}` must be the JSON record of a step: {str(error).rstrip('.')}. {self.remedy}"
            ) from error
        if record["step"] != self.name:
            raise ValueError(
                f"`{self.record_path}` must be of a {self.name} step, got a {record['step']} step. {self.remedy}"
            )
        return record

    def _compare(self, record: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        for part, wanted in identity.items():
            free = self.renewing if part == "inputs" else ()
            before, now = (
                dict(_flat({name: value for name, value in side.items() if name not in free}))
                for side in (record[part], _plain(wanted))
            )
            for name in sorted(before.keys() | now.keys()):
                if before.get(name) != now.get(name):
                    was, found = (repr(values[name]) if name in values else "unset" for values in (before, now))
                    unknown = "" if name in before and name in now else " (or an earlier version kept other records)"
                    raise ValueError(
                        f"`{name}` must be the same in every run into {str(self.folder)!r}: it was {was}, got "
                        f"{found}{unknown}. {self.remedy}"
                    )

    def _require_empty(self) -> None:
        if found := self.contents():
            raise ValueError(
                f"`{self.folder_option}` must be new, empty, or hold the {self.record_path.name} of the same step, "
                f"got {str(self.folder)!r} with {', '.join(found[:3])} and no {self.record_path.name}: something "
                f"else, or made by a version before there were records. {self.remedy}"
            )

    def _warn_of_versions(self, record: Mapping[str, Any]) -> None:
        before, now = record.get("versions", {}), _versions()
        for name in sorted(before.keys() & now.keys()):
            if before[name] != now[name]:
                logger.warning(
                    f"{self.folder} was begun with {name} {before[name]}, this is {now[name]}: the bytes may differ "
                    "from those of one version."
                )

    def _write_record(self, identity: Mapping[str, Any], *, finished: bool) -> None:
        record = {"step": self.name, "fingerprint": fingerprint(identity), **identity, "finished": finished}
        seal = self.seal() if finished else {}
        write_json(self.record_path, {**record, **seal, "versions": _versions()})

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Holds the folder: one lock for all processes of a launcher, which ends with the main one.

        Where nothing was made, neither its file nor a new folder is left.
        """
        with ExitStack() as stack:

            def enter() -> None:
                """Makes the folder where there is none, and locks it; done by the main process."""
                _require_folder(self.folder, self.folder_option)
                if not self._may_write():
                    raise PermissionError(
                        f"`{self.folder_option}` must be a folder that can be written to, got {str(self.folder)!r}. "
                        "Change its rights, or use another one."
                    )
                stack.enter_context(new_folder(self.folder))
                stack.enter_context(_held(self.folder, self.folder_option))

            main_process_decides(enter)
            yield


_REMEDY = "Use another `output_dir`, or delete this one."


def check_steps(steps: Iterable[Step]) -> None:
    """Checks the settings of steps before the first of them works; see `Step.check`."""
    for step in steps:
        step.check()


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a mapping that JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _require_unicode(step: Step) -> None:
    """Raises for an argument that a record could not hold at the end, such as the name of a file in Latin-1."""
    for part in filter(is_dataclass, vars(step).values()):
        for name, value in vars(part).items():
            for text in _texts(value):
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise ValueError(
                        f"`{name}` must be Unicode text, as the records of a step are, got {text!r}. Rename it."
                    ) from None


def _texts(value: Any) -> Iterator[str]:
    """Yields a text, or those in a list or mapping."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([*value.items()])
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)


def _require_folder(folder: Path, name: str) -> None:
    if os.path.lexists(folder) and not folder.is_dir():
        kind = "file" if folder.exists() else "link to nothing"
        raise ValueError(f"`{name}` must be a folder, got the {kind} {str(folder)!r}. Use another one.")


@contextmanager
def _held(folder: Path, name: str) -> Iterator[None]:
    """Takes the lock of a folder, of the option `name`, and leaves a note of who has it."""
    # Long enough to try again: a file that its last holder has removed since it was opened is none any more.
    lock, holder = FileLock(folder / LOCK_FILE, timeout=0.2), folder / _HOLDER_FILE
    try:
        lock.acquire()
    except Timeout:
        # The note may come a moment later than the lock.
        who = (holder.read_text(encoding="utf-8", errors="replace") if holder.is_file() else "") or "another process"
        raise ValueError(
            f"`{name}` must be free, got {str(folder)!r}, in which {who} works. Wait for it, or use another one."
        ) from None
    try:
        # Whatever has its name gives way: a pipe would wait for a reader, a link lead out of the folder.
        with atomic_path(holder) as temporary:
            temporary.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        with suppress(OSError):
            (folder / LOCK_FILE).unlink()
        lock.release()


def _versions() -> dict[str, str]:
    versions = environment()["versions"]
    return {name: versions[name] for name in _VERSIONS if name in versions}


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree as it comes back from a JSON file."""
    return json.loads(json.dumps(tree))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested dicts with dotted names."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

"""The command `hf-nat`, outside the package, whose import loads torch: `hf-nat --help` answers at once."""

from __future__ import annotations

import difflib
import errno
import glob
import io
import os
import select
import sys
import tempfile
import traceback
from collections.abc import Sequence
from itertools import takewhile


# command -> (module of hf_nat.cli, what it does)
COMMANDS = {
    "toy": ("toy", "generate the toy corpus, a translation task with known modes"),
    "train": ("train", "train an AT teacher or a NAT student"),
    "distill": ("distill", "replace the training targets of a corpus by a teacher's translations"),
    "born-again": ("born_again", "distill again and again: teachers that learn from the teacher before"),
    "filter": ("filter", "leave suspicious rows of a distilled corpus out"),
    "mix": ("mix", "make one corpus of several, by weights"),
    "translate": ("translate", "translate a file or standard input"),
    "evaluate": ("evaluate", "translate a test split and score it"),
    "tune": ("tune", "choose the value of a decoding knob on a validation split"),
    "calibrate": ("calibrate", "learn on a validation split how good a translation with a certain score is"),
    "language-model": ("language_model", "make an n-gram model of a corpus' targets, for a student's beam search"),
    "align": ("align", "align the words of a parallel corpus"),
    "analyze": ("analyze", "measure what distillation did to a corpus"),
    "recommend": ("recommend", "rank distilled corpora for a student"),
    "experiment": ("experiment", "re-run a study of the paper, from data to tables and figures"),
    "demo": ("demo", "show in a browser how a student writes, round by round, beside its teacher"),
    "serve": ("serve", "answer requests over HTTP, their sentences batched together"),
    "export": ("export", "make graphs of a student for ONNX Runtime and OpenVINO, which decode without torch"),
    "push": ("push", "publish a model, corpus, Space or `evaluate` module on the Hub"),
    "quickstart": ("quickstart", "run the whole path on the toy corpus and write a report"),
}
# Commands that go on from what a killed run left; the others start again.
_RESUMABLE = ("train", "distill", "born-again", "tune", "analyze", "recommend", "experiment", "quickstart")
# As a shell reports a program that SIGINT or SIGPIPE has ended.
_INTERRUPTED, _BROKEN_PIPE = 130, 141
# As `hf_nat.base.files` names it in an error.
_OUTPUT = "standard output"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; no error is more than one line on standard error.

    Args:
        argv (`Sequence[str]`, *optional*): the command and its arguments; by default those of the process.

    Returns:
        `int`: the exit status: 0; 2 for input that breaks a rule; 1 for an error that nobody expected, with its trace
        in a file; 130 after Ctrl-C; 141 if nobody reads the output any more.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next(iter(argv), "")
    _prepare_streams()
    try:
        status = _run(argv)
        _flush_output()
        return status
    except KeyboardInterrupt:
        next_time = "goes on where it stopped" if command in _RESUMABLE else "starts again"
        print(f"hf-nat {command}: Interrupted. The same command {next_time}.", file=sys.stderr)
        return _INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        if isinstance(error, BrokenPipeError) and (error.filename == _OUTPUT or _nobody_reads()):
            return _BROKEN_PIPE
        print(f"hf-nat {command}: {_one_line(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        print(
            f"hf-nat {command}: unexpected {type(error).__name__}: {_one_line(error)}; {_keep_trace(command)}",
            file=sys.stderr,
        )
        return 1
    finally:
        _give_up_output()


def usage() -> str:
    """Lists the commands."""
    lines = [f"  {name:<11} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: hf-nat COMMAND [CONFIG.yaml ...] [--key value ...]",
            "",
            *lines,
            "",
            "`hf-nat COMMAND --help` lists the keys of a command; a YAML file holds the same keys.",
        ]
    )


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        close = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        suggestion = f" Did you mean {close[0]!r}?" if close else ""
        print(f"hf-nat: unknown command {argv[0]!r}.{suggestion} `hf-nat --help` lists the commands.", file=sys.stderr)
        return 2
    for name in takewhile(lambda argument: not argument.startswith("-"), argv[1:]):
        if name.endswith((".yaml", ".yml")) and not os.path.exists(name):  # At once: what is imported takes seconds.
            folder = os.path.dirname(name)
            near = difflib.get_close_matches(name, glob.glob(os.path.join(glob.escape(folder), "*.yaml")), n=1)
            suggestion = f" Did you mean {near[0]}?" if near else ""
            raise FileNotFoundError(f"There is no configuration file {name}.{suggestion}")
    from hf_nat.cli.main import run_command

    run_command(COMMANDS[argv[0]][0], argv[1:])
    return 0


def _one_line(error: Exception) -> str:
    """The whole message without its line breaks; where a disk without room has no name, what it can be."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None:
        return f"{error}: standard output, a cache or a temporary file. Set `HF_HOME` or `TMPDIR` to a disk with room."
    return " ".join(str(error).split()) or type(error).__name__


def _prepare_streams() -> None:
    """Gives streams that the caller has closed a descriptor, which no file of ours shall get instead.

    Reading and writing them fail as before, but what goes to standard error is lost. What standard output cannot
    encode in a message, such as the name of a folder, is written as an escape: the work is done.
    """
    streams = {"stdin": (os.O_WRONLY, "r"), "stdout": (os.O_RDONLY, "w"), "stderr": (os.O_WRONLY, "w")}
    for name, (access, mode) in streams.items():
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode, encoding="utf-8", closefd=False))
    if sys.stdout.errors == "strict" and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush_output() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, _OUTPUT) from error


def _give_up_output() -> None:
    """Drops what cannot be written, which was told: Python would try again at its end, and complain again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nobody_reads() -> bool:
    """Says whether the reader of standard output is gone."""
    try:
        output = sys.stdout.fileno()
    except OSError:
        return False
    poll = select.poll()
    poll.register(output, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _keep_trace(command: str) -> str:
    """Writes the trace of the error in hand to a file and says where, or to standard error where that fails."""
    try:
        # A new file under a name that nobody can have taken.
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"hf_nat-{command}-", suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            file.write(traceback.format_exc())
    except OSError:
        traceback.print_exc()
        return "the full trace is above"
    return f"the full trace is in {file.name}"


if __name__ == "__main__":
    sys.exit(main())

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nat_model_tester import save, tiny_student

import hf_nat.cli.toy
import hf_nat_cli
from hf_nat.base.files import open_output
from hf_nat.data.tokenizer import train_tokenizer
from hf_nat_cli import COMMANDS, main


CONFIGS = Path(__file__).parents[2] / "configs/toy"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["ab ba", "abba baab"], vocab_size=12)
    save(folder, tiny_student("cmlm", tokenizer), tokenizer)
    return folder


def test_usage_lists_every_command(capsys):
    assert main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert all(f"  {command} " in usage for command in COMMANDS)


def test_no_command_is_an_error(capsys):
    assert main([]) == 2
    assert "usage: hf-nat" in capsys.readouterr().out


def test_unknown_command_is_named(capsys):
    assert main(["trian"]) == 2
    error = capsys.readouterr().err
    assert error == "hf-nat: unknown command 'trian'. Did you mean 'train'? `hf-nat --help` lists the commands.\n"


def test_broken_rule_is_a_message_not_a_traceback(capsys):
    assert main(["train", "--learning_rte=1"]) == 2
    assert "hf-nat train: Unknown option '--learning_rte=1'" in capsys.readouterr().err


def test_usage_needs_no_library():
    program = """
import sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "datasets", "yaml", "hf_nat")))
import hf_nat_cli
sys.exit(hf_nat_cli.main(["--help"]))
"""
    root = Path(hf_nat_cli.__file__).parent
    shown = subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True)
    assert shown.stdout == f"{hf_nat_cli.usage()}\n"


@pytest.mark.parametrize(
    ("argv", "rule"),
    [
        (["train", "--max_tokens=many"], "`max_tokens` must be a whole number such as 100, got 'many'."),
        (["train", "--per_device_train_batch_size=8"], "`per_device_train_batch_size` has no effect here: "),
        (["evaluate"], "`corpus`, `source_lang`, `target_lang`, `model` must be given"),
        (["train", "nowhere.yaml"], "There is no configuration file nowhere.yaml."),
        (
            ["train", str(CONFIGS / "techer.yaml")],
            f"There is no configuration file {CONFIGS / 'techer.yaml'}. Did you mean {CONFIGS / 'teacher.yaml'}?",
        ),
    ],
)
def test_fault_of_an_argument_is_one_line(argv, rule, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert captured.err.startswith(f"hf-nat {argv[0]}: ") and rule in captured.err


@pytest.fixture
def failing(monkeypatch):
    """Makes `hf-nat toy` raise what it is called with."""

    def set_error(error):
        def run(argv):
            raise error

        monkeypatch.setattr(hf_nat.cli.toy, "run", run)

    return set_error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("one\n  - two\n\nthree"), "one - two three"),
        (OSError(), "OSError"),
        (BrokenPipeError(32, "of another process"), "[Errno 32] of another process"),
        (ImportError("pip install x"), "pip install x"),
    ],
)
def test_message_of_a_library_is_one_line(error, message, failing, capsys):
    failing(error)
    assert main(["toy"]) == 2
    assert capsys.readouterr().err == f"hf-nat toy: {message}\n"


def test_trace_of_an_unexpected_error_is_in_a_file(failing, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing(KeyError("a\nb"))
    assert main(["toy"]) == 1
    (path,) = tmp_path.glob("hf_nat-toy-*.log")  # under a name that nobody can have taken
    assert capsys.readouterr().err == f"hf-nat toy: unexpected KeyError: 'a\\nb'; the full trace is in {path}\n"
    assert path.read_text(encoding="utf-8").startswith("Traceback") and "raise error" in path.read_text("utf-8")


def test_trace_is_shown_where_no_file_can_be_written(failing, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    failing(RuntimeError("x"))
    assert main(["toy"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "hf-nat toy: unexpected RuntimeError: x; the full trace is above"


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("toy", "The same command starts again."),
        ("train", "The same command goes on where it stopped."),
        ("distill", "The same command goes on where it stopped."),
    ],
)
def test_interrupt_says_how_to_go_on(command, remedy, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_nat.cli.main.run_command", interrupt)
    assert main([command]) == 130
    assert capsys.readouterr().err == f"hf-nat {command}: Interrupted. {remedy}\n"


def test_output_that_nobody_reads_ends_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "import sys, hf_nat_cli; sys.exit(hf_nat_cli.main(['--help']))"]
    root = Path(hf_nat_cli.__file__).parent
    ended = subprocess.run(command, cwd=root, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_translations_that_nobody_reads_end_quietly(monkeypatch, capsys):
    def run(argv):
        with open_output("-") as output:
            output.write("a\n")

    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(hf_nat.cli.toy, "run", run)
    with open(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["toy"]) == 141
    assert capsys.readouterr().err == ""


def test_a_message_that_the_terminal_cannot_show_ends_no_work(monkeypatch):
    monkeypatch.setattr(hf_nat.cli.toy, "run", lambda argv: print("rün"))
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["toy"]) == 0
    assert stdout.buffer.getvalue() == b"r\\xfcn\n"


@pytest.mark.parametrize(
    ("closed", "command", "status", "message"),
    [
        ("0<&-", "--help", 0, b""),
        ("1>&-", "--help", 2, b"hf-nat --help: [Errno 9] Bad file descriptor: 'standard output'\n"),
        ("1>/dev/full", "--help", 2, b"hf-nat --help: [Errno 28] No space left on device: 'standard output'\n"),
        ("2>&-", "--help", 0, b""),
        ("2>&-", "nonsense", 2, b""),
        ("0<&- 1>&- 2>&-", "nonsense", 2, b""),
    ],
)
def test_closed_streams(closed, command, status, message):
    program = f"import sys, hf_nat_cli; sys.exit(hf_nat_cli.main(['{command}']))"
    words = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, program]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(words, cwd=Path(hf_nat_cli.__file__).parent, env=environment, capture_output=True)
    assert (ended.returncode, ended.stderr) == (status, message)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_its_keys(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: hf-nat {command}" in capsys.readouterr().out


def test_translate_keeps_lines_and_order_from_file_to_file(model, tmp_path):
    (tmp_path / "in.txt").write_text("abba\n\nab ba ab ba\nba\n", encoding="utf-8")
    outputs = []
    for window in (1, 2, 100):
        options = [f"--input={tmp_path / 'in.txt'}", f"--output={tmp_path / 'out.txt'}", f"--window={window}"]
        assert main(["translate", f"--model={model}", *options]) == 0
        outputs.append((tmp_path / "out.txt").read_text(encoding="utf-8"))
    assert outputs[0] == outputs[1] == outputs[2]
    lines = outputs[0].split("\n")
    assert len(lines) == 5
    assert [bool(line) for line in lines] == [True, False, True, True, False]


def test_translate_reads_standard_input_and_names_a_bad_line(model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\nba\n")))
    assert main(["translate", f"--model={model}"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\n\xff\n")))
    assert main(["translate", f"--model={model}", "--window=1"]) == 2
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert "`-` line 2 must be UTF-8, got byte 0xff" in captured.err

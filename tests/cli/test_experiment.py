from __future__ import annotations

import pytest

from hf_nat.experiments.registry import EXPERIMENTS
from hf_nat_cli import main


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_lists_every_study_and_each_explains_its_keys(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["experiment", "--help"])
    assert stopped.value.code == 0
    assert f"\n  {name} " in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["experiment", name, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: hf-nat experiment {name}" in shown and "--output_dir" in shown


@pytest.mark.parametrize(("argv", "message"), [([], "required: NAME"), (["hnm"], "invalid choice: 'hnm'")])
def test_a_name_must_be_that_of_a_study(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["experiment", *argv])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_key_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "hmm", "--output_dir=x", "--num_hmm=3"]) == 2
    assert "Unknown option '--num_hmm=3' on the command line. Did you mean 'num_hmms'?" in capsys.readouterr().err

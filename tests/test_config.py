from dataclasses import dataclass, field

import pytest

from hf_nat.config import load_config


@dataclass
class Numbers:
    learning_rate: float = 0.1
    steps: int = 5
    shuffle: bool = True
    sizes: list[int] = field(default_factory=lambda: [1])


@dataclass
class Names:
    title: str | None = "none given"
    fields: dict | str | None = None


def write(tmp_path, text, name="run.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_yaml_fills_every_dataclass_and_converts_types(tmp_path):
    path = write(tmp_path, "learning_rate: 5e-4\nshuffle: false\nsizes: [3, 4]\ntitle: -x- y\nfields: {a: 1}\n")
    numbers, names = load_config((Numbers, Names), [path])
    assert numbers == Numbers(learning_rate=0.0005, shuffle=False, sizes=[3, 4])
    assert names == Names(title="-x- y", fields='{"a": 1}')


def test_command_line_wins_over_files_and_later_files_over_earlier(tmp_path):
    first, second = write(tmp_path, "steps: 1\nlearning_rate: 1\n"), write(tmp_path, "steps: 2\n", "second.yaml")
    (numbers,) = load_config((Numbers,), [first, second, "--learning-rate", "3"])
    assert (numbers.steps, numbers.learning_rate) == (2, 3.0)


def test_null_leaves_the_default(tmp_path):
    (names,) = load_config((Names,), [write(tmp_path, "title: null\n")])
    assert names.title == "none given"


def test_unknown_yaml_key_names_file_and_nearest_key(tmp_path):
    path = write(tmp_path, "learning_rte: 1\n")
    with pytest.raises(ValueError, match=r"Unknown key 'learning_rte' in .*run.yaml. Did you mean 'learning_rate'\?"):
        load_config((Numbers,), [path])


def test_unknown_option_names_it():
    with pytest.raises(ValueError, match=r"Unknown option '--stepz' on the command line. Did you mean 'steps'\?"):
        load_config((Numbers,), ["--stepz", "3"])


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        load_config((Numbers,), [str(tmp_path / "nowhere.yaml")])


def test_file_that_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold `key: value` lines, got a list"):
        load_config((Numbers,), [write(tmp_path, "- 1\n")])

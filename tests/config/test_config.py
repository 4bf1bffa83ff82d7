import math
import os
import subprocess
import sys
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from transformers.trainer_utils import SchedulerType

from hf_nat.base.config import load_config, option, resolve
from hf_nat.training.arguments import DataArguments, ModelArguments, NATSeq2SeqTrainingArguments


HOME = os.path.expanduser("~")
TRAINING = (ModelArguments, DataArguments, NATSeq2SeqTrainingArguments)


class Interval(StrEnum):
    NO = "no"
    STEPS = "steps"


@dataclass
class Numbers:
    """All sorts of values."""

    learning_rate: float = option(0.1, "size of a step. Transformers goes on\nfor paragraphs.", aliases=["--lr"])
    steps: int = 5
    shuffle: bool = True
    fast: bool | None = None
    limit: int | None = 7
    sizes: list[int] = field(default_factory=lambda: [1])
    rates: list[float] | None = None
    pair: tuple[str, ...] = ()


@dataclass
class Texts:
    title: str | None = option("none given", "may be empty", may_be_empty=True)
    code: str = option("xx", "may be empty", may_be_empty=True)
    names: list[str] = field(default_factory=list, metadata={"may_be_empty": True})
    report_to: None | str | list[str] = None
    folder: Path | None = None
    interval: Interval | str = "steps"
    kind: Literal["last", "best"] = "last"
    space: str | None | Literal[False] = None
    counted: str | bool = "no"
    file: str = option("run", "described")
    files: list[str] | None = option(None, "described")
    prefixes: list[str] | None = option(None, "described", may_be_empty=True)


@dataclass(frozen=True, kw_only=True)
class Mappings:
    fields: dict | str | None = None
    typed: dict[str, bool] | None = None
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Child(Texts):
    """A child of a class."""

    WITHOUT_EFFECT = {"names": "use `required`"}
    HELP_GROUPS = {"Codes": ["code", "names"]}
    required: int
    more: list[str] = field(default_factory=list, metadata={"action": "extend"})
    fixed: int = field(default=3, init=False)


ALL = (Numbers, Texts, Mappings)


def write(tmp_path, text, name="run.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def value_of(filled, name):
    return next(getattr(instance, name) for instance in filled if hasattr(instance, name))


def same(value, wanted):
    return value == wanted and type(value) is type(wanted)


# What follows `key: ` in a file, and what the field is then.
VALUES = [
    *(("code", text, text) for text in ("no", "on", "y", "1.10", "0123456", "1e3", "2020-01-01", "1_000", "12:30:45")),
    *(("code", text, text) for text in ("true", "0x1F", ".5", "en-GB", "=", "<<", "a~/b")),
    ("code", "'a: b'", "a: b"),
    ("code", '"null"', "null"),
    ("code", "!!str 1.0", "1.0"),
    ("code", "|-\n  two\n  lines", "two\nlines"),
    ("code", "''", ""),
    ("title", "-x- y", "-x- y"),
    ("title", "1.10", "1.10"),
    ("names", "[no, 1.10, 'x', null]", ["no", "1.10", "x", "null"]),
    ("names", "no", ["no"]),
    ("names", "[]", []),
    ("report_to", "none", "none"),
    ("report_to", "[wandb, no]", ["wandb", "no"]),
    ("interval", "no", Interval.NO),
    ("kind", "best", "best"),
    ("space", "false", False),
    ("space", "owner/name", "owner/name"),
    ("counted", "true", True),
    ("counted", "no", "no"),
    ("counted", "'true'", "true"),
    ("learning_rate", "5e-4", 5e-4),
    ("learning_rate", "1", 1.0),
    ("learning_rate", "-.inf", -math.inf),
    ("learning_rate", "'0.5'", 0.5),
    ("steps", "010", 10),
    ("steps", "0x1F", 31),
    ("steps", "0o17", 15),
    ("steps", "10_000", 10_000),
    ("steps", "'12'", 12),
    ("steps", "-3", -3),
    *(("shuffle", text, False) for text in ("false", "no", "off", "False", "0", "'n'")),
    *(("fast", text, True) for text in ("true", "yes", "ON", "1")),
    ("limit", "3", 3),
    ("sizes", "[3, 4]", [3, 4]),
    ("sizes", "3", [3]),
    ("rates", "[1, 1e-3]", [1.0, 1e-3]),
    ("pair", "[a, 1]", ("a", "1")),
    ("code", "~/a", f"{HOME}/a"),
    ("code", "'~/a,~/b'", f"{HOME}/a,{HOME}/b"),
    ("names", "[n=~/a, ~/b]", [f"n={HOME}/a", f"{HOME}/b"]),
    ("folder", "~/a", Path(HOME, "a")),
    ("fields", "a text", "a text"),
    ("fields", "{}", {}),
    ("fields", "{a: 1e-1, b: no, c: true, d: 010, e: ~, f: 1_0, g: .5, h: '1'}",
     {"a": 0.1, "b": "no", "c": True, "d": 10, "e": None, "f": "1_0", "g": 0.5, "h": "1"}),
    ("fields", "{a: 2020-01-01, b: 1:30, c: 0x10, d: .inf, e: +1, f: 1., g: ~/x, h: <<}",
     {"a": "2020-01-01", "b": "1:30", "c": 16, "d": math.inf, "e": 1, "f": 1.0, "g": f"{HOME}/x", "h": "<<"}),
    ("fields", "{no: 1, 1: 2, 1.10: {null: [a, 1]}}", {"no": 1, "1": 2, "1.10": {"null": ["a", 1]}}),
    ("typed", "{a: no, b: true}", {"a": False, "b": True}),
    ("keys", "{a: {x: 1e-3}}", {"a": {"x": 1e-3}}),
    ("keys", "{a: &a {x: 1, y: 2}, b: {x: 3, <<: *a}, c: {<<: [*a, {z: 1, x: 0}]}}",
     {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 1, "y": 2, "z": 1}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "wanted"), VALUES)
def test_yaml_value_has_the_type_of_its_field(name, text, wanted, tmp_path):
    path = write(tmp_path, f"{name}: {text}\n")
    for filled in (load_config(ALL, [path]), resolve(ALL, path)):
        assert same(value_of(filled, name), wanted)


WORDS = [
    ("code", ["--code", "no"], "no"),
    ("code", ["--code=1.10"], "1.10"),
    ("code", ["--code="], ""),
    ("code", ["--code", ""], ""),
    ("code", ["--code=a=b"], "a=b"),
    ("code", ["--code", "'a': #b"], "'a': #b"),
    ("code", ["--code", "{split}.{lang}.txt"], "{split}.{lang}.txt"),
    ("code", ["--code", "-"], "-"),
    ("code", ["--code", "- a b"], "- a b"),
    ("code", ["--code=--x"], "--x"),
    ("code", ["--code=~/x"], f"{HOME}/x"),
    ("folder", ["--folder", "~/x"], Path(HOME, "x")),
    ("title", ["--title=1.10"], "1.10"),
    ("learning_rate", ["--learning-rate", "-1e-3"], -1e-3),
    ("learning_rate", ["--lr=3"], 3.0),
    ("learning_rate", ["--lr=3", "--learning_rate", "4"], 4.0),
    ("steps", ["--steps", "-5"], -5),
    ("shuffle", ["--no_shuffle"], False),
    ("shuffle", ["--no-shuffle"], False),
    ("shuffle", ["--no_shuffle", "--shuffle"], True),
    ("shuffle", ["--shuffle", "false"], False),
    ("shuffle", ["--shuffle=no"], False),
    ("fast", ["--fast", "--steps=1"], True),
    ("fast", ["--no_fast"], False),
    ("sizes", ["--sizes", "1", "-2", "3", "--steps=1"], [1, -2, 3]),
    ("sizes", ["--sizes=4"], [4]),
    ("sizes", ["--sizes=4", "--sizes", "5", "6"], [5, 6]),
    ("names", ["--names", "no", "a b", "1.10"], ["no", "a b", "1.10"]),
    ("names", ["--names="], [""]),
    ("report_to", ["--report_to", "a", "b"], ["a", "b"]),
    ("report_to", ["--report_to", "a"], "a"),
    ("interval", ["--interval=no"], Interval.NO),
    ("fields", ["--fields", '{"a": 1e-1, "b": [true, null]}'], {"a": 0.1, "b": [True, None]}),
    ("fields", ["--fields={a: no}"], {"a": "no"}),
    ("fields", ["--fields=ds.json"], "ds.json"),
    ("typed", ["--typed", "{a: no}"], {"a": False}),
]


@pytest.mark.parametrize(("name", "words", "wanted"), WORDS, ids=lambda value: str(value))
def test_command_line_is_typed_as_a_file_is(name, words, wanted):
    assert same(value_of(load_config(ALL, words), name), wanted)


OVERRIDES = [
    ("code", "1.10", "1.10"),
    ("code", Path("a"), "a"),
    ("code", "~/a", f"{HOME}/a"),
    ("code", Interval.NO, "no"),
    ("title", None, None),
    ("limit", None, None),
    ("limit", 3, 3),
    ("code", None, "xx"),
    ("steps", 3, 3),
    ("learning_rate", 3, 3.0),
    ("shuffle", False, False),
    ("folder", "~/a", Path(HOME, "a")),
    ("folder", Path("~/a"), Path(HOME, "a")),
    ("sizes", [1, 2], [1, 2]),
    ("sizes", (1, 2), [1, 2]),
    ("sizes", 3, [3]),
    ("names", [Path("a"), "~/b"], ["a", f"{HOME}/b"]),
    ("interval", "no", Interval.NO),
    ("interval", Interval.NO, Interval.NO),
    ("kind", "best", "best"),
    ("space", False, False),
    ("counted", True, True),
    ("fields", {"a": {"b": 1, "c": "~/d"}}, {"a": {"b": 1, "c": f"{HOME}/d"}}),
    ("typed", {"a": True}, {"a": True}),
]


@pytest.mark.parametrize(("name", "value", "wanted"), OVERRIDES)
def test_override_of_python_keeps_its_type(name, value, wanted, tmp_path):
    assert same(value_of(resolve(ALL, overrides={name: value}), name), wanted)


WRONG_OVERRIDES = [
    *(("steps", value) for value in ("3", 1.0, True, [3], Path("a"))),
    *(("learning_rate", value) for value in ("0.5", True, {}, 10**400)),
    *(("shuffle", value) for value in ("true", 1, 0)),
    *(("code", value) for value in (1.10, True, ["a"], {"a": 1})),
    *(("sizes", value) for value in (["1"], [None], {"a": 1}, "a", [[1]])),
    *(("interval", value) for value in ("never", SchedulerType.LINEAR, 1)),
    *(("kind", value) for value in ("first", ["last"], 1)),
    *(("typed", value) for value in ({"a": 1}, [True], "a")),
    ("keys", {"a": 1}),
    ("space", True),
]


@pytest.mark.parametrize(("name", "value"), WRONG_OVERRIDES)
def test_override_of_another_type_is_an_error(name, value):
    with pytest.raises(ValueError, match=rf"^Overrides: `{name}` must be .+, got .+\.$"):
        resolve(ALL, overrides={name: value})


# Aliases of aliases: a few lines for millions of values.
_BOMB = ", ".join(f"{a}: &{a} [{','.join([f'*{b}'] * 10)}]" for a, b in zip("bcdefgh", "abcdefg", strict=True))
_MERGES = ", ".join(
    f"{a}: &{a} {{<<: [*{b},*{b}]}}" for a, b in zip("cdefghijklmnopqrstuvw", "bcdefghijklmnopqrstuv", strict=True)
)
FAULTS = [
    ("steps: many", 1, "`steps` must be a whole number such as 100, got 'many'."),
    ("# a\nsteps: 1e3", 2, "`steps` must be a whole number such as 100, got '1e3'."),
    ("steps: true", 1, "`steps` must be a whole number such as 100, got 'true'."),
    ("limit: 1.5", 1, "`limit` must be a whole number such as 100 or null, got '1.5'."),
    ("learning_rate: 5e", 1, "`learning_rate` must be a number such as 5e-4, got '5e'."),
    ("shuffle: maybe", 1, "`shuffle` must be true or false, got 'maybe'."),
    ("code: [a]", 1, "`code` must be a text, got ['a']."),
    ("code:\n  a: 1", 1, "`code` must be a text, got {'a': '1'}."),
    ("sizes: [1, b]", 1, "`sizes` must be a list such as [a, b], each a whole number such as 100, got ['1', 'b']."),
    ("sizes: {a: 1}", 1, "`sizes` must be a list such as [a, b], each"),
    ("names:\n- a\n-", 1, "`names` must be a list such as [a, b], each a text, got ['a', '']."),
    ("interval: never", 1, "`interval` must be one of no, steps, got 'never'."),
    ("kind: first", 1, "`kind` must be one of last, best, got 'first'."),
    ("typed: [a]", 1, "`typed` must be a mapping such as {key: value} or null, got ['a']."),
    ("typed: {a: 3}", 1, "`typed` must be a mapping"),
    ("keys: {a: 3}", 1, "`keys` must be a mapping"),
    (f"steps: {'x' * 500}", 1, "..."),
    ("steps: 1\nsteps: 2", 2, "a key must be given once, got 'steps' again, which line 1 has."),
    ("fields:\n  a: 1\n  'a': 2", 3, "a key must be given once, got 'a' again, which line 2 has."),
    ("fields: {a: [{b: 1, b: 1}]}", 1, "a key must be given once, got 'b' again"),
    ("stepz: 1", 1, "Did you mean 'steps'?"),
    ("learning-rate: 1", 1, "Did you mean 'learning_rate'?"),
    ("rt: 1", 1, "Did you mean 'report_to'?"),
    ("learn: 1", 1, "Did you mean 'learning_rate'?"),
    ("co: 1", 1, "Did you mean 'code' or 'counted'?"),
    ("1: 2", 1, "Unknown key '1'"),
    ("[a]: 2", 1, "a key must be a text"),
    ("steps: 1\n\tcode: x", 2, "Indent with spaces in place of the tab."),
    ("steps:\n\t- 1", 2, "Indent with spaces in place of the tab."),
    ("code: 'x\nsteps: 1", 2, "found unexpected end of stream"),
    ("steps: 1\nsizes: [1,\n", 2, "close what is open"),
    ("code: {split}.{lang}", 1, "must be YAML, got 'code: {split}.{lang}'"),
    ("steps: 1\n  code: x", 2, "must be YAML"),
    ("code: *a", 1, "undefined alias"),
    ("steps: 1\n---\nsteps: 2", 2, "must be YAML"),
    ("fields: &a {b: *a}", 1, "an anchor must not hold itself"),
    ("fields: &a {<<: *a}", 1, "an anchor must not hold itself"),
    ("fields: {<<: [1]}", 1, "`<<` must stand before"),
    ("code: !!python/name:os.system x", 1, "must have no tag of its own, got !!python/name:os.system"),
    ("code: !!timestamp 2020-01-01", 1, "must have no tag"),
    ("steps: !!int x", 1, "`!!int` must stand before such a value, got 'x'."),
    ("- 1", 1, "the file must hold `key: value` lines, got a list."),
    ("words", 1, "the file must hold `key: value` lines, got a single text."),
    ("", 1, "the file must hold `key: value` lines, got nothing."),
    ("# steps: 1\n", 1, "the file must hold `key: value` lines, got nothing."),
    ("steps: 1\ncode: é".encode("latin-1"), 2, "the file must be UTF-8, got byte 0xe9. Save it as UTF-8."),
    ("steps: 1\n".encode("utf-16"), 1, "the file must be UTF-8, got byte 0xff."),
    ("a: 1\nsteps: 1\n".encode("utf-16-le"), 1, "got the character U+0000. Save it as UTF-8."),
    (b"steps: 1\ncode: \x1b", 2, "got the character U+001B"),
    ('code: "a\\0b"', 1, r"`code` must be a text, got 'a\x00b'. Take the null byte out."),
    ('names: ["a\\0b"]', 1, "Take the null byte out."),
    ("fields: " + "[" * 60 + "]" * 60, 1, "values must lie at most 50 deep in each other."),
    ("fields: {a: &a [1,1,1,1,1,1,1,1,1,1], " + _BOMB + "}", 1, "there must be at most 100000 values"),
    ("fields: {a: &a {x: 1}, b: &b {<<: [*a,*a]}, " + _MERGES + "}", 1, "there must be at most 100000 values"),
]


@pytest.mark.parametrize(("text", "line", "message"), FAULTS)
def test_fault_of_a_file_is_one_line_with_its_place(text, line, message, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(ValueError) as caught:
        load_config(ALL, [path])
    error = str(caught.value)
    assert f"{path}, line {line}" in error and message in error
    assert "\n" not in error and len(error) < len(path) + 250


def test_a_file_without_an_end_is_one_line(tmp_path):
    for text in ("fields: " + "[" * 50_000, "fields: " + "{a: " * 3000):
        with pytest.raises(ValueError, match="values must lie at most 50 deep in each other|must be YAML"):
            load_config(ALL, [write(tmp_path, text)])
    with pytest.raises(ValueError, match="`fields` must be a mapping|must be a mapping such as"):
        load_config(ALL, ["--fields", "{a: " * 3000])


def test_utf8_with_a_mark_is_read(tmp_path):
    (texts,) = load_config((Texts,), [write(tmp_path, "code: é\n".encode("utf-8-sig"))])
    assert texts.code == "é"


BAD_WORDS = [
    (["--stepz", "3"], r"^Unknown option '--stepz' on the command line. Did you mean 'steps'\?$"),
    (["--stepz=3"], r"^Unknown option '--stepz=3' on the command line"),
    (["--steps", "3", "x"], r"^Unknown option 'x' on the command line. Options start with `--`.$"),
    (["--steps", "3", "x.yaml"], r"Configuration files come before the options.$"),
    (["--step", "3"], r"^Unknown option '--step'"),
    (["-s"], r"^Unknown option '-s'"),
    (["--steps"], r"^Command line: --steps must be followed by a value, got none. Write --steps=VALUE.$"),
    (["--sizes", "--steps=1"], r"^Command line: --sizes must be followed by a value"),
    (["--steps", "many"], r"^Command line: `steps` must be a whole number such as 100, got 'many'.$"),
    (["--limit="], r"^Command line: `limit` must be a whole number such as 100 or null, got ''.$"),
    (["--file="], r"^Command line: `file` must not be empty, got ''. Leave it out.$"),
    (["--files", "a", ""], r"^Command line: `files` must not be empty, got \['a', ''\]. Leave it out.$"),
    (["--no_shuffle=x"], r"^Command line: --no_shuffle must stand alone, got '--no_shuffle=x'."),
    (["--no_steps"], r"^Unknown option '--no_steps'"),
    (["--fields", "{a: "], r"^Command line: --fields must be a mapping such as {key: value}, got '{a:': "),
    (["--fields", "{a: 1, a: 2}"], r"^Command line: --fields: a key must be given once"),
    (["--typed", "a"], r"^Command line: `typed` must be a mapping"),
]


@pytest.mark.parametrize(("words", "message"), BAD_WORDS)
def test_fault_of_a_command_line_is_one_line(words, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_config(ALL, words)
    assert "\n" not in str(caught.value)


def test_file_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.yaml. Options start with `--`, files come first."):
        load_config((Numbers,), [str(tmp_path / "nowhere.yaml")])
    with pytest.raises(ValueError, match="must be a YAML file, got a folder"):
        load_config((Numbers,), [str(tmp_path)])


def test_the_last_value_wins(tmp_path):
    first, second = write(tmp_path, "steps: 1\nlearning_rate: 1\n"), write(tmp_path, "steps: 2\n", "second.yaml")
    (numbers,) = load_config((Numbers,), [first, second, "--learning-rate", "3"])
    assert (numbers.steps, numbers.learning_rate) == (2, 3.0)
    assert resolve((Numbers,), first, Path(second), overrides={"learning_rate": 3.0}) == (numbers,)


def test_files_are_found_in_the_home_folder(tmp_path, monkeypatch):
    write(tmp_path, "steps: 2\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve((Numbers,), "~/run.yaml")[0].steps == load_config((Numbers,), ["~/run.yaml"])[0].steps == 2


@pytest.mark.parametrize("null", ["null", "~", ""])
def test_null_is_none_where_there_is_one_else_the_default(null, tmp_path):
    path = write(tmp_path, f"title: {null}\nsteps: {null}\nsizes: {null}\nlimit: {null}\n")
    (numbers, texts, _) = load_config(ALL, [path])
    assert (numbers, texts) == (Numbers(limit=None), Texts(title=None))
    earlier = write(tmp_path, "title: x\nsteps: 3\nlimit: 3\n", "earlier.yaml")
    assert load_config((Numbers, Texts), [earlier, path]) == (numbers, texts)


def test_null_on_the_command_line_is_one_and_an_empty_word_a_text(tmp_path):
    path = write(tmp_path, "title: x\n")
    assert load_config((Texts,), [path, "--title", "null"])[0].title is None
    assert load_config((Texts,), [path, "--title="])[0].title == ""
    assert load_config((Texts,), ["--prefixes", "", "x"])[0].prefixes == ["", "x"]


def test_none_of_python_is_the_value_even_over_a_file(tmp_path):
    path = write(tmp_path, "title: x\nsteps: 3\n")
    numbers, texts = resolve((Numbers, Texts), path, overrides={"title": None, "steps": None})
    assert (numbers.steps, texts.title) == (5, None)


def test_list_that_is_extended_grows_from_source_to_source_but_not_by_overrides(tmp_path):
    path = write(tmp_path, "more: [a]\nrequired: 1\n")
    words = ["--more", "b", "c", "--required=1", "--more=d"]
    assert load_config((Child,), words)[0].more == ["b", "c", "d"]
    assert load_config((Child,), [path, *words])[0].more == ["a", "b", "c", "d"]
    assert load_config((Child,), ["--required=1"])[0].more == []
    assert resolve((Child,), path, overrides={"more": ["e"]})[0].more == ["e"]


def test_missing_keys_are_named_at_once(tmp_path):
    @dataclass
    class Two:
        one: int
        two: str
        three: int = 3

    with pytest.raises(ValueError, match=r"^`one`, `two` must be given, got nothing. .*`hf-nat x --help` lists all"):
        load_config((Two,), [], prog="hf-nat x")
    with pytest.raises(ValueError, match=r"^`two` must be given, got nothing. Write `two: VALUE` .* --two=VALUE.$"):
        resolve((Two,), overrides={"one": 1})
    with pytest.raises(ValueError, match="`one` must be given"):
        load_config((Two,), [write(tmp_path, "one:\ntwo: a\n")])


def test_unknown_override_names_the_nearest_key():
    with pytest.raises(ValueError, match=r"^Unknown key 'stepz' in the overrides. Did you mean 'steps'\?$"):
        resolve((Numbers,), overrides={"stepz": 1})
    with pytest.raises(ValueError, match=r"Unknown key 'fixed' in the overrides"):
        resolve((Child,), overrides={"fixed": 1})


def test_a_key_without_effect_is_refused_whichever_way_it_comes(tmp_path):
    path = write(tmp_path, "required: 1\nnames: [a]\n")
    refused = {
        f"{path}, line 2": lambda: load_config((Child,), [path]),
        "Command line": lambda: load_config((Child,), ["--required=1", "--names", "a"]),
        "Overrides": lambda: resolve((Child,), overrides={"required": 1, "names": ["a"]}),
    }
    for place, call in refused.items():
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == f"{place}: `names` has no effect here: use `required`."
    with pytest.raises(ValueError) as caught:
        load_config((Child,), ["--name=a"])
    assert "names" not in str(caught.value)


def help_of(types, capsys):
    with pytest.raises(SystemExit) as stopped:
        load_config(types, ["--help"], prog="hf-nat x")
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_help_is_one_line_for_each_key_with_its_default(capsys):
    lines = help_of((Numbers,), capsys).splitlines()
    assert lines[0] == "usage: hf-nat x [CONFIG.yaml ...] [--key value ...]"
    assert lines[2] == "All sorts of values."
    assert " ".join(lines[3].split()) == "--learning_rate, --lr FLOAT size of a step. (default: 0.1)"
    options = [line.split()[0] for line in lines if line.startswith("  --")]
    assert options == ["--learning_rate,", *(f"--{key.name}" for key in fields(Numbers)[1:])]
    assert "--sizes INT ..." in lines[8] and lines[8].endswith("(default: 1)")


def test_help_shows_a_sentence_whole(capsys):
    @dataclass
    class Long:
        """Something to say."""

        key: str = option("x", f"one of {', '.join(f'value{number}' for number in range(40))}. More of it.")

    assert "value38, value39. (default: x)" in help_of((Long,), capsys)


def test_help_lists_own_keys_and_groups_of_inherited_ones(capsys):
    shown = help_of((Child,), capsys)
    assert shown.index("A child of a class.") < shown.index("--required INT") < shown.index("Codes")
    assert shown.index("Codes") < shown.index("--code TEXT")
    assert "(required)" in shown and "--kind" not in shown
    assert not any(name in shown for name in ("--names", "--title", "--fixed"))


def test_help_of_training_is_short_and_shows_what_has_an_effect(capsys):
    shown = help_of(TRAINING, capsys)
    assert len(shown.splitlines()) < 120
    own = [*fields(ModelArguments), *fields(DataArguments)]
    names = [*(key.name for key in own), *NATSeq2SeqTrainingArguments.__annotations__]
    names += [name for group in NATSeq2SeqTrainingArguments.HELP_GROUPS.values() for name in group]
    assert [name for name in names if f"--{name} " not in shown and name.islower()] == []
    assert [name for name in NATSeq2SeqTrainingArguments.WITHOUT_EFFECT if f"--{name} " in shown] == []
    assert "--output-dir" not in shown
    assert "--average_by last|best " in shown and "--eval_strategy no|steps|epoch " in shown


def test_configuration_alone_needs_neither_torch_nor_transformers():
    program = """
import sys, types
package = types.ModuleType("hf_nat")
package.__path__ = [sys.argv[1]]
sys.modules.update(hf_nat=package, torch=None, transformers=None)
import hf_nat.base.config
"""
    folder = Path(__file__).parents[2] / "hf_nat"
    subprocess.run([sys.executable, "-c", program, folder], check=True)

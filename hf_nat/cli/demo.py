"""`hf-nat demo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..base.bounds import require_number
from ..base.config import load_config, option, refuse_changed
from ..data.locations import is_here
from ..decoding import DecodingArguments
from ..demo.app import build_demo, load_student, load_teacher
from ..demo.browser import is_exported
from ..hub.spaces import require_new_space, write_browser_space, write_demo_space


@dataclass
class DemoArguments:
    """Which models the page shows, and where it is.

    Raises:
        ValueError: if `port` is none, or an address is given for a page that is only written.
    """

    model: str = field(metadata={"help": "NAT model: checkpoint folder or Hub id, or an exported folder"})
    teacher: str | None = option(None, "autoregressive model that decodes beside it: folder or Hub id")
    examples: list[str] = field(default_factory=list, metadata={"help": "sentences to choose from"})
    host: str = option("127.0.0.1", "address that the page listens on; 0.0.0.0 for all of this machine")
    port: int | None = option(None, "port; by default the first free one from 7860 on")
    share: bool = option(False, "a public address for three days, by Gradio's servers")
    space_dir: str | None = option(None, "instead: write a Space into this new folder, for `hf-nat push`")

    def __post_init__(self) -> None:
        require_number("port", self.port, least=0, most=65_535)
        if self.space_dir is not None:
            refuse_changed(self, ("host", "port", "share"), "with `space_dir`", "A Space is served by the Hub.")


def run(argv: Sequence[str]) -> None:
    """Serves the page until it is interrupted, or writes it as a Space."""
    args, decoding = load_config((DemoArguments, DecodingArguments), argv, prog="hf-nat demo")
    refuse_changed(decoding, ("max_batch_tokens",), "for a page", "It translates a sentence at a time.")
    defaults = DecodingArguments()
    changed = {key.name: getattr(decoding, key.name) for key in fields(decoding)}
    changed = {name: value for name, value in changed.items() if value != getattr(defaults, name)}
    if is_exported(Path(args.model)):
        _write_browser_space(args, changed)
    elif args.space_dir is None:
        demo = build_demo(args.model, args.teacher, decoding=decoding, examples=args.examples)
        demo.launch(server_name=args.host, server_port=args.port, share=args.share)
        return
    else:
        require_new_space(Path(args.space_dir))
        # Another computer shall load them: what cannot be loaded here is told now.
        if is_here(args.model, "model"):
            decoding.generate_kwargs(load_student(args.model, decoding)[0])
        if args.teacher is not None and is_here(args.teacher, "teacher"):
            load_teacher(args.teacher, decoding)
        write_demo_space(Path(args.space_dir), args.model, args.teacher, changed, args.examples)
    print(f"{args.space_dir} holds a Space: hf-nat push --folder {args.space_dir} --repo_id OWNER/NAME")


def _write_browser_space(args: DemoArguments, changed: dict[str, Any]) -> None:
    """Writes the page of an exported model, which decodes as it was exported."""
    if args.space_dir is None:
        raise ValueError(
            f"`space_dir` must be given for an exported model, got none with {args.model!r}. Its page runs in a "
            "browser: any server of files can show it, such as `python -m http.server -d SPACE_DIR`."
        )
    for name, value in [*([("teacher", args.teacher)] if args.teacher else []), *changed.items()]:
        raise ValueError(f"`{name}` must be left out for an exported model, got {value!r}. Set it when you export.")
    write_browser_space(Path(args.space_dir), Path(args.model), args.examples)

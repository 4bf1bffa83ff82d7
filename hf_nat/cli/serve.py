"""`hf-nat serve`."""

from __future__ import annotations

import gc
import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..base.config import load_config, option, refuse_changed
from ..decoding import DecodingArguments, Translator
from ..decoding.shortlist import ShortListArguments
from ..serving import ServingArguments


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServeArguments(ShortListArguments):
    """Which model is served, by which short list, and where.

    Raises:
        ValueError: if there is a language without a short list, or as [`ShortListArguments`].
    """

    model: str = field(metadata={"help": "checkpoint folder or Hub id"})
    host: str = option("127.0.0.1", "address that the server listens on; 0.0.0.0 for all of this machine")
    port: int = option(8000, "its port; 0 takes a free one")
    source_lang: str | None = option(None, "`shortlist`: language key of its sources")
    target_lang: str | None = option(None, "`shortlist`: language key of its targets")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shortlist is None:
            remedy = "`model_source_lang` and `model_target_lang` tell a multilingual model its languages."
            refuse_changed(self, ("source_lang", "target_lang"), "without `shortlist`", remedy)


def run(argv: Sequence[str]) -> None:
    """Serves until it is interrupted."""
    args, serving, decoding = load_config(
        (ServeArguments, ServingArguments, DecodingArguments), argv, prog="hf-nat serve"
    )
    try:
        from ..serving.app import build_app
        from ..serving.server import Server, bind
    except ImportError as error:
        raise ImportError(f"The server needs FastAPI and others ({error}): pip install 'hf_nat[serve]'.") from error
    with bind(args.host, args.port) as bound:
        address, port = bound.getsockname()[:2]
        if not ipaddress.ip_address(address).is_loopback:
            logger.warning(f"{address} can be reached from other machines, and the server asks nobody who they are.")
        model, tokenizer = decoding.load_model(args.model)
        has_list = args.shortlist is not None or getattr(model, "record", {}).get("shortlist")
        if has_list and serving.max_batch_sentences > 1:
            logger.warning(
                "A short list is that of all sentences of a batch: a translation depends on those of other clients. "
                "`--max_batch_sentences 1` gives each its own."
            )
        settings = decoding.generate_kwargs(model)
        settings |= args.short_list_kwargs(model, tokenizer)
        translator = Translator(model, tokenizer, with_scores=serving.with_scores, **settings)
        translator(["a"])  # The first call of a model is slower than all others.
        # What is there stays, and is not gone through again: a full collection would hold requests up for 200 ms.
        gc.collect()
        gc.freeze()
        app = build_app(translator, serving, model=args.model)
        place = f"http://{f'[{address}]' if ':' in address else address}:{port}"
        message = f"{args.model} is served on {place}/translate, see {place}/docs; Ctrl-C stops it."
        Server(app, serving, lambda: print(message, flush=True)).run(sockets=[bound])

"""The server's addresses, by FastAPI (extra `serve`): /translate, /health, /metrics, and the schema of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ..decoding import Translation
from .arguments import ServingArguments
from .batcher import Batcher, BatcherClosed, QueueFull
from .gate import LEFT, Gate
from .measures import ServerMeasures
from .messages import Health, Problem, TranslationRequest, TranslationResponse


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in {
        400: "no JSON in UTF-8",
        408: "the request came too slowly",
        413: "too much text",
        415: "another content type",
        422: "not what the schema says",
        500: "the model failed on this request",
        503: "the queue is full (see Retry-After), or the server is stopping",
    }.items()
}


def build_app(
    translate: Callable[[list[str]], Sequence[Translation]], args: ServingArguments, *, model: str = ""
) -> FastAPI:
    """Builds the server of a model.

    Args:
        translate (`Callable`): sentences to their translations, as many and in order; called in a thread of its own,
            one call at a time.
        args ([`ServingArguments`]): the limits.
        model (`str`, *optional*): its name, for /health.

    Returns:
        `FastAPI`: an ASGI application; `state.batcher` is its [`Batcher`].
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix="translate")

    def timed(sentences: list[str]) -> Sequence[Translation]:
        started = monotonic()
        outputs = translate(sentences)
        measures.batch(len(sentences), monotonic() - started)
        return outputs

    async def in_worker(sentences: list[str]) -> Sequence[Translation]:
        return await asyncio.get_running_loop().run_in_executor(worker, timed, sentences)

    batcher = Batcher(
        in_worker,
        wait_seconds=args.batch_wait_ms / 1e3,
        max_batch_sentences=args.max_batch_sentences,
        max_queue_sentences=args.max_queue_sentences,
    )
    measures = ServerMeasures(lambda: batcher.num_waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batches = asyncio.create_task(batcher.run())
        yield
        batcher.refuse()
        await batches
        worker.shutdown()

    app = FastAPI(title="hf_nat", summary="Translation", version="1", lifespan=lifespan)
    app.state.batcher = batcher
    app.add_middleware(Gate, args=args, answered=measures.request)
    app.exception_handler(RequestValidationError)(_invalid)

    @app.post("/translate", responses=_PROBLEMS)
    async def translate_sentences(body: TranslationRequest, request: Request) -> TranslationResponse:
        """Translates sentences; those of other requests may share a batch with them."""
        _require_small(body.sentences, args)
        return TranslationResponse.of(await _submit(batcher, body.sentences, request))

    @app.get("/health", responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        """Says whether requests are accepted."""
        response.status_code = 503 if batcher.is_closed else 200
        status = "stopping" if batcher.is_closed else "ok"
        return Health(status=status, model=model, waiting_sentences=batcher.num_waiting)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counts and times, in Prometheus' text format."""
        return Response(generate_latest(measures.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return app


async def _submit(batcher: Batcher, sentences: list[str], request: Request) -> list[Translation]:
    """Translates the sentences of a request, unless its client leaves."""
    work = asyncio.ensure_future(batcher.submit(sentences))
    gone = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise HTTPException(LEFT, "The client has left.")
        return work.result()
    except QueueFull as error:
        raise HTTPException(503, str(error), {"Retry-After": str(error.retry_after)}) from error
    except BatcherClosed as error:
        raise HTTPException(503, str(error), {"Connection": "close"}) from error
    except HTTPException:
        raise
    except Exception as error:
        raise HTTPException(500, "The model failed on this request. The server's log says why.") from error
    finally:
        work.cancel()
        gone.cancel()


async def _left(request: Request) -> None:
    """Returns when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _require_small(sentences: list[str], args: ServingArguments) -> None:
    if len(sentences) > args.max_request_sentences:
        raise HTTPException(
            413,
            f"A request must have at most {args.max_request_sentences} sentences, got {len(sentences)}. Send them in "
            "several.",
        )
    for number, sentence in enumerate(sentences):
        if len(sentence) > args.max_sentence_characters:
            raise HTTPException(
                413,
                f"A sentence must have at most {args.max_sentence_characters} characters, got {len(sentence)} in "
                f"`sentences.{number}`. Split it.",
            )


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Says what of a request is not as it must be, without a copy of it."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"detail": f"A request must be JSON: {first['ctx']['error']}."}, 400)
    place = ".".join(map(str, first["loc"][1:]))
    return JSONResponse({"detail": f"{f'`{place}`' if place else 'The request'}: {first['msg']}."}, 422)

"""Sentences of many requests, translated together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil

from transformers.utils import logging

from ..decoding import Translation


logger = logging.get_logger(__name__)

# Share of the newest batch in the running mean of a sentence's time.
_NEWEST = 0.2


class QueueFull(Exception):
    """The sentences of a request do not fit behind those that wait.

    Args:
        message (`str`): what the client is told.
        retry_after (`int`): seconds after which the queue should have room.
    """

    def __init__(self, message: str, retry_after: int):
        super().__init__(message)
        self.retry_after = retry_after


class BatcherClosed(Exception):
    """Nothing new is accepted any more."""


@dataclass(eq=False)
class _Request:
    """Sentences that came together, the first `num_taken` of them in batches already."""

    sentences: Sequence[str]
    arrived: float
    translations: asyncio.Future[list[Translation]]
    num_taken: int = 0
    done: list[Translation] = field(default_factory=list)

    def take(self, most: int) -> list[str]:
        sentences = list(self.sentences[self.num_taken : self.num_taken + most])
        self.num_taken += len(sentences)
        return sentences

    def put(self, outputs: Sequence[Translation]) -> None:
        self.done += outputs
        if len(self.done) == len(self.sentences) and not self.translations.done():
            self.translations.set_result(self.done)


_Batch = list[tuple[_Request, list[str]]]


class Batcher:
    """Collects sentences into batches, first come first served, and gives each request its own back in order.

    A batch goes when it is full, or when its oldest sentence has waited long enough; while the model is at work the
    next one fills. A request larger than a batch is translated in several. Where a batch fails, each request in it is
    tried alone, so that one request's fault is not its neighbours'. All calls are made in one event loop.

    Args:
        translate (`Callable`): sentences to their translations, as many and in order; awaited, one call at a time.
        wait_seconds (`float`): longest that a sentence waits for others.
        max_batch_sentences (`int`): sentences of a batch.
        max_queue_sentences (`int`): sentences that wait, those at work not counted.
    """

    def __init__(
        self,
        translate: Callable[[list[str]], Awaitable[Sequence[Translation]]],
        *,
        wait_seconds: float,
        max_batch_sentences: int,
        max_queue_sentences: int,
    ):
        self._translate = translate
        self._wait_seconds = wait_seconds
        self._max_batch_sentences = max_batch_sentences
        self._max_queue_sentences = max_queue_sentences
        self._queue: deque[_Request] = deque()
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seconds_a_sentence = 0.0
        self.num_waiting = 0
        self.is_closed = False

    async def submit(self, sentences: Sequence[str]) -> list[Translation]:
        """Translates sentences; who cancels this takes them out of the queue.

        Args:
            sentences (`Sequence[str]`): those of a request.

        Returns:
            `list[Translation]`: one per sentence, in order.

        Raises:
            BatcherClosed: after `refuse`.
            QueueFull: if they do not fit into the queue.
            Exception: what `translate` raised for these sentences.
        """
        if self.is_closed:
            raise BatcherClosed("The server is stopping.")
        if not sentences:
            return []
        if self.num_waiting + len(sentences) > self._max_queue_sentences:
            seconds = max(1, ceil(self.num_waiting * self._seconds_a_sentence))
            raise QueueFull(
                f"{self.num_waiting} sentences wait, and {len(sentences)} more would be over the limit of "
                f"{self._max_queue_sentences}. Try again in {seconds} s.",
                seconds,
            )
        loop = asyncio.get_running_loop()
        request = _Request(sentences, loop.time(), loop.create_future())
        self._queue.append(request)
        self.num_waiting += len(sentences)
        self._changed.set()
        try:
            return await request.translations
        finally:
            self._drop(request)

    def refuse(self) -> None:
        """Accepts nothing new; what waits is translated at once. May be called from a signal handler or a thread."""
        self.is_closed = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Translates what is submitted, until `refuse` is called and nothing waits any more."""
        self._loop = asyncio.get_running_loop()
        try:
            while batch := await self._next_batch():
                await self._work(batch)
        finally:
            self._loop = None

    async def _next_batch(self) -> _Batch:
        """Waits for a batch; it is empty once nothing is left and nothing can come."""
        clock = asyncio.get_running_loop().time
        while True:
            if self._queue:
                left = self._queue[0].arrived + self._wait_seconds - clock()
                if left <= 0 or self.num_waiting >= self._max_batch_sentences or self.is_closed:
                    return self._take()
            elif self.is_closed:
                return []
            else:
                left = None
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def _take(self) -> _Batch:
        batch: _Batch = []
        room = self._max_batch_sentences
        while self._queue and room:
            request = self._queue[0]
            sentences = request.take(room)
            batch.append((request, sentences))
            room -= len(sentences)
            self.num_waiting -= len(sentences)
            if request.num_taken == len(request.sentences):
                self._queue.popleft()
        return batch

    async def _work(self, batch: _Batch) -> None:
        sentences = [sentence for _, part in batch for sentence in part]
        started = asyncio.get_running_loop().time()
        try:
            outputs = await self._translate(sentences)
            if len(outputs) != len(sentences):
                raise RuntimeError(f"The model gave {len(outputs)} translations of {len(sentences)} sentences.")
        except Exception as error:
            await self._part_after(error, batch)
            return
        seconds = (asyncio.get_running_loop().time() - started) / len(sentences)
        self._seconds_a_sentence += _NEWEST * (seconds - self._seconds_a_sentence)
        first = 0
        for request, part in batch:
            request.put(outputs[first : first + len(part)])
            first += len(part)

    async def _part_after(self, error: Exception, batch: _Batch) -> None:
        """Tries the requests of a batch that failed one by one; the one of a single request has failed."""
        if len(batch) > 1:
            for request, part in batch:
                if not request.translations.done():
                    await self._work([(request, part)])
            return
        request = batch[0][0]
        logger.error(f"The model failed on a request of {len(request.sentences)} sentences.", exc_info=error)
        self._drop(request)
        if not request.translations.done():
            request.translations.set_exception(error)

    def _drop(self, request: _Request) -> None:
        """Takes what waits of a request out of the queue."""
        with suppress(ValueError):
            self._queue.remove(request)
            self.num_waiting -= len(request.sentences) - request.num_taken

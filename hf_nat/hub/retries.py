"""Attempts that the network, the Hub or somebody else's commit cut short are made again.

huggingface_hub repeats by itself what it asks of the LFS storage, part by part; it does not repeat the creation of
repositories, branches, tags and commits, nor reading what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import parse_ratelimit_headers
from transformers.utils import logging

from ..data.network import TransportError


logger = logging.get_logger(__name__)

T = TypeVar("T")

MAX_ATTEMPTS = 5
MAX_WAIT = 300.0  # seconds; the Hub counts requests in windows of that length
# 409 and 412: somebody else's commit came first, and the next attempt starts from it.
_PASSING_STATUS = (408, 409, 412, 429, 500, 502, 503, 504)


def with_retries(attempt: Callable[[], T], what: str) -> T:
    """Makes up to 5 attempts and returns the result of the first that succeeds.

    Between them it waits as long as the Hub asks, or else 1, 2, 4 and 8 seconds.

    Args:
        attempt (`Callable[[], T]`): what is tried; it must do no harm if a former attempt succeeded unheard.
        what (`str`): what it is, for the messages.

    Raises:
        ConnectionError: if the last attempt failed too, or the Hub asks to wait for more than 5 minutes.
    """
    number = 0
    while True:
        number += 1
        try:
            return attempt()
        except Exception as error:
            cause = _passing_cause(error)
            if cause is None:
                raise
            wait = _seconds_to_wait(cause, number)
            if number == MAX_ATTEMPTS or wait > MAX_WAIT:
                raise ConnectionError(
                    f"{what} was cut short {number} of {MAX_ATTEMPTS} times: {cause}\nRun the same command again in "
                    f"{wait:.0f} s or later: files that have arrived are not sent twice."
                ) from error
            logger.warning(f"{what} was cut short: {cause}\nAttempt {number + 1} of {MAX_ATTEMPTS} in {wait:.0f} s.")
            time.sleep(wait)


def _passing_cause(error: BaseException | None) -> Exception | None:
    """Finds what another attempt may not meet again: the error itself or one that it was raised from."""
    while error is not None:
        if isinstance(error, TransportError):
            return error
        if isinstance(error, HfHubHTTPError):
            return error if error.response.status_code in _PASSING_STATUS else None
        error = error.__cause__
    return None


def _seconds_to_wait(error: Exception, attempt: int) -> float:
    """Returns what the Hub asks for, or else a time that doubles with each attempt."""
    if isinstance(error, HfHubHTTPError):
        headers = error.response.headers
        asked = headers.get("Retry-After", "")
        limit = parse_ratelimit_headers(headers)
        if error.response.status_code == 429 and limit is not None and limit.remaining == 0:
            return limit.reset_in_seconds + 1.0
        if asked.strip().isdigit():
            return float(asked) + 1.0
    return 2.0 ** (attempt - 1)

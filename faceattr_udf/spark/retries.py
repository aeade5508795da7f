"""Retry policies: commits that conflict with another writer's, and steps during which the engine fails."""

from collections.abc import Callable
from time import sleep
from typing import Final, TypeVar

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
    wait_random_exponential,
)
from tenacity.wait import wait_base

from faceattr_udf.errors import BusyError
from faceattr_udf.spark.engine_errors import is_conflict, is_transient, reason

_COMMIT_ATTEMPTS: Final = 10
_COMMIT_WAIT: Final = wait_random_exponential(multiplier=0.4, max=10)
"""Seconds, random from 0 up to 0.4, 0.8, ..., 10, so that two writers do not collide again and again."""

_ENGINE_WAIT: Final = wait_exponential_jitter(max=60, jitter=1)
"""Seconds: 1, 2, 4, ..., 60, plus up to one: a lost worker needs time to come back."""

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


def commit(table: object, act: Callable[[], object], before_attempt: Callable[[], object] = lambda: None) -> None:
    """Commits, and retries as long as other writers commit first.

    Args:
        table: Named in messages, a `TableRef`.
        act: Reads the table's current version and commits the next one.
        before_attempt: Called before every attempt; may raise to prevent it.

    Raises:
        BusyError: Another writer came first in every attempt.
    """

    def attempt() -> None:
        before_attempt()
        act()

    def log_retry(_: BaseException, seconds: float) -> None:
        log.info("commit_conflict_retry", table=str(table), seconds=round(seconds, 2))

    try:
        _retry(attempt, is_conflict, _COMMIT_ATTEMPTS, _COMMIT_WAIT, log_retry)
    except Exception as error:
        if not is_conflict(error):
            raise
        msg = (
            f"table {table} is being changed by other writers, and {_COMMIT_ATTEMPTS} commits failed "
            f"({reason(error)}); earlier commits are kept, run this again when the other writers have ended"
        )
        raise BusyError(msg) from error


def retry_transient(step: Callable[[], _T], retries: int, on_retry: Callable[[BaseException, float], object]) -> _T:
    """Takes a step, and repeats it after transient errors.

    Args:
        step: May be repeated, whatever it had done when it failed.
        retries: How often it is repeated at most.
        on_retry: Called with the error and the seconds to wait, before each wait.

    Returns:
        What the step returns; its last error is raised unchanged.
    """
    return _retry(step, is_transient, retries + 1, _ENGINE_WAIT, on_retry)


def _retry(
    step: Callable[[], _T],
    retryable: Callable[[BaseException], bool],
    attempts: int,
    wait: wait_base,
    on_retry: Callable[[BaseException, float], object],
) -> _T:
    def report(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None and state.next_action is not None:
            on_retry(error, state.next_action.sleep)

    retrying = Retrying(
        retry=retry_if_exception(retryable),
        stop=stop_after_attempt(attempts),
        wait=wait,
        before_sleep=report,
        sleep=sleep,
        reraise=True,
    )
    return retrying(step)

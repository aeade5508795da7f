"""Interleaved timing for noisy machines: contenders run in turn, and only times of the same round are compared."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Times:
    """The times of all contenders in all rounds.

    Attributes:
        seconds: Contender -> seconds of every round; round i of all contenders ran back to back.
        units: Contender -> number of photographs or faces in one round.
    """

    seconds: Mapping[str, Sequence[float]]
    units: Mapping[str, int]

    def milliseconds(self, name: str) -> dict[str, float]:
        """Returns the median, minimum and maximum time per photograph or face."""
        return _summary([1000.0 * seconds for seconds in self._per_unit(name)], digits=3)

    def ratio(self, slower: str, faster: str) -> dict[str, float]:
        """Returns the median, minimum and maximum over the rounds of the time of `slower` divided by that of `faster`.

        >>> Times({"theirs": [4.0, 6.0, 9.0], "us": [4.0, 4.0, 4.0]}, {"theirs": 1, "us": 2}).ratio("theirs", "us")
        {'median': 3.0, 'min': 2.0, 'max': 4.5}
        """
        pairs = zip(self._per_unit(slower), self._per_unit(faster), strict=True)
        return _summary([theirs / ours for theirs, ours in pairs], digits=2)

    def _per_unit(self, name: str) -> list[float]:
        return [seconds / self.units[name] for seconds in self.seconds[name]]


def _summary(values: Sequence[float], digits: int) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def time_interleaved(
    contenders: Mapping[str, Callable[[], Any]],
    rounds: int,
    units: int | Mapping[str, int],
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Runs every contender once per round, in turn.

    Args:
        contenders: Name -> function to time.
        rounds: Number of measured rounds.
        units: Number of photographs or faces that one call processes, for all contenders or by name.
        warm_up: Whether to start with a round that is not measured.
        clock: Returns seconds; `time.process_time` does not count the time of other processes.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name, run in contenders.items():
            started = clock()
            run()
            if number > 0:
                seconds[name].append(clock() - started)
    return Times(seconds, dict.fromkeys(contenders, units) if isinstance(units, int) else units)

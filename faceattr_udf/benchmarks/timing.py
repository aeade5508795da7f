"""Fair timing on a noisy machine: the contenders take turns, and only what was measured side by side is compared."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Times:
    """How long each contender took, round by round.

    Attributes:
        seconds: Contender -> seconds of every round; round i of all contenders ran back to back.
        units: Contender -> how many photographs or faces one round is.
    """

    seconds: Mapping[str, Sequence[float]]
    units: Mapping[str, int]

    def milliseconds(self, name: str) -> dict[str, float]:
        """Median, minimum and maximum per photograph or face."""
        values = [1000.0 * seconds for seconds in self._per_unit(name)]
        return {
            "median": round(statistics.median(values), 3),
            "min": round(min(values), 3),
            "max": round(max(values), 3),
        }

    def ratio(self, slower: str, faster: str) -> dict[str, float]:
        """How many times as long `slower` takes for one: median, minimum and maximum over the rounds, pair by pair.

        >>> Times({"theirs": [4.0, 6.0, 9.0], "us": [4.0, 4.0, 4.0]}, {"theirs": 1, "us": 2}).ratio("theirs", "us")
        {'median': 3.0, 'min': 2.0, 'max': 4.5}
        """
        pairs = zip(self._per_unit(slower), self._per_unit(faster), strict=True)
        values = [theirs / ours for theirs, ours in pairs]
        return {
            "median": round(statistics.median(values), 2),
            "min": round(min(values), 2),
            "max": round(max(values), 2),
        }

    def _per_unit(self, name: str) -> list[float]:
        return [seconds / self.units[name] for seconds in self.seconds[name]]


def take_turns(
    contenders: Mapping[str, Callable[[], Any]],
    rounds: int,
    units: int | Mapping[str, int],
    *,
    warm_up: bool = True,
) -> Times:
    """Runs every contender once per round, in turn, after one round that is not counted.

    Args:
        contenders: Name -> what to time.
        rounds: How many rounds count.
        units: How many photographs or faces one call works on; of each contender where they differ.
        warm_up: Whether there is that first round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(0 if warm_up else 1, rounds + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if number > 0:
                seconds[name].append(time.perf_counter() - started)
    return Times(seconds, dict.fromkeys(contenders, units) if isinstance(units, int) else units)

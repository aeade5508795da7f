"""The search for the total weight of each task's loss, on the validation faces."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def search_totals(
    score: Callable[[Mapping[str, float]], float],
    start: Mapping[str, float],
    candidates: Sequence[float],
    log: Callable[[dict[str, Any]], None],
) -> dict[str, float]:
    """Tries the candidates for one task after the other and keeps what scores best.

    Args:
        score: Total weights -> figure of merit of a short training run on validation faces; higher is better.
        start: Task -> total weight to begin with, which is a candidate, too.
        candidates: Weights to try for each task.
        log: Takes every trial.

    Returns:
        Task -> total weight.
    """
    best = dict(start)
    highest = score(best)
    log({"totals": best, "score": round(highest, 5)})
    for task in start:
        for candidate in candidates:
            if candidate == best[task]:
                continue
            trial = best | {task: candidate}
            reached = score(trial)
            log({"totals": trial, "score": round(reached, 5)})
            if reached > highest:
                best, highest = trial, reached
    return best

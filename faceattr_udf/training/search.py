"""Coordinate search for the weights of the task losses."""

from collections.abc import Callable, Mapping, Sequence

from faceattr_udf.training.log import Log


def coordinate_search(
    score: Callable[[Mapping[str, float]], float],
    initial: Mapping[str, float],
    candidates: Sequence[float],
    log: Log,
) -> dict[str, float]:
    """Tries all candidates for one task after the other and keeps the weights with the highest score.

    Args:
        score: Task -> weight to the validation score of a short training run; higher is better.
        initial: Task -> weight to start from, which also counts as a candidate.
        candidates: Weights to try for each task.
        log: Receives every trial.

    Returns:
        Task -> weight.
    """
    best = dict(initial)
    best_score = score(best)
    log({"totals": best, "score": round(best_score, 5)})
    for task in initial:
        for candidate in candidates:
            if candidate == best[task]:
                continue
            trial = best | {task: candidate}
            trial_score = score(trial)
            log({"totals": trial, "score": round(trial_score, 5)})
            if trial_score > best_score:
                best, best_score = trial, trial_score
    return best

"""Random people of a period, nights in which some come and some are erased, and what is published after each night."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from faceattr_udf.publishing.periods import Period, choose
from faceattr_udf.publishing.release import Row, release
from faceattr_udf.shares.statistics import POOLED, AttributeStatistics, Scores

Person = tuple[str, ...]
"""Catalog, then the label of each attribute."""

K = 10
START = date(2026, 1, 1)
END = date(2026, 2, 1)


def labels_of(sizes: Sequence[int]) -> dict[str, tuple[str, ...]]:
    return {f"attribute{n}": tuple(f"label{k}" for k in range(size)) for n, size in enumerate(sizes)}


def statistics_of(labels: tuple[str, ...]) -> AttributeStatistics:
    """Returns the statistics of a model that confuses a fifth of the faces, each label with others in its own way."""
    size = len(labels)
    confusions = np.random.default_rng(size).dirichlet(np.ones(size), size)
    means = 0.8 * np.eye(size) + 0.2 * confusions
    scores = Scores(np.full(size, 1000), means, np.zeros((size, size, size)))
    empty = np.zeros((size, 0))
    return AttributeStatistics(labels, {"acc": {POOLED: scores}}, {"acc": {}}, empty, empty)


@dataclass
class World:
    """People whose catalogs and labels are of very different sizes."""

    rng: np.random.Generator
    catalogs: int
    sizes: tuple[int, ...]
    most: int = 400

    def __post_init__(self) -> None:
        self.labels = labels_of(self.sizes)
        self.statistics = {name: statistics_of(labels) for name, labels in self.labels.items()}
        self.weights = {name: one.scores["acc"][POOLED].weights for name, one in self.statistics.items()}
        dimensions = [tuple(f"catalog{n}" for n in range(self.catalogs)), *self.labels.values()]
        mixes = [self.rng.dirichlet(np.full(len(names), 0.5)) for names in dimensions]
        self._dimensions = list(zip(dimensions, mixes, strict=True))
        self.people = [self.person() for _ in range(int(self.rng.integers(K, self.most)))]
        self.published: dict[date, list[Row]] = {}
        self.processed = END

    @classmethod
    def random(cls, seed: int, most: int | None = None) -> "World":
        rng = np.random.default_rng(seed)
        sizes = tuple(rng.integers(2, 6, size=rng.integers(1, 3)).tolist())
        catalogs, size = int(rng.integers(1, 6)), int(rng.choice([60, 400, 2000]))
        return cls(rng, catalogs, sizes, most or size)

    def person(self) -> Person:
        return tuple(names[self.rng.choice(len(names), p=mix)] for names, mix in self._dimensions)

    def night(self, number: int) -> None:
        """Lets up to two people come or go."""
        for _ in range(int(self.rng.integers(0, 3))):
            if self.rng.random() < 0.5:
                self.people.append(self.person())
            elif self.people:
                self.people.pop(int(self.rng.integers(len(self.people))))
        self.processed = END + timedelta(days=number)

    def counts(self) -> dict[str, dict[str, Counter[str]]]:
        counts: dict[str, dict[str, Counter[str]]] = {name: {} for name in self.labels}
        for person in self.people:
            for name, label in zip(self.labels, person[1:], strict=True):
                counts[name].setdefault(person[0], Counter())[label] += 1
        return counts

    def release(self) -> list[Row]:
        return release(self.counts(), self.labels, K, self.statistics, self.rng)

    def publish(self, number: int, *, freeze: bool = True) -> list[Row]:
        """Publishes as the command does, and returns all that is published."""
        period = Period(START, self.processed, ("model",))
        done = self.published if freeze else ()
        if choose([period], done, END + timedelta(days=number), "month", wait_days=0).due and (rows := self.release()):
            self.published[START] = rows
        return self.published.get(START, [])

    def nights(self, count: int, *, freeze: bool = True) -> list[list[Row]]:
        found = [self.publish(0, freeze=freeze)]
        for number in range(1, count):
            self.night(number)
            found.append(self.publish(number, freeze=freeze))
        return [rows for rows in found if rows]

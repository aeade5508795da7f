"""Commits a staged wave: first its faces, then its image_results."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf.results import ImageStatus
from faceattr_udf.spark.enrichment.staging import Staging
from faceattr_udf.spark.enrichment.wave_bounds import PlanSlice
from faceattr_udf.spark.enrichment.waves import StagedWave, Wave
from faceattr_udf.spark.input_columns import DELETE_FLAG
from faceattr_udf.spark.locations import Outputs, TableRef
from faceattr_udf.spark.runs import Run
from faceattr_udf.spark.tables import Tables

_FAILED: Final = frozenset(ImageStatus) - {"ok", "no_face", "partial", "not_consented", "erased", "expired"}
"""Statuses that progress counts as failed images."""

_T = TypeVar("_T")


class Retry(Protocol):
    """Takes a step that may be repeated, and repeats it after errors that pass."""

    def __call__(self, step: Callable[[], _T]) -> _T:
        """Returns what the step returns."""
        ...


class WaveCounts(NamedTuple):
    """What a wave has added: its images, their faces, and the images that could not be analyzed."""

    images: int
    faces: int
    failed: int


@dataclass(frozen=True)
class WaveCommits:
    """Commits the waves of a run, one after the other.

    Attributes:
        tables: The engine's table operations.
        outputs: The output tables.
        staging: The staging area of the run.
        run: The run; its counts grow.
        retry: Repeats a step after errors that pass.
        on_step: Called with "faces" and "results" after these commits.
    """

    tables: Tables
    outputs: Outputs
    staging: Staging
    run: Run
    retry: Retry
    on_step: Callable[[str], object]

    def commit(self, wave: Wave, staged: StagedWave) -> WaveCounts:
        """Commits a wave, counts it in the run, and removes it from the staging area."""
        faces, results, part = self.outputs.faces, self.outputs.image_results, wave.part
        self._commit(faces, staged.faces, part, part.n_described, "image_id", "face_index", delete_flag=DELETE_FLAG)
        self.on_step("faces")
        self._commit(results, staged.results, part, part.n_known, "image_id")
        self.on_step("results")
        counts = staged.results.groupBy("status").agg(
            F.count(F.lit(1)).alias("images"), F.sum("n_faces").alias("faces")
        )
        self.run.n_inferred += staged.n_inferred
        if self.run.config.minors.age:
            minors = staged.faces.where(F.col("minor") & ~F.col(DELETE_FLAG))
            self.run.n_minors += self.retry(minors.count)
        totals = self._add_counts(self.retry(counts.collect))
        self.staging.remove(wave.name)
        return totals

    def _commit(
        self,
        ref: TableRef,
        rows: DataFrame,
        part: PlanSlice,
        n_known: int,
        *keys: str,
        delete_flag: str | None = None,
    ) -> None:
        """Commits the rows of a wave.

        Args:
            ref: The table.
            rows: As `Tables.merge` takes them.
            part: The wave's part of the plan.
            n_known: How many of its images the table knows. Without any the rows are appended, because a merge would
                look for them in the whole table.
            keys: The columns that identify a row.
            delete_flag: As in `Tables.merge`.
        """
        if n_known or not self.tables.appends_once:
            between = ("image_id", part.ids.first, part.ids.last)
            self.retry(lambda: self.tables.merge(ref, rows, keys, delete_flag, between))
            return
        new = rows.drop(delete_flag) if delete_flag else rows
        number = self.retry(lambda: self.tables.next_append(ref))
        self.retry(lambda: self.tables.append_once(ref, new, number))

    def _add_counts(self, counts: list[Row]) -> WaveCounts:
        images, faces, failed = 0, 0, 0
        for status, n_images, n_faces in counts:
            self.run.counts[status] = self.run.counts.get(status, 0) + n_images
            images += n_images
            faces += n_faces
            failed += n_images if status in _FAILED else 0
        self.run.n_faces += faces
        return WaveCounts(images, faces, failed)

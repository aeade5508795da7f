"""Erases images from tables, files and logs, and searches what remains.

Tombstones come first: from then on no night derives anything of these images, whenever the erasure is killed. Every
step can be repeated, and the request stays in a file until the search has found nothing, so running the command again
completes it.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from pyarrow import fs
from pyspark.sql import SparkSession

from faceattr_udf.config import Config
from faceattr_udf.errors import ConfigError, EngineError, ErasureError, TableNotFoundError
from faceattr_udf.privacy.search import Needles, SearchReport, search
from faceattr_udf.privacy.tombstones import KeyedHash
from faceattr_udf.sanitize import redacted
from faceattr_udf.shares.calibration_file import Calibration
from faceattr_udf.spark.engine_errors import explained
from faceattr_udf.spark.enrichment.staging import Staging
from faceattr_udf.spark.erasure.certificate import Certificate
from faceattr_udf.spark.erasure.log_files import delete_older_entries
from faceattr_udf.spark.erasure.places import Place, find_places
from faceattr_udf.spark.erasure.resolve import Holding, Resolver
from faceattr_udf.spark.erasure.rows import Rows
from faceattr_udf.spark.erasure_requests import FOLDER, Request, RequestFolder, union
from faceattr_udf.spark.file_systems import qualified
from faceattr_udf.spark.ingestion import work_location
from faceattr_udf.spark.input_columns import InputColumns, wanted_columns
from faceattr_udf.spark.lease import Lease
from faceattr_udf.spark.locations import LEASES, MAINTENANCE_LEASE, Outputs, file_system, input_ref, is_inside, join
from faceattr_udf.spark.maintenance.delta_ops import delta_operations
from faceattr_udf.spark.marts.build import build_marts
from faceattr_udf.spark.marts.layout import marts_folder
from faceattr_udf.spark.own_session import adopted
from faceattr_udf.spark.tables import Tables
from faceattr_udf.spark.tombstone_table import TombstoneTable

MAX_COPIES: Final = 100
"""The default of `Wish.copies`."""

_OWN_COLUMNS: Final = ("image_id", "reuse_source", "path", "content_sha256")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        image_ids: These images.
        subject_ids: All images of these subjects, as text.
        due: What nights have left to do: faces past `privacy.retention_days`, and faces of withdrawn consents.
        copies: How many other images with the same contents may be erased with them. Many images with one content are
            rarely one person's: it may be a placeholder.
    """

    image_ids: Collection[str] = ()
    subject_ids: Collection[str] = ()
    due: bool = False
    copies: int = MAX_COPIES


def erase(
    spark: SparkSession,
    config: Config,
    output: str,
    wish: Wish,
    *,
    images: str | None = None,
    calibration: Calibration | None = None,
    on_step: Callable[[str], object] = lambda _: None,
) -> Certificate:
    """Erases images: their rows, the files that held them, and what logs and statistics say of them.

    Other images with the same content are the same picture, and are erased with them. What killed erasures left is
    completed, too.

    Args:
        spark: A session, from `start` or the caller's own.
        config: The configuration of the runs; `privacy.key_file` holds the key of the tombstones.
        output: The folder of the output tables.
        wish: What is asked for.
        images: The images table, from which the images are deleted as well; a Delta table.
        calibration: As for `build_marts`: days of existing marts are built again.
        on_step: For tests; called after each step.

    Returns:
        The certificate.

    Raises:
        BusyError: A run, an ingestion or a build is at work there.
        ErasureError: A file still holds an id, or could not be searched; the certificate says which.
        FaceattrError: The engine or a table does not allow it; nothing has been touched.
    """
    with adopted(spark, config) as fitting:
        return Erasure(spark, fitting, output, wish, images=images, calibration=calibration, on_step=on_step).execute()


class Erasure:
    """One erasure. Creating it checks the tables and changes nothing; `execute` is called once."""

    def __init__(
        self,
        spark: SparkSession,
        config: Config,
        output: str,
        wish: Wish,
        *,
        images: str | None = None,
        calibration: Calibration | None = None,
        on_step: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Checks the tables.

        Args:
            spark: As for `erase`.
            config: As for `erase`.
            output: As for `erase`.
            wish: As for `erase`.
            images: As for `erase`.
            calibration: As for `erase`.
            on_step: Called with "leased", "requested", "tombstoned", "results", "faces", "images", "staging", "marts",
                for every table with "vacuumed" and "log", and with "searched" and "certified".

        Raises:
            FaceattrError: As for `erase`.
        """
        self._spark, self._config, self._wish, self._output = spark, config, wish, output
        self._calibration, self._on_step = calibration, on_step
        self._leases: list[Lease] = []
        self._expired: list[str] = []
        self._tables = Tables(spark, config.engine.name, before_commit=self._check_leases)
        self._outputs = Outputs.of(config, qualified(spark, output))
        self._operations = delta_operations(spark, config.engine.name)
        with explained(f"the tables in {output} cannot be checked", "check their location and the access to them"):
            self._images = None if images is None else input_ref(qualified(spark, images), config)
            self._check(images)
        self._requests = RequestFolder(self._outputs.folder)
        self._rows = Rows(self._tables, self._outputs)

    def _check(self, images: str | None) -> None:
        if self._wish.subject_ids and images is None:
            msg = (
                "subjects are found by the images table; name it with --images, or list their images with "
                "faceattr explain and erase these with --image-ids"
            )
            raise ConfigError(msg)
        if self._tables.find(self._outputs.image_results) is None:
            msg = f"there is no table image_results in {self._output}; set --output to the folder that enrich wrote to"
            raise TableNotFoundError(msg)
        if self._images is not None:
            self._outputs.refuse_overlap(self._images)
        self._places = find_places(self._tables, self._operations, self._config, self._outputs, self._images)
        self._tombstones = TombstoneTable(self._tables, self._config, self._outputs.folder)
        # The key is made here, before anything is touched: without a key nothing is erased.
        erases = bool(self._wish.image_ids or self._wish.subject_ids)
        self._key = self._tombstones.open_key() if erases else None
        self._columns = None
        if self._images is not None and images is not None:
            schema = self._tables.read(self._images).schema
            self._columns = InputColumns.check(schema, images, self._config)

    def execute(self) -> Certificate:
        """Erases, as `erase` describes."""
        with explained("the erasure has stopped", "run it again to complete it"), self._leased():
            self._on_step("leased")
            if self._wish.due and self._config.privacy.retention_days:
                before = datetime.now(UTC) - timedelta(days=self._config.privacy.retention_days)
                self._expired = self._rows.derived_before(before)
            requests = self._take_requests()
            self._on_step("requested")
            full = [request for request in requests if request.kind == "erase"]
            partial = [request for request in requests if request.kind != "erase"]
            if full:
                self._bury(full)
            rows = self._delete_rows(full) if requests else {}
            self._rebuild_marts()
            versions = self._clean_files() if requests else {}
            certificate = self._search(requests, full, partial, rows, versions)
            self._on_step("certified")
        if not certificate.complete:
            found, unread = certificate.search.hits, certificate.search.unreadable
            what = f"{len(found)} files still hold an erased id" if found else f"{len(unread)} files cannot be searched"
            msg = (
                f"{what}, such as {(found or unread)[0]}; delete them, or name their table with --images, and run this "
                f"again ({certificate.location} lists them)"
            )
            raise ErasureError(msg)
        return certificate

    @contextmanager
    def _leased(self) -> Iterator[None]:
        """Holds the leases of all folders that are cleaned, and keeps maintenance away."""
        seconds = self._config.runtime.lease_seconds
        wanted = [(self._outputs.folder, "_lease"), (self._outputs.folder, MAINTENANCE_LEASE)]
        if self._images is not None:
            wanted.append((work_location(self._tables, self._images), "_lease"))
        with ExitStack() as stack:
            leases = [Lease(folder, "faceattr erase", seconds, name) for folder, name in wanted]
            self._hold(*(stack.enter_context(lease) for lease in leases))
            yield

    def _hold(self, *leases: Lease) -> None:
        if not all(lease.held for lease in leases):
            msg = (
                f"an erasure must be the only writer in {self._output}, and this process cannot reach it to take the "
                "lease; give it access to that folder"
            )
            raise EngineError(msg)
        self._leases = list(leases)

    def _check_leases(self) -> None:
        for lease in self._leases:
            lease.check()

    def _take_requests(self) -> list[Request]:
        """Returns the requests to complete, with those that were left, after writing what is new."""
        left = self._requests.unfinished()
        images = None if self._images is None else str(self._images)
        for request in left:
            if request.images is not None and request.images != images:
                msg = f"an erasure that was killed also erases from {request.images}; name that table with --images"
                raise ConfigError(msg)
        new: list[Request] = []
        if self._wish.image_ids or self._wish.subject_ids:
            # Rows that a killed erasure has deleted tell nothing any more; its request does.
            found = self._resolver().resolve(self._wish.image_ids, self._wish.subject_ids)
            if found.n_copies > self._wish.copies:
                have = "image has" if found.n_copies == 1 else "images have"
                msg = (
                    f"{found.n_copies} other {have} the content of those to erase, as a placeholder in many rows "
                    f"would, and would be erased with them; if that is right, set --copies to {found.n_copies}"
                )
                raise ConfigError(msg)
            new.append(found.model_copy(update={"images": images}))
        if self._expired:
            new.append(Request(kind="expired", image_ids=tuple(self._expired), n_asked=len(self._expired)))
        for request in new:
            self._requests.write(request)
        return [*left, *new]

    def _resolver(self) -> Resolver:
        found = [self._tables.find(ref) for ref in (self._outputs.image_results, self._outputs.faces)]
        holdings = [Holding.of_output(frame) for frame in found if frame is not None]
        if self._images is not None and self._columns is not None:
            frame = self._tables.read_images(self._images, wanted_columns(self._config)).frame
            holdings.append(Holding.of_images(frame, self._columns, self._config))
        return Resolver(self._spark, self._config, holdings)

    def _bury(self, requests: list[Request]) -> None:
        """Writes tombstones."""
        keyed: KeyedHash = self._key or self._tombstones.open_key()
        self._key = keyed
        ids, contents = union(requests, "image_ids"), union(requests, "contents")
        self._tombstones.add(keyed, requests[-1].erasure_id, datetime.now(UTC), ids, contents)
        self._on_step("tombstoned")

    def _delete_rows(self, full: list[Request]) -> dict[str, int]:
        """Deletes rows, and returns how many there were.

        image_results come first: if this is killed in between, a night finds faces that no result counts, and deletes
        them.
        """
        rows: dict[str, int] = {}
        gone = union(full, "image_ids")
        self._rows.expire(sorted(set(self._expired) - set(gone)))
        rows["image_results"] = self._rows.delete(self._outputs.image_results, "image_id", gone)
        self._on_step("results")
        rows["faces"] = self._rows.delete(self._outputs.faces, "image_id", sorted({*gone, *self._expired}))
        self._on_step("faces")
        if self._images is not None:
            names = self._config.input.columns
            rows["images"] = self._rows.delete(self._images, names.image_id, gone)
            if names.content_sha256 in self._tables.read(self._images).columns:
                rows["images"] += self._rows.delete(self._images, names.content_sha256, union(full, "contents"))
            _remove(join(self._images.location, "_ingest"))
            self._on_step("images")
        Staging(self._spark, self._outputs.folder, "erasure").clear()
        self._on_step("staging")
        return rows

    def _rebuild_marts(self) -> None:
        if any(place.name == "marts_state" for place in self._places):
            build_marts(self._spark, self._config, self._output, self._calibration)
        self._on_step("marts")

    def _clean_files(self) -> dict[str, int]:
        """Deletes files and log entries that hold deleted rows; returns the version at which each log starts."""
        folder, seconds = marts_folder(self._outputs.folder), self._config.runtime.lease_seconds
        marts = [place for place in self._places if place.is_mart]
        versions = self._clean([place for place in self._places if not place.is_mart])
        if marts:
            # `build_marts` has released its own lease.
            with Lease(folder, "faceattr erase", seconds) as lease:
                self._hold(*self._leases, lease)
                Staging(self._spark, folder, "erasure").clear()
                versions |= self._clean(marts)
                self._leases.remove(lease)
        return versions

    def _clean(self, places: list[Place]) -> dict[str, int]:
        erased_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        versions = {}
        for place in places:
            self._check_leases()
            self._operations.vacuum(place.ref, 0)
            self._on_step("vacuumed")
            self._check_leases()
            versions[place.name] = self._operations.checkpoint(place.ref, erased_at)
            delete_older_entries(place.location, versions[place.name])
            self._on_step("log")
        return versions

    def _search(
        self,
        requests: list[Request],
        full: list[Request],
        partial: list[Request],
        rows: dict[str, int],
        versions: dict[str, int],
    ) -> Certificate:
        """Searches all files that remain, and writes the certificate; finished requests are deleted."""
        names = self._config.input.columns
        id_columns = {*_OWN_COLUMNS, names.image_id, names.content_sha256, self._config.consent.subject}
        report = SearchReport()
        values = {value for name in ("image_ids", "subject_ids", "contents", "paths") for value in union(full, name)}
        needles = Needles(values, id_columns)
        if full:
            for folder in self._folders():
                _search_folder(folder, needles, report)
        faceless = Needles(self._rows.without_faces(union(partial, "image_ids")), id_columns)
        if partial:
            for place in self._places:
                if place.name == "faces":
                    _search_folder(place.location, faceless, report)
        self._on_step("searched")
        images = None if self._images is None else redacted(str(self._images))
        erasure_id = requests[-1].erasure_id if requests else Request(kind="erase").erasure_id
        key_id = self._key.key_id if self._key else None
        n_short = needles.n_short + faceless.n_short
        certificate = Certificate(erasure_id, requests, versions, rows, images, key_id, n_short, report)
        if not requests:
            return certificate
        certificate = replace(certificate, location=self._requests.certify(erasure_id, certificate.to_json()))
        if certificate.complete:
            self._requests.finish(requests)
        log.info("erased", state=certificate.as_data()["state"], requests=len(requests), **rows)
        return certificate

    def _folders(self) -> list[str]:
        """Returns the folders to search: the output folder, and tables outside of it."""
        folders = [self._outputs.folder]
        folders += [place.location for place in self._places if not is_inside(place.location, self._outputs.folder)]
        return folders


def _search_folder(folder: str, needles: Needles, report: SearchReport) -> None:
    system, path = file_system(folder)
    search(system, path, needles, report, skip=(FOLDER, *LEASES))


def _remove(location: str) -> None:
    system, path = file_system(location)
    if system.get_file_info(path).type == fs.FileType.Directory:
        system.delete_dir(path)

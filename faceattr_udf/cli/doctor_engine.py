"""The checks of `faceattr doctor --start`: what only a started engine can tell."""

import sys
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from faceattr_udf.cli.checks import Check

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from faceattr_udf.config import Config


def engine_checks(config: "Config", output: str | None) -> Iterator[Check]:
    """Starts the engine, and yields the result of each check of it.

    Args:
        config: Says which engine to start.
        output: A folder or URI for a small Delta table and a lease, which are removed again; None skips these checks.
    """
    from faceattr_udf.errors import FaceattrError
    from faceattr_udf.spark.own_session import adopted
    from faceattr_udf.spark.session import start

    try:
        spark = start(config)
        found = spark.range(3).count()
    except FaceattrError as error:
        yield Check("Query", "failed", str(error), "correct what the message names")
        return
    yield Check("Query", "ok" if found == 3 else "failed", f"the engine {config.engine.name} counted {found} rows")
    with adopted(spark, config) as fitting:
        yield check_workers(spark)
        yield check_delta_table(spark, fitting, output)
        yield check_lease(fitting, output)


def check_workers(spark: "SparkSession") -> Check:
    """Checks that the Python workers have this package in this version, and the libraries of the analysis."""
    from faceattr_udf import __version__
    from faceattr_udf.sanitize import first_line

    fix = "install the package where the workers run, or pass it with --archives and --py-files (docs/nightly-runs.md)"
    try:
        row = spark.range(0, 1, 1, 1).mapInArrow(_describe_worker, "version string, python string").first()
    except Exception as error:  # the engine wraps the worker's traceback in types of its own
        lines = [line.strip() for line in str(error).splitlines() if "Error" in line]
        return Check("Workers", "failed", lines[-1] if lines else first_line(error), fix)
    found = row["version"] if row else "unknown"
    if found != __version__:
        return Check("Workers", "failed", f"they have faceattr_udf {found} and this process {__version__}", fix)
    return Check("Workers", "ok", f"faceattr_udf {found}, Python {row['python'] if row else 'unknown'}")


def _describe_worker(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    import faceattr_udf.analyzer  # noqa: F401 - with all that the analysis imports
    from faceattr_udf import __version__

    for batch in batches:
        rows = batch.num_rows
        python = ".".join(map(str, sys.version_info[:3]))
        yield pa.RecordBatch.from_pydict({"version": [__version__] * rows, "python": [python] * rows})


def check_delta_table(spark: "SparkSession", config: "Config", output: str | None) -> Check:
    """Writes, merges and reads a small Delta table below the output, and removes it."""
    if output is None:
        return Check("Delta", "skipped", "name a place with --output")
    from faceattr_udf.sanitize import first_line
    from faceattr_udf.spark.locations import TableRef, absolute, file_system, join
    from faceattr_udf.spark.tables import Tables

    ref = TableRef(join(absolute(output), f"_faceattr_doctor_{uuid.uuid4().hex}"), "delta")
    try:
        tables = Tables(spark, config.engine.name)
        rows = spark.createDataFrame([("a", 1)], "key string, value int")
        tables.ensure(ref, rows.schema)
        tables.merge(ref, rows, ["key"])
        found = tables.read(ref).count()
        store, path = file_system(ref.location)
        store.delete_dir(path)
    except Exception as error:  # py4j, the Connect client and the stores raise unrelated types
        fix = "pass Delta's jar to Spark, and the store's connector and credentials (docs/object-stores.md)"
        return Check("Delta", "failed", f"{output}: {first_line(error)}", fix)
    return Check("Delta", "ok" if found == 1 else "failed", f"a table in {output} was written, merged and read")


def check_lease(config: "Config", output: str | None) -> Check:
    """Takes and releases the lease on a folder below the output."""
    if output is None:
        return Check("Lease", "skipped", "name a place with --output")
    from faceattr_udf.spark.lease import Lease
    from faceattr_udf.spark.locations import absolute, file_system, join

    folder = join(absolute(output), f"_faceattr_doctor_{uuid.uuid4().hex}")
    with Lease(folder, "faceattr doctor", config.runtime.lease_seconds) as lease:
        held = lease.held
    if not held:
        fix = "give this process access to the place, or make sure that only one job writes there"
        return Check("Lease", "failed", f"no lease can be taken in {output}", fix)
    store, path = file_system(folder)
    store.delete_dir(path)
    return Check("Lease", "ok", f"taken and released in {output}")

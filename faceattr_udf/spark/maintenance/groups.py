"""The tables below an output folder, in groups whose writers hold the same lease."""

from dataclasses import dataclass, replace

from faceattr_udf.config import Config
from faceattr_udf.spark.drift.table import drift_ref
from faceattr_udf.spark.locations import DRIFT_LEASE, Outputs, TableRef
from faceattr_udf.spark.marts.layout import mart_refs, marts_folder
from faceattr_udf.spark.tables import Tables


@dataclass(frozen=True)
class TableGroup:
    """Existing tables that the same writers change.

    Attributes:
        folder: The folder that their lease is about.
        tables: Name -> table; names of marts begin with "marts/".
        lease: The name of their lease.
    """

    folder: str
    tables: dict[str, TableRef]
    lease: str = "_lease"


def derived_groups(tables: Tables, config: Config, outputs: Outputs) -> list[TableGroup]:
    """Returns the tables that `marts` and `drift` derive from the output, as far as they exist.

    Args:
        tables: Opens tables.
        config: The configuration of the output.
        outputs: The output tables.

    Raises:
        ConfigError: output.drift is no name, or that of another output table.
    """
    marts = {f"marts/{name}": ref for name, ref in mart_refs(outputs.folder).items()}
    groups = [
        TableGroup(marts_folder(outputs.folder), marts),
        TableGroup(outputs.folder, {"drift": drift_ref(config, outputs)}, DRIFT_LEASE),
    ]
    found = [replace(group, tables=existing(tables, group.tables)) for group in groups]
    return [group for group in found if group.tables]


def existing(tables: Tables, refs: dict[str, TableRef]) -> dict[str, TableRef]:
    """Returns those of some tables that exist."""
    return {name: ref for name, ref in refs.items() if tables.find(ref) is not None}

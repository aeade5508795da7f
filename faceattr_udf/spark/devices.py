"""Which device a task's networks run on: the GPU that Spark's resource scheduling gave it, or none."""

import os
from collections.abc import Mapping
from typing import Literal

from pyspark.sql import SparkSession

from faceattr_udf.errors import EngineError
from faceattr_udf.inference.base import CPU, unscheduled_device

Device = Literal["auto", "cpu", "cuda"]

_AMOUNT = "spark.task.resource.gpu.amount"


def task_device(asked: Device, environment: Mapping[str, str] = os.environ) -> str:
    """Returns the device of the task that the calling thread runs.

    Args:
        asked: `runtime.device`.
        environment: Of this process.

    Returns:
        "cpu", or a GPU as torch calls it, "cuda:0". "auto" is the CPU, and "cuda" the first GPU, where Spark gave the
        task none: on the driver, on the embedded engine, and where `spark.task.resource.gpu.amount` is not set.

    Raises:
        EngineError: The task's GPU is hidden from this process.
    """
    if asked == "cpu":
        return CPU
    from pyspark import TaskContext  # noqa: PLC0415

    context = TaskContext.get()
    gpu = context.resources().get("gpu") if context is not None else None
    if gpu is None or not gpu.addresses:
        return unscheduled_device(asked)
    return f"cuda:{visible_index(gpu.addresses[0], environment.get('CUDA_VISIBLE_DEVICES'))}"


def visible_index(address: str, visible: str | None) -> int:
    """The number that CUDA gives a GPU in this process.

    Where the cluster manager sets CUDA_VISIBLE_DEVICES, CUDA sees only those GPUs and counts them anew. Addresses may
    be of the machine, and then in that list, or, as in a container that sees nothing else, be counted anew already.

    Args:
        address: Of Spark's discovery script: a number, or the identifier that nvidia-smi shows.
        visible: CUDA_VISIBLE_DEVICES; None where it is not set.

    Raises:
        EngineError: The GPU is not among the visible ones.

    >>> visible_index("2", None), visible_index("2", "3,2"), visible_index("0", "GPU-5f1c")
    (2, 1, 0)
    """
    devices = None if visible is None else [device.strip() for device in visible.split(",") if device.strip()]
    if devices and address in devices:
        return devices.index(address)
    if address.isdecimal() and (devices is None or int(address) < len(devices)):
        return int(address)
    where = "is not set" if visible is None else f"is {visible!r}"
    msg = (
        f"Spark gave a task the GPU {address!r}, which its process cannot see: CUDA_VISIBLE_DEVICES {where}; let "
        'the discovery script print the numbers of nvidia-smi, or set runtime.device = "cpu"'
    )
    raise EngineError(msg)


def tasks_get_gpus(spark: SparkSession, asked: Device) -> bool:
    """Whether tasks of a session use GPUs, as far as the driver can know."""
    return asked == "cuda" or (asked == "auto" and spark.conf.get(_AMOUNT, "0") != "0")

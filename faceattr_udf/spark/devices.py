"""Chooses the device of a task: the GPU that Spark's resource scheduling assigned to it, or the CPU."""

import os
from collections.abc import Mapping
from typing import Literal

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from faceattr_udf.errors import EngineError
from faceattr_udf.inference.base import CPU, local_device

Device = Literal["auto", "cpu", "cuda"]

_AMOUNT = "spark.task.resource.gpu.amount"


def task_device(requested: Device, environment: Mapping[str, str] = os.environ) -> str:
    """Returns the device for the calling thread's task.

    Args:
        requested: `runtime.device`.
        environment: The environment variables of this process.

    Returns:
        "cpu", or torch's name of a GPU, such as "cuda:0". Where Spark assigned no GPU, "auto" means the CPU and "cuda"
        the first GPU: on the driver, on the embedded engine, and where `spark.task.resource.gpu.amount` is not set.

    Raises:
        EngineError: The assigned GPU is not visible to this process.
    """
    if requested == "cpu":
        return CPU
    from pyspark import TaskContext  # noqa: PLC0415

    context = TaskContext.get()
    gpu = context.resources().get("gpu") if context is not None else None
    if gpu is None or not gpu.addresses:
        return local_device(requested)
    return f"cuda:{visible_index(gpu.addresses[0], environment.get('CUDA_VISIBLE_DEVICES'))}"


def visible_index(address: str, visible: str | None) -> int:
    """Returns CUDA's index of a GPU in this process.

    With CUDA_VISIBLE_DEVICES set, CUDA renumbers the listed GPUs from 0. Spark's address is either a number or
    identifier of the machine, which is then in that list, or already an index into it, as in a container.

    Args:
        address: The GPU's address from Spark's discovery script: a number, or the identifier that nvidia-smi shows.
        visible: CUDA_VISIBLE_DEVICES; None where it is not set.

    Raises:
        EngineError: The GPU is not visible.

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
        f"Spark assigned GPU {address!r} to a task, but its process cannot see it: CUDA_VISIBLE_DEVICES {where}; let "
        'the discovery script print the indices of nvidia-smi, or set runtime.device = "cpu"'
    )
    raise EngineError(msg)


def tasks_get_gpus(spark: SparkSession, requested: Device) -> bool:
    """Checks whether the tasks of a session use GPUs, as far as the driver can know."""
    if requested != "auto":
        return requested == "cuda"
    try:
        return spark.conf.get(_AMOUNT, "0") != "0"
    except PySparkException:  # managed platforms without GPUs do not even tell this setting
        return False

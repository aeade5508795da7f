"""A model of nights on a cluster: what `faceattr benchmark --sections engine` measured, for other sizes and cores."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NightCosts:
    """What a night costs, in CPU seconds of the machine that was measured.

    Attributes:
        night: Of a night that has nothing to do: queries are planned, and tables are opened.
        known_image: Per image of the table: its key is compared with the results.
        new_image: Per new image, without inference: its content is read, its rows are staged and committed.
        wave: Of a wave, however few images it has. Cores other than the driver's wait for most of it.
        inference: Per new image, by the models.
    """

    night: float
    known_image: float
    new_image: float
    wave: float
    inference: float

    @classmethod
    def measured(cls, nights: Mapping[str, Mapping[str, Any]], images: int, inference: float) -> "NightCosts":
        """Returns the costs of one engine.

        Args:
            nights: The engine's nights in the section engine of the measurements.
            images: Images of their table.
            inference: CPU seconds per image, from the section engines or from a run of your own.

        >>> nights = {"night of 100 with nothing new": 20, "nothing new": 50, "1 % new": 70, "first night": 260}
        >>> measurements = {name: {"cpu_seconds": {"all": cpu}, "waves": 1} for name, cpu in nights.items()}
        >>> costs = NightCosts.measured(measurements, 1_000_000, 0.08)
        >>> costs.night, costs.known_image, costs.new_image, costs.wave
        (20.0, 3e-05, 0.00019, 20.0)
        """

        def cpu(night: str) -> float:
            return float(nights[night]["cpu_seconds"]["all"])

        idle, nothing = cpu("night of 100 with nothing new"), cpu("nothing new")
        # Of a wave of 1 % nearly all is what every wave costs, so this is a little too much.
        wave = max(0.0, cpu("1 % new") - nothing) / max(1, nights["1 % new"]["waves"])
        inserted = cpu("first night") - nothing - wave * nights["first night"]["waves"]
        return cls(idle, max(0.0, nothing - idle) / images, max(0.0, inserted) / images, wave, inference)

    def seconds(self, images: int, new: int, cores: int, wave_images: int) -> float:
        """Returns the wall time of a night.

        What grows with images is divided among the cores; the night's and the waves' own costs are not. So it is too
        high where those run in parallel, and too low where a wave has fewer row groups than there are cores, where
        cores wait for the slowest task, and where the store is slow.

        Args:
            images: Images of the table.
            new: New images among them. Changed ones, spread over the tables, cost more.
            cores: Cores of the workers, as fast as those that were measured.
            wave_images: Images of a wave.

        >>> costs = NightCosts(night=20, known_image=3e-5, new_image=2e-4, wave=20, inference=0.08)
        >>> round(costs.seconds(100_000_000, 5_000_000, 1_000, 1_000_000))
        524
        """
        parallel = images * self.known_image + new * (self.new_image + self.inference)
        return self.night + parallel / cores + math.ceil(new / wave_images) * self.wave

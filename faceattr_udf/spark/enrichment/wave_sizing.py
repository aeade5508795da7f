"""Wave sizes: the number of images whose inference and commit take about the configured time."""

from typing import Final

_FIRST_WAVE_IMAGES: Final = 1_000
_MAX_GROWTH: Final = 8


class WaveSizer:
    """Chooses the size of the next wave from the duration of the last one.

    The commits of a wave take seconds on Spark, so a wave of small images must hold many. A killed run loses a wave, so
    a wave of large images must hold few.
    """

    def __init__(self, max_images: int, seconds: float, rate: float | None = None) -> None:
        """Begins with a wave of the given rate, or with a small one.

        Args:
            max_images: The largest wave.
            seconds: How long a wave should take.
            rate: Images per second of an earlier run; None if there is none.

        >>> WaveSizer(20_000, 600.0).images, WaveSizer(20_000, 600.0, 25.0).images
        (1000, 15000)
        """
        self._max_images = max_images
        self._seconds = seconds
        first = _FIRST_WAVE_IMAGES if rate is None else max(1, int(rate * seconds))
        self.images = min(max_images, first)

    def update(self, images: int, seconds: float) -> None:
        """Sets `images` for the next wave; it grows in steps, because the first images may be the easy ones.

        Args:
            images: Images of the last wave.
            seconds: How long it took.

        >>> sizer = WaveSizer(max_images=20_000, seconds=300.0)
        >>> sizer.update(1_000, 10.0)
        >>> sizer.images
        8000
        >>> sizer.update(8_000, 2_400.0)
        >>> sizer.images
        1000
        """
        if images and seconds > 0:
            wanted = int(images / seconds * self._seconds)
            self.images = max(1, min(wanted, _MAX_GROWTH * self.images, self._max_images))

"""How many images a wave takes: few minutes' work, whatever the images and the cluster."""

from typing import Final

_FIRST: Final = 1_000
_GROWTH: Final = 8


class Pace:
    """Chooses the size of the next wave from the last one's time.

    A wave costs a few commits, seconds on Spark, so a wave of small images must be long; a killed run loses a wave, so
    one of large images must not be.
    """

    def __init__(self, most: int, seconds: float) -> None:
        """Begins with a small wave.

        Args:
            most: Images that no wave exceeds.
            seconds: How long a wave should take.
        """
        self._most = most
        self._seconds = seconds
        self.images = min(most, _FIRST)

    def learn(self, images: int, seconds: float) -> None:
        """Adapts `images` to the last wave; upwards in steps, because the first images may be the easy ones.

        >>> pace = Pace(most=20_000, seconds=300.0)
        >>> pace.learn(1_000, 10.0)
        >>> pace.images
        8000
        >>> pace.learn(8_000, 2_400.0)
        >>> pace.images
        1000
        """
        if images and seconds > 0:
            wanted = int(images / seconds * self._seconds)
            self.images = max(1, min(wanted, _GROWTH * self.images, self._most))

"""What the model card says about each source of labeled faces."""

from typing import Final, NamedTuple


class Source(NamedTuple):
    """A data set: its name, the terms of use of its images, and what they show."""

    name: str
    terms: str
    content: str


SOURCES: Final = {
    "utkface": Source("UTKFace", "research use only", "portraits from the web, all ages, tight crops"),
    "aaf": Source("All-Age-Faces", "research use only", "mostly East Asian faces, all ages, wide crops"),
    "fer2013": Source(
        "FER2013",
        "research use only",
        "48 px grayscale faces with equalized histograms, tight crops; tested on the private test split",
    ),
    "iog": Source("Images of Groups", "research use only", "faces from photographs of groups; ages are ranges"),
    "muxspace": Source(
        "muxspace/facial_expressions", "Apache-2.0", "mostly grayscale press photographs; unverified labels"
    ),
    "fairface": Source(
        "FairFace", "CC BY 4.0", "photographs from the web, balanced over seven races and gender; ages are ranges"
    ),
    "affectnet": Source(
        "AffectNet", "research use only", "color faces from the web, balanced over seven facial expressions"
    ),
    "ferplus": Source(
        "FERPlus",
        "votes: MIT; images: research use only",
        "originals of FER2013 without histogram equalization, with the votes of ten people",
    ),
    "expw": Source(
        "ExpW", "research use only", "color faces from the web, balanced over seven facial expressions; noisy labels"
    ),
    "fgnet": Source("FG-NET", "research use only", "scans of family photographs of 82 people from childhood on"),
}
"""Source, as in the column of labeled faces -> its description."""

BALANCED_SOURCES: Final = ("fairface",)
"""Sources with about as many faces of every ethnicity and gender, in which groups are compared: elsewhere a group often
comes from photographs of another kind."""

UNVERIFIED: Final[dict[str, tuple[str, ...]]] = {"muxspace": ("ethnicity",)}
"""Source -> attributes whose labels nobody verified, which calibrate nothing: the model agrees with all of them."""


def source_name(source: str) -> str:
    """Returns the name of a source; the source itself if it is not known.

    >>> source_name("aaf"), source_name("mine")
    ('All-Age-Faces', 'mine')
    """
    return SOURCES[source].name if source in SOURCES else source

"""What is written about a face for people to read: its age, and its labels with their confidence."""

from collections.abc import Mapping
from typing import Any

from faceattr_udf.labels import CLASSES


def face_lines(face: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns one line per predicted attribute of a row of the faces table, age first.

    >>> face_lines({"age": 31.4, "age_low": 26.0, "age_high": 40.2, "gender": None, "gender_confidence": 0.55})
    ('age 31 (26-40)', 'gender ? 55%')
    >>> face_lines({})
    ()
    """
    age = age_text(face)
    lines = [f"age {age}"] if age else []
    for attribute in CLASSES:
        text = class_text(face, attribute)
        if text:
            lines.append(text if face.get(attribute) else f"{attribute} {text}")
    return tuple(lines)


def age_text(face: Mapping[str, Any]) -> str:
    """Returns an age and its interval: "?" where the model abstained, "" where age was not predicted.

    >>> age_text({"age": None, "age_low": 26.0, "age_high": 40.2}), age_text({})
    ('? (26-40)', '')
    """
    low, high = face.get("age_low"), face.get("age_high")
    if low is None or high is None:
        return ""
    age = face.get("age")
    return f"{'?' if age is None else f'{age:.0f}'} ({low:.0f}-{high:.0f})"


def class_text(face: Mapping[str, Any], attribute: str) -> str:
    """Returns a label and its confidence: "?" where the model abstained, "" where the attribute was not predicted.

    >>> class_text({"emotion": "surprise", "emotion_confidence": 0.815}, "emotion")
    'surprise 82%'
    """
    confidence = face.get(f"{attribute}_confidence")
    return "" if confidence is None else f"{face.get(attribute) or '?'} {confidence:.0%}"

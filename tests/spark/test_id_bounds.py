"""Conditions on ids hold for all ids that they are made of, and name none of them."""

from hypothesis import given
from hypothesis import strategies as st

from faceattr_udf.spark.id_bounds import among, id_bounds, literal

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CLOSE = st.builds(str.__add__, st.sampled_from(["", "img-", "img-\U0010ffff", "\ud7ff"]), TEXT)


@given(st.lists(CLOSE, min_size=1, max_size=6))
def test_bounds_hold_all_texts_between_two(texts: list[str]) -> None:
    texts.sort()
    least, beyond = id_bounds(texts[0], texts[-1])
    for text in texts:
        assert text >= least
        assert beyond is None or text < beyond
        # As bytes, which is how engines compare.
        assert text.encode() >= least.encode()
        assert beyond is None or text.encode() < beyond.encode()
        assert least == "" or len(least) < len(texts[0]) - 2


def test_bounds_leave_most_other_texts_out() -> None:
    ids = [f"image-{number:09}" for number in range(0, 1_000_000, 10)]
    least, beyond = id_bounds(ids[20_000], ids[29_999])
    assert beyond is not None
    assert sum(least <= one < beyond for one in ids) == 10_000


def test_condition_names_no_id() -> None:
    ids = ["photo-000017.jpg", "photo-000018.jpg", "it's"]
    condition = among("image_id", ids)
    for one in ids:
        assert one not in condition
        assert one.encode().hex() not in condition
    assert literal("photo-000") in among("image_id", ids[:2])

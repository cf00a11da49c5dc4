"""Short ids are beginnings that tell ids apart."""

from hypothesis import given
from hypothesis import strategies as st

from superstep.runtime.cli.render import short_ids

IDS = st.text("ab-1", min_size=1, max_size=20)


@given(st.lists(IDS, max_size=12))
def test_short_ids_are_unique_beginnings(ids: list[str]) -> None:
    short = short_ids(ids)
    assert set(short) == set(ids)
    assert len(set(short.values())) == len(set(ids))
    for each, beginning in short.items():
        assert each.startswith(beginning)
        assert beginning == each or [other for other in short if other.startswith(beginning)] == [each]


def test_they_are_no_longer_than_need_be() -> None:
    assert short_ids(["1f0caa1b-2c3d", "1f0caa1b-2d3d"]) == {
        "1f0caa1b-2c3d": "1f0caa1b-2c",
        "1f0caa1b-2d3d": "1f0caa1b-2d",
    }
    assert short_ids(["1f0caa1b-2c3d-6e4f"]) == {"1f0caa1b-2c3d-6e4f": "1f0caa1b"}

"""A short soak: whatever is asked, and however a client leaves, nothing is left behind."""

import pytest

import soak
from conftest import Hub


@pytest.fixture
def own(tmp_path):
    hub = Hub(tmp_path / "hub", "--prefix-cache-mb", "8").start()
    yield hub
    hub.stop()


def test_no_session_and_no_place_in_the_queue_is_left(own):
    result = soak.soak(own, str(soak.TINY), 300)
    assert sum(result["outcomes"].values()) == 300
    assert result["outcomes"]["ok"] > 100
    assert result["outcomes"]["left"] > 20

"""A window of planes over a volume that can only be read forward."""

import weakref

import numpy as np
import pytest

from lucid_cli.planes import PlaneWindow
from lucid_core.regions import Region

SHAPE = (2, 3, 10, 4, 5)


class Fetched:
    """Gives planes by threes and remembers which are still held."""

    def __init__(self):
        self.volumes = np.random.default_rng(0).integers(-99, 99, SHAPE).astype(np.int16)
        self.calls = []
        self.given = []

    def __call__(self, batch, first):
        self.calls.append((batch, first))
        planes = self.volumes[batch, :, first : first + 3].copy()
        self.given.append((batch, first, weakref.ref(planes)))
        return planes

    @property
    def held(self):
        return [(batch, first) for batch, first, planes in self.given if planes() is not None]


@pytest.fixture
def fetched():
    return Fetched()


@pytest.fixture
def window(fetched):
    return PlaneWindow(SHAPE, fetched, (2.0, 1.0))


def read(window, batch, start, stop):
    out = np.empty((3, stop - start, 2, 3), np.float32)
    window.read(batch, Region((start, 1, 2), (stop, 3, 5)), out)
    return out


def test_every_plane_is_fetched_once_and_only_as_far_as_is_asked(window, fetched):
    for start, stop in ((0, 2), (1, 4), (2, 4), (3, 9)):
        expected = fetched.volumes[0, :, start:stop, 1:3, 2:5] * 2.0 + 1
        np.testing.assert_array_equal(read(window, 0, start, stop), expected)
    assert fetched.calls == [(0, 0), (0, 3), (0, 6)]


def test_planes_are_held_until_they_are_let_go(window, fetched):
    read(window, 0, 0, 7)
    window.forget(0, 2)
    assert fetched.held == [(0, 0), (0, 3), (0, 6)]
    window.forget(0, 3)
    assert fetched.held == [(0, 3), (0, 6)]
    window.forget(0, 8)
    assert fetched.held == [(0, 6)]
    with pytest.raises(RuntimeError, match="plane 7 of volume 0 was asked for after it was let go"):
        read(window, 0, 7, 9)


def test_what_is_let_go_before_it_is_read_is_not_held(window, fetched):
    window.forget(0, 7)
    read(window, 0, 7, 8)
    assert (fetched.calls, fetched.held) == ([(0, 0), (0, 3), (0, 6)], [(0, 6)])


def test_nothing_is_held_of_a_volume_that_was_read_to_its_end(window, fetched):
    read(window, 0, 0, 10)
    window.forget(1, 0)
    assert fetched.held == []


def test_the_next_volume_begins_where_the_last_one_ends(window, fetched):
    read(window, 0, 0, 2)
    window.forget(1, 0)
    assert fetched.calls == [(0, 0), (0, 3), (0, 6), (0, 9)]
    assert fetched.held == []
    np.testing.assert_array_equal(read(window, 1, 0, 10), fetched.volumes[1, :, :, 1:3, 2:5] * 2.0 + 1)
    with pytest.raises(RuntimeError, match="volume 0 was asked for after"):
        read(window, 0, 0, 1)

import select
from collections.abc import Iterator
from contextlib import closing

import pytest

from recorder.proxy.alarm import Alarm


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    with closing(Alarm()) as alarm:
        yield alarm


def goes_off(alarm: Alarm, seconds: float) -> bool:
    return bool(select.select([alarm.fd], [], [], seconds)[0])


def test_it_goes_off_and_stays_so_until_it_is_set_again(alarm: Alarm) -> None:
    assert not goes_off(alarm, 0)
    alarm.set(0.001)
    assert goes_off(alarm, 20)
    assert goes_off(alarm, 0)
    alarm.set(3600)
    assert not goes_off(alarm, 0)


@pytest.mark.parametrize("seconds", [1e-12, 0.0])
def test_the_shortest_time_is_not_never(alarm: Alarm, seconds: float) -> None:
    alarm.set(seconds)
    assert goes_off(alarm, 20)


def test_never_takes_an_earlier_setting_back(alarm: Alarm) -> None:
    alarm.set(0.001)
    assert goes_off(alarm, 20)
    alarm.set(None)
    assert not goes_off(alarm, 0.01)


def test_a_closed_one_cannot_be_set() -> None:
    alarm = Alarm()
    alarm.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        alarm.set(1)

from loadstair.load.clocks import Exchange, clock_reading
from loadstair.samples.runrecord import ClockReading


def test_of_several_exchanges_the_one_with_the_shortest_way_counts() -> None:
    ahead = 1_000
    exchanges = [
        Exchange(0, 90 + ahead, 100),  # a slow way there: its middle would be 40 off
        Exchange(200, 205 + ahead, 210),
        Exchange(300, 310 + ahead, 400),
    ]
    assert clock_reading("worker-1", exchanges) == ClockReading(
        worker="worker-1",
        offset_ns=ahead,  # 1205 - (200 + 210) / 2
        uncertainty_ns=5,  # (210 - 200) / 2
        at_ns=205,
    )

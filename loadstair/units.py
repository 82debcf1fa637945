"""Unit conversions, by name: integer nanoseconds inside, seconds in plans, milliseconds on screen."""

NS_PER_S = 1_000_000_000
NS_PER_US = 1_000
NS_PER_MS = 1_000_000
GIB = 1024**3


def ns_from_s(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def s_from_ns(nanoseconds: float) -> float:
    return nanoseconds / NS_PER_S


def ms_from_ns(nanoseconds: float | None) -> float | None:
    """None stays None: what was not observed has no duration."""
    return None if nanoseconds is None else nanoseconds / NS_PER_MS

"""Prometheus' text format, as an engine's page needs it: families of samples, and histograms that count."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts by upper bound (inclusive), as Prometheus has it."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0
        self.count = 0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times
        self.count += times

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """`labels` as text, empty for none."""
        total = 0
        before = f"{labels}," if labels else ""
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            total += count
            le = "+Inf" if bound is None else repr(float(bound))
            yield f'{name}_bucket{{{before}le="{le}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self.sum!r}"
        yield f"{name}_count{{{labels}}} {total}"


class Page:
    """A page under construction: each call adds one family with its help and type."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        """`labels`: what every sample carries unless a family says otherwise."""
        self._labels = dict(labels)
        self._lines: list[str] = []

    def gauge(self, name: str, about: str, value: float) -> None:
        self._family(name, "gauge", about, [(self._labels, value)])

    def gauges(self, name: str, about: str, values: Mapping[str, float], *, by: str) -> None:
        """One sample for each value of the label `by`."""
        self._family(name, "gauge", about, self._samples(values, by))

    def info(self, name: str, about: str, labels: Mapping[str, str], value: float = 1.0) -> None:
        """A gauge that says something in its labels alone, instead of the common ones."""
        self._family(name, "gauge", about, [(labels, value)])

    def counter(self, name: str, about: str, value: float) -> None:
        """`name` as it stands on the page, with `_total` where the server has it."""
        self._family(name, "counter", about, [(self._labels, value)])

    def counters(
        self, name: str, about: str, values: Mapping[str, float], *, by: str, without: tuple[str, ...] = ()
    ) -> None:
        """`without`: common labels that this family does not have."""
        samples = [
            ({key: label for key, label in labels.items() if key not in without}, value)
            for labels, value in self._samples(values, by)
        ]
        self._family(name, "counter", about, samples)

    def histogram(self, name: str, about: str, histogram: Histogram) -> None:
        self._head(name, "histogram", about)
        self._lines += histogram.lines(name, _label_text(self._labels))

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def _samples(self, values: Mapping[str, float], by: str) -> list[tuple[dict[str, str], float]]:
        return [(self._labels | {by: label}, value) for label, value in values.items()]

    def _family(self, name: str, kind: str, about: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> None:
        self._head(name, kind, about)
        for labels, value in samples:
            text = _label_text(labels)
            self._lines.append(f"{name}{{{text}}} {float(value)!r}" if text else f"{name} {float(value)!r}")

    def _head(self, name: str, kind: str, about: str) -> None:
        self._lines += (f"# HELP {name} {about}", f"# TYPE {name} {kind}")


def _label_text(labels: Mapping[str, str]) -> str:
    return ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(labels.items()))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

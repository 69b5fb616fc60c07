"""Records the metrics of a run in Ray, which exports them for Prometheus; `monitoring.py` is their catalogue."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlrm_ray.errors import first_line
from vlrm_ray.monitoring import CATALOGUE, RUN, Definition

Series = Callable[[float, dict[str, str]], None]
"""Adds a value, with the values of its tags, to a counter or histogram that is registered, or sets a gauge to it."""


def _ray_series(definition: Definition) -> Series | None:
    """The metric in `ray.util.metrics`; None in a process that is not connected to Ray, which exports nothing."""
    import ray

    if not ray.is_initialized():
        return None
    from ray.util import metrics

    tags = (RUN, *definition.tags)
    arguments: tuple[Any, ...] = (definition.name, definition.description)
    if definition.kind == "histogram":
        series: Series = metrics.Histogram(*arguments, boundaries=list(definition.buckets), tag_keys=tags).observe
    elif definition.kind == "counter":
        series = metrics.Counter(*arguments, tag_keys=tags).inc
    else:
        series = metrics.Gauge(*arguments, tag_keys=tags).set
    return series


class Recorder:
    """Records metrics of a run. It never raises, because a run must not end for a figure that cannot be shown."""

    def __init__(
        self, run: str, log: Callable[[str], None], series: Callable[[Definition], Series | None] = _ray_series
    ) -> None:
        """Record with the tag `run`.

        Args:
            run: name of the run.
            log: prints a line.
            series: registers a metric; None if it cannot be registered yet.
        """
        self.run, self._log, self._logged = run, log, set[str]()
        self._make, self._series = series, dict[str, Series]()
        self._gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def record(self, name: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Add to a counter, set a gauge, or add a value to a histogram.

        Args:
            name: name in the catalogue.
            value: the value; nothing is added to a counter for 0 and less.
            tags: values of the metric's own tags.
        """
        try:
            definition = CATALOGUE[name]
            if definition.kind == "counter" and value <= 0:
                return
            if definition.kind == "gauge":
                self._gauges[name, tuple((tags or {}).items())] = value
            series = self._series.get(name) or self._make(definition)
            if series is not None:
                self._series[name] = series
                series(value, {RUN: self.run, **(tags or {})})
        except Exception as error:  # see the class
            self.report(error, name)

    def report(self, error: Exception, name: str = "") -> None:
        """Log why something is not recorded, such as the metric `name`; the same error is logged once."""
        line = first_line(error)
        if line not in self._logged:
            self._logged.add(line)
            self._log(f"metrics: {name}: {line}" if name else f"metrics: {line}")

    def repeat_gauges(self) -> None:
        """Record all gauges again, because Ray no longer exports one that has not been set for 20 s."""
        for (name, tags), value in list(self._gauges.items()):
            self.record(name, value, dict(tags))

    def forget_gauges(self, prefix: str) -> None:
        """Let gauges end whose names begin with `prefix`."""
        self._gauges = {key: value for key, value in self._gauges.items() if not key[0].startswith(prefix)}

    def record_bins(self, name: str, counts: Sequence[int], tags: Mapping[str, str] | None = None) -> None:
        """Add values to a histogram, each as the middle of its bucket.

        Args:
            name: name in the catalogue.
            counts: number of values in each bucket, as `bins` counts them.
            tags: values of the metric's own tags.
        """
        bounds = (0.0, *CATALOGUE[name].buckets)
        for index, count in enumerate(counts):
            for _ in range(count):
                self.record(name, sum(bounds[index : index + 2]) / 2, tags)

"""What Prometheus reads of a station, made when it asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from acl_runtime.outputs.page.feed import Feed
from acl_runtime.outputs.page.state import latency_ms

STATES = ("starting", "ready", "running", "fault", "offline")


def metrics_text(feed: Feed) -> bytes:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Metrics(feed))
    return generate_latest(registry)


class _Metrics:
    """A collector; see prometheus_client."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def collect(self) -> Iterator[Metric]:
        """Each metric."""
        scene = self._feed.look()
        parts = CounterMetricFamily("acl_parts", "Parts since the station started", labels=["verdict"])
        for verdict, count in self._feed.counts.items():
            parts.add_metric([verdict.replace(" ", "_")], count)
        yield parts
        latency = latency_ms(scene.parts)
        seconds = GaugeMetricFamily(
            "acl_latency_seconds", "From exposure to verdict, of the newest parts", labels=["quantile"]
        )
        for name, quantile in (("p50", "0.5"), ("p99", "0.99")):
            if (ms := latency[name]) is not None:
                seconds.add_metric([quantile], ms / 1000)
        yield seconds
        if (ms := latency["deadline"]) is not None:
            yield GaugeMetricFamily("acl_deadline_seconds", "Of the newest part", ms / 1000)
        if scene.status is None:
            return
        status = scene.status
        state = GaugeMetricFamily("acl_state", "1 for the state that the station is in", labels=["state"])
        for name in STATES:
            state.add_metric([name], float(name == status.state))
        yield state
        yield GaugeMetricFamily(
            "acl_status_age_seconds", "Since the station last told its state", scene.status_age_s
        )
        cameras = GaugeMetricFamily("acl_camera_up", "1 for a camera that is there", labels=["camera"])
        for name, is_there in status.cameras.items():
            cameras.add_metric([name], float(is_there))
        yield cameras
        dropped = CounterMetricFamily(
            "acl_output_dropped", "Events that an output gave up", labels=["output"]
        )
        for name, count in status.dropped.items():
            dropped.add_metric([name], count)
        yield dropped
        # gauges, because a PLC may reset what they count
        yield GaugeMetricFamily("acl_lines_lost", "Lines of a web that were not judged", status.lines_lost)
        yield GaugeMetricFamily("acl_roll_defects", "Defects on the roll that runs", status.defects)
        yield GaugeMetricFamily("acl_warnings", "Warnings that hold", len(status.warnings))

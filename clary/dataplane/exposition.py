"""The counters of endpoints as text for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from clary.dataplane.invocation_metrics import LATENCY_BUCKETS, Counters, Key

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_COUNTERS = (
    ("clary_invocations_total", "Invocations of a variant.", "invocations"),
    ("clary_invocation_4xx_errors_total", "Invocations that ended with a 4xx.", "client_errors"),
    ("clary_invocation_5xx_errors_total", "Invocations that ended with a 5xx.", "server_errors"),
    ("clary_invocation_model_errors_total", "Invocations that the model failed.", "model_errors"),
)
_HISTOGRAMS = (
    ("clary_model_latency_seconds", "Time until the model had answered.", "model"),
    ("clary_overhead_latency_seconds", "Time that Clary itself took.", "overhead"),
)
_GAUGES = {
    "clary_concurrent_requests": "Requests that a variant is answering, or that wait for it.",
    "clary_instances": "Instances of a variant that take requests.",
    "clary_loaded_models": "Models of a multi-model variant that are in memory.",
}


def exposition(
    totals: Mapping[Key, Counters],
    others: Mapping[str, float],
    gauges: Iterable[tuple[str, tuple[tuple[str, str], ...], float]] = (),
) -> bytes:
    """`totals` by variant, plain counters by name, and gauges with their labels."""
    lines: list[str] = []
    for name, text, member in _COUNTERS:
        lines += (f"# HELP {name} {text}", f"# TYPE {name} counter")
        for key, counters in totals.items():
            lines.append(f"{name}{{{_labels(key)}}} {getattr(counters, member)}")
    for name, text, member in _HISTOGRAMS:
        lines += (f"# HELP {name} {text}", f"# TYPE {name} histogram")
        for key, counters in totals.items():
            lines += _histogram(name, key, counters, member)
    for name, value in others.items():
        lines += (f"# TYPE {name} counter", f"{name} {value:g}")
    grouped: dict[str, list[str]] = {}
    for name, labels, value in gauges:
        shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        grouped.setdefault(name, []).append(f"{name}{{{shown}}} {value:g}")
    for name, rows in grouped.items():
        lines += (f"# HELP {name} {_GAUGES[name]}", f"# TYPE {name} gauge", *rows)
    return ("\n".join(lines) + "\n").encode()


def _histogram(name: str, key: Key, counters: Counters, member: str) -> list[str]:
    labels = _labels(key)
    statistics = getattr(counters, member)
    lines: list[str] = []
    reached = 0
    for bound, count in zip(LATENCY_BUCKETS, getattr(counters, f"{member}_buckets"), strict=False):
        reached += count
        lines.append(f'{name}_bucket{{{labels},le="{bound:g}"}} {reached}')
    lines.append(f'{name}_bucket{{{labels},le="+Inf"}} {statistics.count}')
    lines.append(f"{name}_sum{{{labels}}} {statistics.sum:.9g}")
    lines.append(f"{name}_count{{{labels}}} {statistics.count}")
    return lines


def _labels(key: Key) -> str:
    names = ("region", "endpoint", "variant")
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, key, strict=True))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

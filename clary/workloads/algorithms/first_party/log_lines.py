"""The log lines of the first-party containers, which metric definitions and users look for."""

from __future__ import annotations

import json
import sys
import threading
import time

from clary.workloads.algorithms.algorithm import Metric
from clary.workloads.algorithms.job import Job

PROGRESS = Metric("train:progress", r"#progress_metric: host=\S+, completed (\S+) %", True)
THROUGHPUT = Metric(
    "train:throughput",
    r"#throughput_metric: host=\S+, train throughput=(\S+) records/second",
    True,
)


def quality_metric(channel: str, name: str, *, maximize: bool, log_name: str = "") -> Metric:
    """The definition of a number that is printed once, at the end."""
    kind = "score" if maximize else "loss"
    return Metric(
        f"{channel}:{name}",
        rf"#quality_metric: host=\S+, {channel} {log_name or name} <{kind}>=(\S+)",
        maximize,
    )


class Log:
    """Writes one host's lines, and measures the time between its start and each of them."""

    def __init__(self, job: Job, algorithm: str) -> None:
        self.host, self.algorithm = job.host, algorithm
        self.started = time.time()

    def say(self, message: str, level: str = "INFO") -> None:
        stamp = time.strftime("%m/%d/%Y %H:%M:%S", time.gmtime())
        sys.stdout.write(f"[{stamp} {level} {threading.get_native_id()}] {message}\n")
        sys.stdout.flush()

    def quality(
        self, channel: str, name: str, value: float, *, maximize: bool, epoch: int | None = None
    ) -> None:
        """`#quality_metric`, of an epoch or of the whole training."""
        kind = "score" if maximize else "loss"
        place = "" if epoch is None else f"epoch={epoch}, "
        self.say(
            f"#quality_metric: host={self.host}, {place}{channel} {name} <{kind}>={float(value)!r}"
        )

    def score(self, name: str, value: float) -> None:
        self.say(f"#test_score ({self.host}) : ('{name}', {float(value)!r})")

    def progress(self, done: int, total: int) -> None:
        share = 100 * done / max(total, 1)
        self.say(f"#progress_metric: host={self.host}, completed {share:g} % of epochs")

    def throughput(self, records: int, seconds: float) -> None:
        rate = records / max(seconds, 1e-9)
        self.say(f"#throughput_metric: host={self.host}, train throughput={rate!r} records/second")

    def metrics(self, **values: float) -> None:
        """The `#metrics` document, which holds sums, counts, least and greatest values."""
        document = {
            "StartTime": self.started,
            "EndTime": time.time(),
            "Dimensions": {
                "Algorithm": self.algorithm,
                "Host": self.host,
                "Operation": "training",
            },
            "Metrics": {
                name: {"sum": value, "count": 1, "min": value, "max": value}
                for name, value in values.items()
            },
        }
        sys.stdout.write(f"#metrics {json.dumps(document)}\n\n")
        sys.stdout.flush()

"""The parts of a real host: S3 for its data, CloudWatch for its lines and metrics."""

from __future__ import annotations

import sys
from typing import Any

from clary.runner import artifacts, debug_rules, staging
from clary.runner.checkpoints import Sync
from clary.runner.credentials import Provider
from clary.runner.fast_files import FastFiles, notes
from clary.runner.logs import LogShipper
from clary.runner.metrics import MetricShipper, Scraper
from clary.runner.pipes import Pipes
from clary.runner.progress import Progress
from clary.runner.s3 import S3
from clary.runner.spec import HostSpec


class _Stopping(Exception):
    """The host is being halted: the transfer is given up."""


class StandardParts:
    """See `parts.Parts`. Nothing connects anywhere before there is something to move."""

    def __init__(self, spec: HostSpec, progress: Progress) -> None:
        self._spec = spec
        self._progress = progress
        service = Provider(spec, "service")
        self._s3 = S3(spec.endpoint_url, spec.region, Provider(spec, "role"))
        self._s3_service = S3(spec.endpoint_url, spec.region, service)
        self._checkpoints = Sync(spec, self._s3)
        self._continuous = artifacts.Continuous(spec, self._s3, self._s3_service)
        self._pipes = Pipes(spec, self._s3)
        self._logs = LogShipper(spec, service)
        self._fast_files = FastFiles(spec, self._say, progress.stopping)
        self._scraper = Scraper(spec.metrics)
        self._rules = debug_rules.DebugRules([debug_rules.parse(one) for one in spec.rules])
        self._shipper = MetricShipper(spec, service, self._scraper)
        self._began = False

    def stage(self) -> None:
        staged = staging.stage(self._spec, self._s3, self._count)
        with staging.told_to_the_user():
            self._fast_files.list_objects(self._s3)
        restored = self._checkpoints.restore(self._count)
        self._progress.input_bytes = staged + restored

    def _count(self, moved: int) -> None:
        if self._progress.stopping.is_set():
            raise _Stopping
        self._progress.input_bytes = moved

    def begin(self) -> None:
        for text in (*self._spec.notes, *notes(self._spec), *self._scraper.problems):
            self._say(text)
        self._pipes.start()
        self._fast_files.start()
        self._checkpoints.start()
        self._continuous.start()
        self._began = True

    def _say(self, text: str) -> None:
        self._logs.write(text.encode())

    def write(self, line: bytes) -> None:
        self._logs.write(line)
        points = self._scraper.feed(line)
        if points:
            self._progress.set_metrics(dict(self._scraper.final))
        stopping = self._rules.feed(line, points)
        if stopping is not None:
            self._logs.write(f"Debugger rule {stopping.name} stops the training job".encode())
            (self._spec.directory / "halt").touch(mode=0o600)

    def fault(self) -> Exception | None:
        return self._pipes.fault

    def end_logs(self) -> None:
        if self._began:
            self._pipes.stop()
            if self._pipes.fault is not None:
                self._say(f"A channel in Pipe mode broke: {self._pipes.fault}")
            self._fast_files.stop()
            self._progress.input_bytes += self._fast_files.fetched
        if not self._logs.close():
            print(
                "some log lines could not be shipped; they are in the host's log", file=sys.stderr
            )
        self._shipper.close()

    def metrics(self) -> dict[str, tuple[float, float]]:
        return dict(self._scraper.final)

    def upload(self, result: str) -> dict[str, Any]:
        self._checkpoints.finish()
        stored: dict[str, Any] = dict(self._continuous.finish())
        stored.update(artifacts.upload(self._spec, self._s3, result, self._s3_service))
        if self._spec.rules:
            stored[debug_rules.FINDINGS] = self._rules.told()
        return stored

"""A batch transform beside its model server: begins when the server is well, and says when it is over."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable

from clary.runner.credentials import Provider
from clary.runner.health import HealthWatch, ping
from clary.runner.logs import LogShipper
from clary.runner.model_pipeline import ModelPipeline
from clary.runner.model_server import Abandoned, ModelServer
from clary.runner.s3 import S3
from clary.runner.spec import HostSpec, Log
from clary.runner.transform import Told, Transform, stamped
from clary.runner.transform_settings import Following, TransformSettings, parse

DATA_LOG = "data-log"
STOP_SECONDS = 15.0
FOLLOWING_SECONDS = 0.1  # between looks at containers that are still starting


class Transforming:
    """Made just before the server is started; `stop` is called once the server is gone, whatever the reason."""

    def __init__(
        self, spec: HostSpec, is_halted: Callable[[], bool], over: Callable[[], None]
    ) -> None:
        assert spec.serve is not None and spec.transform is not None
        self.told: Told | None = None
        self._spec = spec
        self._settings = parse(spec.transform)
        self._is_halted = is_halted
        self._over = over
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._health_deadline = time.monotonic() + spec.serve.health_seconds
        self._watch = HealthWatch(
            spec.directory, spec.serve.socket, spec.serve.ping_path, self._tell
        )
        self._watch.start()

    def is_over(self) -> bool:
        """Whether the server is not needed any more: the transform is done, or it never became well."""
        if self.told is not None:
            return True
        return self._thread is None and time.monotonic() > self._health_deadline

    def stop(self) -> None:
        """Give up what is still under way; what is stored is whole, and nothing else is left."""
        self._stopped.set()
        self._watch.stop()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _tell(self, ready: bool) -> None:
        if ready and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="transform", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            told = self._transform(self._settings)
        except Abandoned:
            return
        except Exception as problem:  # noqa: BLE001  (the host must hear of every failure)
            traceback.print_exc()
            told = Told("failure", f"{type(problem).__name__}: {problem}", "internal")
        self.told = told
        self._over()

    def _transform(self, settings: TransformSettings) -> Told:
        spec = self._spec
        assert spec.serve is not None
        for one in settings.following:
            if not self._await(one):
                text = f"Container {one.name} did not pass the ping health check in time."
                return Told("failure", text)
        s3 = S3(spec.endpoint_url, spec.region, Provider(spec, "role"))
        own = self._server(str(spec.directory / spec.serve.socket))
        server = own
        if settings.following:
            others = [(one.name, self._server(one.socket)) for one in settings.following]
            server = ModelPipeline([(settings.container, own), *others])
        shipper = _data_log(spec)
        try:
            return Transform(
                spec,
                settings,
                s3,
                server,
                lambda text: shipper.write(stamped(text, time.time())),
                self._stopping,
            ).run()
        finally:
            server.close()
            s3.close()
            if not shipper.close():
                print("some lines of the data log could not be shipped", file=sys.stderr)

    def _server(self, path: str) -> ModelServer:
        return ModelServer(
            path,
            timeout_seconds=self._settings.timeout_seconds,
            retries=self._settings.retries,
            stopping=self._stopping,
        )

    def _await(self, one: Following) -> bool:
        """Whether a container of the same pipeline, which is a host of its own, is well in time."""
        assert self._spec.serve is not None
        while not ping(one.socket, self._spec.serve.ping_path):
            if self._stopping():
                raise Abandoned
            if time.monotonic() > self._health_deadline:
                return False
            self._stopped.wait(FOLLOWING_SECONDS)
        return True

    def _stopping(self) -> bool:
        return self._stopped.is_set() or self._is_halted()


def _data_log(spec: HostSpec) -> LogShipper:
    """The errors of single objects go into a stream of their own beside the server's."""
    log = spec.log and Log(spec.log.group, f"{spec.log.stream}/{DATA_LOG}")
    return LogShipper(spec._replace(log=log), Provider(spec, "service"))

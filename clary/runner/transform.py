"""A batch transform on one host: reads its objects, asks its model server, writes the outputs.

    S3 object ──▶ gunzip ──▶ requests ──▶ N at a time ──▶ answers in order ──▶ parts of the output

Whatever the size of an object, no more is held than the requests under way, one more, and two
parts of an output. An object that fails gets no output; the others are transformed all the same.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Callable, NamedTuple  # noqa: UP035 - the alias below is evaluated

from .crew import Crew, Ticket
from .data_processing import ProcessingFault, Processor
from .faults import DOWNLOAD, UPLOAD, ClientFault, blame
from .gzips import GunzipSource
from .manifests import Item
from .model_pipeline import ModelPipeline
from .model_server import Abandoned, InvocationFault, ModelServer, Reply, request_headers
from .records import READ_BYTES, Batch, RecordFault, Source, batches
from .s3 import S3
from .s3_answers import S3Error
from .spec import HostSpec
from .streams import ObjectStream
from .transform_items import items_here
from .transform_output import OutputObject, write_capture
from .transform_settings import PAYLOAD_MEGABYTES_MAX, TransformSettings, Tuning, tune

SAID_CHARACTERS_MAX = 300
LOGGED_CHARACTERS_MAX = 4_000
MEGABYTE = 1024 * 1024

Log = Callable[[str], object]


class Told(NamedTuple):
    """How the transform of a host ended."""

    result: str  # success | failure
    failure: str = ""
    source: str = "algorithm"  # algorithm | client | internal
    files: int = 0  # of this host, where it went through all of them
    failed: int = 0


class Failure(NamedTuple):
    """Why one object has no output."""

    text: str
    source: str
    place: str = ""
    said: str = ""
    status: int = 0


class _Object:
    """One input object on its way."""

    def __init__(self, item: Item, output: OutputObject) -> None:
        self.item = item
        self.output = output
        self.failure: Failure | None = None


class _Entry(NamedTuple):
    """One thing to settle, in order: the answer to a batch, or the end of an object."""

    object: _Object
    batch: Batch | None
    ticket: Ticket | None


class Transform:
    """Runs in one thread of the runner; `stopping` tells it from any other that it is to give up."""

    def __init__(
        self,
        spec: HostSpec,
        settings: TransformSettings,
        s3: S3,
        server: ModelServer | ModelPipeline,
        log: Log,
        stopping: Callable[[], bool],
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._s3 = s3
        self._server = server
        self._log = log
        self._stopping = stopping
        self._tuning = Tuning(1, 6, "MultiRecord")
        self._headers = request_headers(settings.content_type, settings.accept)
        self._processor = Processor(
            settings.processing, settings.content_type, settings.accept, settings.split
        )
        self._window: deque[_Entry] = deque()
        self._under_way = 0
        self._open: dict[int, _Object] = {}  # whose outputs are neither stored nor given up
        self._done: list[Item] = []
        self._first_failure: tuple[Item, Failure] | None = None
        self._failed = 0
        self._records = 0

    def run(self) -> Told:
        """Transform this host's objects; raise Abandoned when it is to stop, leaving no output half written."""
        try:
            items = items_here(self._spec, self._s3, self._settings)
            self._tuning = tune(self._settings, self._asked())
            self._log(f"[sagemaker logs]: {self._tuning.shown}")
            began = time.monotonic()
            self._transform(items)
            taken = time.monotonic() - began
            self._log(
                f"[sagemaker logs]: {len(self._done)} of {len(items)} files, "
                f"{self._records} records, {taken:.3f} seconds"
            )
            if self._settings.capture is not None:
                write_capture(self._s3, self._settings, self._settings.capture, self._done)
        except ClientFault as fault:
            return Told("failure", str(fault), "client")
        except (S3Error, OSError) as problem:
            fault = blame(UPLOAD, problem)
            source = "client" if isinstance(fault, ClientFault) else "internal"
            return Told("failure", str(fault), source)
        return self._told(len(items))

    def _asked(self) -> dict[str, object]:
        """The container is asked only for what the request leaves to it."""
        settings = self._settings
        given = (settings.strategy, settings.concurrency)
        if all(given) and settings.payload_megabytes is not None:
            return {}
        return self._server.execution_parameters()

    # Out --------------------------------------------------------------------------------------------

    def _transform(self, items: list[Item]) -> None:
        crew = Crew(self._tuning.concurrency)
        try:
            for item in items:
                self._send(crew, item)
            while self._window:
                self._settle()
        finally:
            crew.close()
            for started in self._open.values():
                started.output.abort()

    def _send(self, crew: Crew, item: Item) -> None:
        started = _Object(item, OutputObject(self._s3, self._settings, item))
        self._open[id(started)] = started
        try:
            if self._streams():
                self._give(crew, started, None, lambda: self._stream(started))
            else:
                for batch in self._batches(item):
                    self._give(crew, started, batch, lambda batch=batch: self._ask(batch))
                    if started.failure is not None:
                        break
        except RecordFault as fault:
            self._fail(started, Failure(str(fault), "client"))
        except (EOFError, zlib.error) as problem:
            self._fail(started, Failure(f"The object is not valid gzip: {problem}", "client"))
        except S3Error as problem:
            self._fail_reading(started, problem)
        self._window.append(_Entry(started, None, None))
        while self._window and self._window[0].ticket is None:
            self._settle()

    def _streams(self) -> bool:
        """MaxPayloadInMB 0: an object is one chunked request, unless its records are wanted apart."""
        apart = self._settings.strategy == "SingleRecord" and self._settings.split != "None"
        touched = self._processor.changes_input or self._processor.changes_output
        # A chain has no answer before it has a whole request.
        whole = apart or touched or isinstance(self._server, ModelPipeline)
        return self._tuning.payload_megabytes == 0 and not whole

    def _give(
        self, crew: Crew, started: _Object, batch: Batch | None, work: Callable[[], object]
    ) -> None:
        self._look()
        self._window.append(_Entry(started, batch, crew.give(work)))
        self._under_way += 1
        # One more than the crew can take, so that nobody waits while the next batch is read.
        while self._under_way > self._tuning.concurrency:
            self._settle()

    def _batches(self, item: Item) -> Iterator[Batch]:
        stream, source = self._open_source(item)
        try:
            yield from batches(
                source,
                self._settings.split,
                bytes_max=(self._tuning.payload_megabytes or PAYLOAD_MEGABYTES_MAX) * MEGABYTE,
                single=self._tuning.strategy == "SingleRecord",
            )
        finally:
            stream.close()

    def _open_source(self, item: Item) -> tuple[ObjectStream, Source]:
        stream = self._s3.open(item.bucket, item.key)
        return stream, GunzipSource(stream) if self._settings.compression == "Gzip" else stream

    # In the crew's threads ----------------------------------------------------------------------------

    def _ask(self, batch: Batch) -> bytes:
        processor = self._processor
        reply = self._server.invoke(processor.request(batch), self._headers)
        return processor.response(batch, reply.body, reply.content_type)

    def _stream(self, started: _Object) -> None:
        """Each attempt reads the object afresh and begins a new output."""

        server = self._server
        assert isinstance(server, ModelServer)

        def attempt() -> Reply:
            started.output.abort()
            started.output = OutputObject(self._s3, self._settings, started.item)
            stream, source = self._open_source(started.item)
            try:
                return server.stream(_pieces(source), self._headers, started.output.add_piece)
            finally:
                stream.close()

        try:
            server.retried(attempt)
            started.output.end_pieces()
        except BaseException:
            started.output.abort()
            raise

    # Back ---------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Take the oldest entry: its answer is the next piece of its object's output."""
        entry = self._window.popleft()
        if entry.ticket is None:
            self._finish(entry.object)
            return
        self._under_way -= 1
        try:
            response = entry.ticket.result(self._look)
        except InvocationFault as fault:
            source = "client" if 400 <= fault.status < 500 else "algorithm"
            place = entry.batch.place if entry.batch is not None else "streamed"
            self._fail(entry.object, Failure(str(fault), source, place, fault.said, fault.status))
        except ProcessingFault as fault:
            place = entry.batch.place if entry.batch is not None else ""
            self._fail(entry.object, Failure(str(fault), "client", place))
        except (EOFError, zlib.error) as problem:
            text = f"The object is not valid gzip: {problem}"
            self._fail(entry.object, Failure(text, "client"))
        except S3Error as problem:
            self._fail_reading(entry.object, problem)
        else:
            # What goes wrong with an output is not the object's fault: it ends the transform.
            if entry.object.failure is None and entry.batch is not None:
                entry.object.output.add(response)
                self._records += entry.batch.records

    def _finish(self, ended: _Object) -> None:
        self._look()
        if ended.failure is None:
            ended.output.close()
            self._done.append(ended.item)
        self._open.pop(id(ended), None)

    def _fail_reading(self, started: _Object, problem: S3Error) -> None:
        """One object that is gone or forbidden fails alone; an S3 that fails ends the transform."""
        fault = blame(DOWNLOAD, problem)
        if not isinstance(fault, ClientFault):
            raise problem
        self._fail(started, Failure(str(fault), "client"))

    def _fail(self, started: _Object, failure: Failure) -> None:
        if started.failure is not None:
            return  # the first one is the cause, or as good as any
        started.failure = failure
        started.output.abort()
        self._failed += 1
        item = started.item
        if self._first_failure is None:
            self._first_failure = (item, failure)
        where = f"[sagemaker logs]: {item.bucket}/{item.key}:"
        code = {"client": "ClientError", "algorithm": "AlgorithmError"}.get(failure.source, "Error")
        first = failure.status or failure.text
        self._log(f"{where} {code}: {first}")
        place = f" ({failure.place})" if failure.place else ""
        self._log(f"{where} {failure.text}{place}")
        if failure.said:
            self._log(f"{where} Message:")
            for line in failure.said[:LOGGED_CHARACTERS_MAX].splitlines():
                self._log(f"{where} {line}")

    def _look(self) -> None:
        if self._stopping():
            raise Abandoned

    def _told(self, files: int) -> Told:
        if self._first_failure is None:
            return Told("success", files=files)
        item, failure = self._first_failure
        place = f", {failure.place}" if failure.place else ""
        said = f": {failure.said[:SAID_CHARACTERS_MAX]}" if failure.said else ""
        share = f". {self._failed} of {files} files failed on this instance" if files > 1 else ""
        text = f"{failure.text} ({item.uri}{place}){said}{share}. See job logs for more information"
        return Told("failure", text, failure.source, files, self._failed)


def _pieces(source: Source) -> Iterator[bytes]:
    while True:
        data = source.read(READ_BYTES)
        if not data:
            return
        yield data


def stamped(text: str, now: float) -> bytes:
    """A line of the data log, with its time to the millisecond as SageMaker writes it."""
    milliseconds = int(now * 1000) % 1000
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{moment}.{milliseconds:03d}:{text}".encode("utf-8", "replace")

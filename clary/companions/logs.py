"""CloudWatch Logs: writing and reading log events."""

from __future__ import annotations

import heapq
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from clary.companions.logs_filter_pattern import InvalidPattern, compile_pattern
from clary.companions.logs_groups import (
    DAY_MILLISECONDS,
    expired_before,
    find_group,
    find_stream,
    invalid,
    not_found,
    sequence_token,
    stream_key,
    window_of,
)
from clary.engine.call import Call, operation
from clary.store import log_events
from clary.store.log_events import TIME_MAX, Event, Stream, StreamGone, Window, event_bytes
from clary.store.rows import Row

BATCH_BYTES_MAX = 1_048_576
BATCH_EVENTS_MAX = 10_000
BATCH_SPAN_MILLISECONDS_MAX = DAY_MILLISECONDS
AGE_MILLISECONDS_MAX = 14 * DAY_MILLISECONDS
FUTURE_MILLISECONDS_MAX = 2 * 3600 * 1000
PAGE_EVENTS_MAX = 10_000
PAGE_BYTES_MAX = 1_048_576
SEARCH_EVENTS_MAX = 50_000  # looked at for one page of FilterLogEvents
LATEST_FIRST_SINCE = 1_704_067_200_000  # 2024-01-01, see FilterLogEvents on startFromHead
# A position is (time, sequence): "f" continues after it, "b" before it.
_TOKEN = re.compile(r"([fb])/(\d{16})(\d{40})/s")
_SEARCH_TOKEN = re.compile(r"([fb])/(\d{16})/(\d{20})/(\d{20})")

Place = tuple[int, int, int]  # of an event in a group: time, stream, sequence


@operation("PutLogEvents", service="logs")
def put_log_events(call: Call) -> dict[str, Any]:
    """Sequence tokens are taken and ignored, as PutLogEvents documents since 2023."""
    lines = [(event["timestamp"], event["message"]) for event in call.input["logEvents"]]
    _check_batch(lines)
    group = find_group(call)
    stream = find_stream(call, group)
    now = int(call.time * 1000)
    first, end, rejected = _acceptable(lines, now, expired_before(group, call.time))
    accepted = lines[first:end]
    if accepted and accepted[-1][0] - accepted[0][0] > BATCH_SPAN_MILLISECONDS_MAX:
        raise invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
        )
    try:
        newest = log_events.put(call.parts.telemetry, stream, accepted, now=now)
    except StreamGone as problem:
        raise not_found("log stream") from problem
    answer: dict[str, Any] = {"nextSequenceToken": sequence_token(newest)}
    if rejected:
        answer["rejectedLogEventsInfo"] = rejected
    return answer


@operation("GetLogEvents", service="logs")
def get_log_events(call: Call) -> dict[str, Any]:
    """One page of one stream. Both tokens are always there; at an end the token that was sent comes back."""
    group = find_group(call)
    stream = find_stream(call, group)
    window = window_of(call, group, end=call.input.get("endTime"))
    limit = call.input.get("limit") or PAGE_EVENTS_MAX
    token = call.input.get("nextToken")
    direction, position = _opened(token) if token else ("", (0, 0))
    if direction == "f" or (not direction and call.input.get("startFromHead")):
        window = replace(window, after=position if direction else None)
        page = _bounded(log_events.read_forward(call.parts.telemetry, stream.id, window), limit)
    else:
        window = replace(window, before=position if direction else None)
        page = _bounded(log_events.read_backward(call.parts.telemetry, stream.id, window), limit)
        page.reverse()
    forward, backward = _tokens(page, direction, position, window.start)
    return {
        "events": [_described(event) for event in page],
        "nextForwardToken": forward,
        "nextBackwardToken": backward,
    }


@operation("FilterLogEvents", service="logs")
def filter_log_events(call: Call) -> dict[str, Any]:
    """Events of many streams in order of time.

    Every page with events carries `nextToken`, also the last one: the SageMaker SDK's live logging
    prints only such pages. The search ends with an empty page without a token.
    """
    group = find_group(call)
    try:
        matches = compile_pattern(call.input.get("filterPattern") or "")
    except InvalidPattern as problem:
        raise invalid(f"Invalid filter pattern: {problem}") from problem
    search = _search_of(call, group)
    limit = call.input.get("limit") or PAGE_EVENTS_MAX
    events: list[dict[str, Any]] = []
    size = looked_at = 0
    place: Place | None = None
    for stream, event in search.events(call):
        if len(events) == limit or looked_at == SEARCH_EVENTS_MAX:
            break
        if matches(event.message):
            size += event.size
            if events and size > PAGE_BYTES_MAX:
                break
            events.append(_found(stream, event))
        looked_at += 1
        place = (event.time, stream.id, event.sequence)
    answer: dict[str, Any] = {"events": events, "searchedLogStreams": []}
    if place is not None and (events or looked_at == SEARCH_EVENTS_MAX):
        direction = "b" if search.descending else "f"
        answer["nextToken"] = f"{direction}/{place[0]:016d}/{place[1]:020d}/{place[2]:020d}"
    return answer


@dataclass(frozen=True, slots=True)
class _Search:
    """Which events of a group are looked at, and in which direction."""

    log_group: str
    window: Window
    prefix: str
    names: tuple[str, ...]
    descending: bool
    place: Place | None  # where the page before ended

    def events(self, call: Call) -> Iterator[tuple[Stream, Event]]:
        """Streams are opened only when the search reaches their time, so that old ones cost nothing."""
        window = self.window
        if self.place is not None:
            time = self.place[0]
            window = (
                replace(window, end=min(window.end, time + 1))
                if self.descending
                else replace(window, start=max(window.start, time))
            )
        telemetry = call.parts.telemetry
        streams: Iterable[Stream] = log_events.streams_within(
            telemetry, self.log_group, window, prefix=self.prefix, names=self.names
        )
        read = log_events.read_forward
        sign = 1
        if self.descending:
            streams = sorted(streams, key=lambda stream: -stream.last_time)
            read = log_events.read_backward
            sign = -1
        opened = (
            (
                sign * (stream.last_time if self.descending else stream.first_time),
                stream,
                read(telemetry, stream.id, self._resumed(window, stream)),
            )
            for stream in streams
        )
        return _interleaved(opened, sign)

    def _resumed(self, window: Window, stream: Stream) -> Window:
        """Order within a millisecond is by stream, then by sequence; the page before ended at `place`."""
        if self.place is None:
            return window
        time, last_stream, sequence = self.place
        if stream.id != last_stream:
            passed = (stream.id < last_stream) != self.descending
            # Passed streams have shown this millisecond whole, the others nothing of it.
            sequence = TIME_MAX if passed != self.descending else -1
        if self.descending:
            return replace(window, before=(time, sequence))
        return replace(window, after=(time, sequence))


def _check_batch(lines: list[tuple[int, str]]) -> None:
    if not lines or len(lines) > BATCH_EVENTS_MAX:
        raise invalid(
            "1 validation error detected: Value at 'logEvents' failed to satisfy constraint: "
            f"Member must have length between 1 and {BATCH_EVENTS_MAX}"
        )
    size = sum(event_bytes(text) for _, text in lines)
    if size > BATCH_BYTES_MAX:
        raise invalid(f"Upload too large: {size} bytes exceeds limit of {BATCH_BYTES_MAX}")
    last = lines[0][0]
    for when, text in lines:
        if when < last:
            raise invalid(
                "Log events in a single PutLogEvents request must be in chronological order."
            )
        if not text:
            raise invalid(
                "1 validation error detected: Value '' at 'logEvents.member.message' failed to "
                "satisfy constraint: Member must have length greater than or equal to 1"
            )
        last = when


def _acceptable(
    lines: list[tuple[int, str]], now: int, expired: int
) -> tuple[int, int, dict[str, int]]:
    """The range of lines that are kept, and why others are not. Lines are in order of time."""
    times = [when for when, _ in lines]
    too_old = bisect_left(times, now - AGE_MILLISECONDS_MAX)
    beyond_retention = bisect_left(times, expired)
    first_too_new = bisect_right(times, now + FUTURE_MILLISECONDS_MAX)
    rejected: dict[str, int] = {}
    if too_old:
        rejected["tooOldLogEventEndIndex"] = too_old
    if beyond_retention > too_old:
        rejected["expiredLogEventEndIndex"] = beyond_retention
    if first_too_new < len(lines):
        rejected["tooNewLogEventStartIndex"] = first_too_new
    return max(too_old, beyond_retention), first_too_new, rejected


def _bounded(events: Iterator[Event], limit: int) -> list[Event]:
    """As many events as one answer holds, at least one."""
    page: list[Event] = []
    size = 0
    for event in islice(events, limit):
        size += event.size
        if page and size > PAGE_BYTES_MAX:
            break
        page.append(event)
    return page


def _tokens(
    page: list[Event], direction: str, position: tuple[int, int], start: int
) -> tuple[str, str]:
    if page:
        return _token("f", page[-1].position), _token("b", page[0].position)
    time, sequence = position
    match direction:
        case "f":
            return _token("f", position), _token("b", (time, sequence + 1))
        case "b":
            return _token("f", (time, max(0, sequence - 1))), _token("b", position)
        case _:
            # Nothing yet: what comes later stands after the beginning of the window.
            return _token("f", (start, 0)), _token("b", (start, 0))


def _token(direction: str, position: tuple[int, int]) -> str:
    return f"{direction}/{position[0]:016d}{position[1]:040d}/s"


def _opened(token: str) -> tuple[str, tuple[int, int]]:
    found = _TOKEN.fullmatch(token)
    if found is None or max(time := int(found[2]), sequence := int(found[3])) > TIME_MAX:
        raise invalid("The specified nextToken is invalid.")
    return found[1], (time, sequence)


def _search_of(call: Call, group: Row) -> _Search:
    prefix = call.input.get("logStreamNamePrefix") or ""
    names = tuple(call.input.get("logStreamNames") or ())
    if prefix and names:
        raise invalid("logStreamNames and logStreamNamePrefix are mutually exclusive.")
    for name in names:
        if log_events.find_stream(call.parts.telemetry, stream_key(group), name) is None:
            raise not_found("log stream")
    start, end = call.input.get("startTime") or 0, call.input.get("endTime")
    if end is not None and end < start:
        raise invalid("endTime must be greater than or equal to startTime.")
    # FilterLogEvents returns events up to and including endTime; GetLogEvents leaves them out.
    window = window_of(call, group, end=None if end is None else end + 1)
    descending = call.input.get("startFromHead") is False
    place: Place | None = None
    token = call.input.get("nextToken")
    if token:
        found = _SEARCH_TOKEN.fullmatch(token)
        numbers = [int(text) for text in found.groups()[1:]] if found else [TIME_MAX + 1]
        if found is None or max(numbers) > TIME_MAX:
            raise invalid("The specified nextToken is invalid.")
        place, descending = (numbers[0], numbers[1], numbers[2]), found[1] == "b"
    elif descending and start < LATEST_FIRST_SINCE:
        raise invalid(
            "startFromHead can be false only with a startTime on or after 2024-01-01T00:00:00Z."
        )
    return _Search(stream_key(group), window, prefix, names, descending, place)


def _interleaved(
    opened: Iterator[tuple[int, Stream, Iterator[Event]]], sign: int
) -> Iterator[tuple[Stream, Event]]:
    """Merge streams by (time, stream, sequence), all times `sign`; `opened` is in order of its bound."""
    heap: list[tuple[int, int, int, Stream, Event, Iterator[Event]]] = []

    def push(stream: Stream, events: Iterator[Event]) -> None:
        event = next(events, None)
        if event is not None:
            key = (sign * event.time, sign * stream.id, sign * event.sequence)
            heapq.heappush(heap, (*key, stream, event, events))

    waiting = next(opened, None)
    while heap or waiting is not None:
        if waiting is not None and (not heap or waiting[0] <= heap[0][0]):
            push(waiting[1], waiting[2])
            waiting = next(opened, None)
            continue
        _, _, _, stream, event, events = heapq.heappop(heap)
        yield stream, event
        push(stream, events)


def _described(event: Event) -> dict[str, Any]:
    return {"timestamp": event.time, "message": event.message, "ingestionTime": event.ingestion}


def _found(stream: Stream, event: Event) -> dict[str, Any]:
    return {
        "logStreamName": stream.name,
        **_described(event),
        "eventId": f"{event.time:016d}{stream.id:020d}{event.sequence:020d}",
    }

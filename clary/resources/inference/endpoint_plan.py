"""The plan of an endpoint: bring up the instances that its target asks for, switch traffic, let the others go.

    target   what is asked for: {"revision", "variants": [{"VariantName", "count", "weight"}]}
    live     what serves, in the same form; absent until the endpoint was in service once
    ready    the hosts that pass their health check, for the routes
A host's key names its variant, revision and number, so that hosts that target and live share are kept.
Pure: no clock, disk or database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clary.reconcile.decisions import Become, Decision, Forget, Halt, Launch, Prepare, Vanish, Wait
from clary.reconcile.jobs import SortedHosts, sort_hosts
from clary.reconcile.observations import Exited, Running
from clary.reconcile.seen import Seen
from clary.store.rows import Row

BRINGING_UP_SECONDS = 5.0
IN_SERVICE_SECONDS = 10.0
RESTART_SECONDS_MAX = 60.0
LOG_LINES_MAX = 10


def host_keys(target: Mapping[str, Any] | None) -> tuple[str, ...]:
    if not target:
        return ()
    return tuple(
        f"{variant['VariantName']}-r{target['revision']}-i{number}"
        for variant in target["variants"]
        for number in range(variant["count"])
    )


def variant_of(key: str) -> tuple[str, int]:
    """(variant name, revision) of a host's key."""
    name, revision, _ = key.rsplit("-", 2)
    return name, int(revision.removeprefix("r"))


def plan_endpoint(row: Row, seen: Seen) -> Sequence[Decision]:
    hosts = sort_hosts(seen.hosts)
    if row.status == "Deleting":
        return _delete(row, hosts)
    if row.status in ("Creating", "Updating"):
        return _bring_up(row, seen, hosts)
    if row.status == "InService":
        return _keep_up(row, seen, hosts)
    return _clear(hosts)


def _bring_up(row: Row, seen: Seen, hosts: SortedHosts) -> Sequence[Decision]:
    wanted = host_keys(row.state["target"])
    if seen.preparation.status == "failed":
        return _fail(row, hosts, seen.preparation.message)
    if seen.preparation.status != "ready":
        return [Prepare(), Wait(0.5)]
    broken = [key for key in wanted if key in hosts.exited]
    if broken:
        return _fail(row, hosts, _unhealthy(broken[0], hosts.exited[broken[0]]))
    missing = tuple(key for key in wanted if key not in seen.hosts or key in hosts.absent)
    if missing:
        return [Launch(missing), Wait(BRINGING_UP_SECONDS)]
    if not all(_is_ready(seen, key) for key in wanted):
        return [_shown(row, seen), Wait(BRINGING_UP_SECONDS)]
    target = row.state["target"]
    fields = {"EndpointConfigName": target["config"], "FailureReason": None}
    live = Become("InService", fields, {"live": target, "ready": sorted(wanted), "restarts": {}})
    return [live, Wait(0.0)]


def _keep_up(row: Row, seen: Seen, hosts: SortedHosts) -> Sequence[Decision]:
    """Start again what ended, let go what is not wanted any more, and keep the routes true."""
    wanted = host_keys(row.state["live"])
    surplus = tuple(key for key in hosts.running if key not in wanted)
    ended = tuple(hosts.exited)
    decisions: list[Decision] = [_shown(row, seen)]
    if surplus:
        decisions.append(Halt(surplus))
    if ended:
        decisions.append(Forget(ended))
    restarts: dict[str, Any] = dict(row.state.get("restarts", {}))
    waits = [IN_SERVICE_SECONDS if not surplus else 1.0]
    for key in wanted:
        if key in hosts.running or key in hosts.unknown:
            continue
        count, last = restarts.get(key, (0, 0.0))
        pause = 0.0 if not count else min(2.0**count, RESTART_SECONDS_MAX)
        if seen.now - last < pause:
            waits.append(pause - (seen.now - last))
        elif key not in ended:
            restarts[key] = [count + 1, seen.now]
            decisions.append(Launch((key,)))
        else:
            waits.append(0.0)  # its files go first; it is started in the turn after this one
    decisions.append(Become(state={"restarts": restarts}))
    return [*decisions, Wait(min(waits))]


def _delete(row: Row, hosts: SortedHosts) -> Sequence[Decision]:
    if hosts.unknown:
        return [Wait(1.0)]
    left = (*hosts.running, *hosts.absent)
    if left:
        return [Become(state={"ready": []}), Halt(left), Wait(1.0)]
    return [Vanish()]


def _fail(row: Row, hosts: SortedHosts, reason: str) -> Sequence[Decision]:
    """A new endpoint fails; one that served goes on serving what it did, and says why it did not change."""
    live = row.state.get("live")
    fields = {"FailureReason": reason[:1024]}
    if live:
        return [Become("InService", fields, {"target": live}), Wait(0.0)]
    return [Become("Failed", fields, {"ready": []}), *_clear(hosts), Wait(1.0)]


def _clear(hosts: SortedHosts) -> list[Decision]:
    decisions: list[Decision] = []
    left = (*hosts.running, *hosts.absent)
    if left:
        decisions += [Halt(left), Wait(1.0)]
    if hosts.exited:
        decisions.append(Forget(tuple(hosts.exited)))
    return decisions


def _shown(row: Row, seen: Seen) -> Become:
    ready = sorted(key for key in seen.hosts if _is_ready(seen, key))
    return Become(state={"ready": ready})


def _is_ready(seen: Seen, key: str) -> bool:
    host = seen.hosts.get(key)
    return isinstance(host, Running) and host.ready


def _unhealthy(key: str, exited: Exited) -> str:
    """The reason with the end of the log, so that nobody has to look for it."""
    variant, _ = variant_of(key)
    outcome = exited.outcome
    if outcome.get("failure_source") == "client":
        return str(outcome.get("failure") or "")
    tail = [str(line) for line in outcome.get("log_tail") or []][-LOG_LINES_MAX:]
    reason = (
        f"The primary container for production variant {variant} did not pass the ping health "
        "check. Please check CloudWatch logs for this endpoint."
    )
    if outcome.get("out_of_memory"):
        reason += " It was ended by the memory limit of its instance."
    return f"{reason} Last log lines: {' | '.join(tail)}" if tail else reason

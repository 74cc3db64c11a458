"""The plan of an endpoint: bring up the instances that its target asks for, move traffic, let the others go.

    target      what is asked for: {"revision", "variants": [{"VariantName", "count", "weight"}]}
    live        what serves, in the same form; absent until the endpoint was in service once
    deployment  how far the move from live to target is; absent when there is none
    ready       the hosts that pass their health check, for the routes
    refused     why the target can never be: there is no room for it; absent where there is
    leaving     hosts that left the routes, and when: they are halted once their last requests have ended
    forgetting  hosts whose files are being removed: they are struck from the row when these are gone
A host's key names its variant, revision and number, so that hosts that target and live share are kept.
Pure: no clock, disk or database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from clary.reconcile.decisions import Become, Decision, Forget, Halt, Launch, Prepare, Vanish, Wait
from clary.reconcile.jobs import SortedHosts, sort_hosts
from clary.reconcile.observations import Absent, Exited, Running, Unknown
from clary.reconcile.seen import Seen
from clary.resources.inference.endpoint_deployment import (
    ROLLBACK_RESTARTS_MAX,
    Deployment,
    rolled_back_reason,
)
from clary.resources.inference.endpoint_hosts import HostKey, host_keys, variant_of
from clary.resources.inference.scale_to_zero import has_serverless, idle_seconds_left, idled
from clary.store.rows import Row

__all__ = ["host_keys", "plan_endpoint", "variant_of"]

BRINGING_UP_SECONDS = 5.0
PREPARING_SECONDS = 0.5
STALE_SECONDS = 0.1
IN_SERVICE_SECONDS = 10.0
RESTART_SECONDS_MAX = 60.0
# A request that is on its way when the routes change has this long to reach its host. What has
# reached it is finished within the grace that the host has to end.
DRAIN_SECONDS = 2.0
LOG_LINES_MAX = 10
WHY_CHARACTERS_MAX = 400
LAST_LINES = " Last log lines: "
REASON_CHARACTERS_MAX = 1024


def plan_endpoint(row: Row, seen: Seen) -> Sequence[Decision]:
    return _kept_until_gone(row, seen, _decide(row, seen))


def _kept_until_gone(row: Row, seen: Seen, decisions: Sequence[Decision]) -> Sequence[Decision]:
    """Strike a host from the row only once its files are seen to be gone, since removing them may fail.

    Forget comes first and then the hosts that stay, so that what is launched is added to them.
    """
    forgotten = {key for one in decisions if isinstance(one, Forget) for key in one.hosts}
    launched = {key for one in decisions if isinstance(one, Launch) for key in one.hosts}
    before = set(row.state.get("forgetting", []))
    gone = {key for key in forgotten & before if isinstance(seen.hosts.get(key), Absent)}
    ended = {key for key, one in seen.hosts.items() if isinstance(one, Absent | Exited)}
    forgetting = ((before & ended) | forgotten) - gone - launched
    kept = [one for one in decisions if not isinstance(one, Forget)]
    if forgetting != before:
        kept.insert(0, Become(state={"forgetting": sorted(forgetting)}))
    if forgotten:
        known: dict[str, Any] = row.state.get("hosts", {})
        hosts = {key: one for key, one in known.items() if key not in gone}
        kept = [Forget(tuple(sorted(forgotten))), Become(state={"hosts": hosts}), *kept]
    return kept


def _decide(row: Row, seen: Seen) -> Sequence[Decision]:
    hosts = sort_hosts(seen.hosts)
    refused = row.state.get("refused")
    if refused and row.status in ("Creating", "Updating"):
        return _fail(row, hosts, refused)
    match row.status:
        case "Deleting":
            return _delete(row, hosts)
        case "Creating":
            return _bring_up(row, seen, hosts)
        case "Updating":
            deployment = Deployment.of(row)
            if deployment is None:
                return _bring_up(row, seen, hosts)
            if deployment.rollback:
                return _roll_back(row, seen, hosts, deployment)
            return _deploy(row, seen, hosts, deployment)
        case "InService" | "UpdateRollbackFailed":
            return _serve(row, seen, hosts)
        case _:
            return _clear(hosts)


# In service -----------------------------------------------------------------------------------------


def _serve(row: Row, seen: Seen, hosts: SortedHosts) -> Sequence[Decision]:
    """Start again what ended, let go what is not wanted any more, and keep the routes true."""
    idle = idled(row, seen.now)
    if idle:
        return [Become(state=idle), Wait(0.0)]
    wanted = serving_keys(row)
    decisions = [_shown(row, seen), *_keep_up(row, seen, hosts, wanted)]
    left = idle_seconds_left(row, seen.now)
    wait = IN_SERVICE_SECONDS if left is None else min(left, IN_SERVICE_SECONDS)
    return [*decisions, *_let_go(row, seen, hosts, wanted), Wait(wait)]


def serving_keys(row: Row) -> tuple[str, ...]:
    """The hosts that belong in the routes as they are now, if they are ready."""
    live = row.state.get("live")
    deployment = Deployment.of(row)
    if deployment is None:
        return host_keys(live)
    step = deployment.step
    return (
        *host_keys(live, step.kept),
        *(host_keys(row.state["target"], step.fresh) if deployment.new_serves else ()),
    )


def _keep_up(row: Row, seen: Seen, hosts: SortedHosts, wanted: Iterable[str]) -> Sequence[Decision]:
    """Start what is wanted and does not run; what ends again and again waits longer each time."""
    restarts: dict[str, Any] = dict(row.state.get("restarts", {}))
    decisions: list[Decision] = []
    ended: list[str] = []
    leaving = row.state.get("leaving", {})
    for key in wanted:
        if key in hosts.running or key in hosts.unknown or key in leaving:
            continue
        count, last = restarts.get(key, (0, 0.0))
        pause = 0.0 if not count else min(2.0**count, RESTART_SECONDS_MAX)
        if key in hosts.exited:
            ended.append(key)  # its files go first; it is started in a turn after this one
            decisions.append(Wait(max(0.0, pause - (seen.now - last))))
        elif seen.now - last < pause:
            decisions.append(Wait(pause - (seen.now - last)))
        else:
            restarts[key] = [count + 1, seen.now]
            decisions.append(Launch((key,)))
    if ended:
        decisions.append(Forget(tuple(ended)))
    if restarts != row.state.get("restarts", {}):
        decisions.append(Become(state={"restarts": restarts}))
    return decisions


def _let_go(row: Row, seen: Seen, hosts: SortedHosts, kept: Iterable[str]) -> Sequence[Decision]:
    """Halt hosts some time after they left the routes, and remove them when they have ended.

    One that is wanted again meanwhile goes all the same, since it may have been halted already; it is
    started anew once it is gone.
    """
    wanted = set(kept)
    forgetting: list[str] = row.state.get("forgetting", [])
    before: dict[str, float] = row.state.get("leaving", {})
    leaving: dict[str, float] = {}
    decisions: list[Decision] = []
    halted: list[str] = []
    gone: list[str] = []
    for key in seen.hosts:
        if key in wanted and key not in before:
            continue
        since = before.get(key, seen.now)
        left = DRAIN_SECONDS - (seen.now - since)
        if key in hosts.exited or (key in hosts.absent and (left <= 0 or key in forgetting)):
            gone.append(key)  # what never started never will, once its folder is removed
            continue
        leaving[key] = since
        if left > 0:
            decisions.append(Wait(left))
        else:
            halted.append(key)
    if halted:
        decisions += [Halt(tuple(halted)), Wait(1.0)]
    if gone:
        decisions += [Forget(tuple(gone)), Wait(0.0)]
    if leaving != before:
        decisions.append(Become(state={"leaving": leaving}))
    return decisions


# Coming up ------------------------------------------------------------------------------------------


def _bring_up(row: Row, seen: Seen, hosts: SortedHosts) -> Sequence[Decision]:
    """All that the target asks for, at once: a new endpoint, or other counts and weights of one."""
    target = row.state["target"]
    wanted, served = host_keys(target), host_keys(row.state.get("live"))
    unready = _unready(row, seen, hosts, [key for key in wanted if key not in served])
    if isinstance(unready, str):
        return _fail(row, hosts, unready)
    others = [
        _shown(row, seen),
        *_keep_up(row, seen, hosts, served),
        *_let_go(row, seen, hosts, (*wanted, *served)),
    ]
    return [*others, *(unready or [_settled(target), Wait(0.0)])]


def _unready(
    row: Row, seen: Seen, hosts: SortedHosts, wanted: Sequence[str]
) -> Sequence[Decision] | str:
    """What is still to be done for these hosts to be ready; a text if they never will be."""
    if not wanted and not has_serverless(row.state["target"]):
        return []
    if seen.preparation.status == "failed":
        return seen.preparation.message
    if seen.preparation.status != "ready":
        return [Prepare(), Wait(PREPARING_SECONDS)]
    leaving = row.state.get("leaving", {})
    ended = [key for key in wanted if key in hosts.exited and key not in leaving]
    # Nobody stops a host that is wanted: what stopped is an earlier one of this key, whose files are
    # still there because removing them failed.
    stale = tuple(key for key in ended if hosts.exited[key].result == "stopped")
    if stale:
        return [Forget(stale), Wait(STALE_SECONDS)]
    for key in ended:
        return _unhealthy(key, hosts.exited[key])
    missing = tuple(
        key
        for key in wanted
        if key not in leaving and (key not in seen.hosts or key in hosts.absent)
    )
    if missing:
        return [Launch(missing), Wait(BRINGING_UP_SECONDS)]
    if not all(_passes(row, seen, key) for key in wanted):
        return [Wait(BRINGING_UP_SECONDS)]
    return []


def _settled(target: dict[str, Any], reason: str | None = None) -> Become:
    """The target serves alone; what else runs is let go by the turns after this one."""
    return Become(
        "InService",
        {"EndpointConfigName": target["config"], "FailureReason": reason},
        {"live": target, "target": target, "deployment": None, "restarts": {}},
    )


def _fail(row: Row, hosts: SortedHosts, reason: str) -> Sequence[Decision]:
    """A new endpoint fails; one that served goes on serving what it did, and says why it did not change."""
    reason = reason[:REASON_CHARACTERS_MAX]
    live = row.state.get("live")
    if live:
        return [_settled(live, reason), Wait(0.0)]
    failed = Become("Failed", {"FailureReason": reason}, {"ready": []})
    return [failed, *_clear(hosts), Wait(1.0)]


# An update with a policy ----------------------------------------------------------------------------


def _deploy(row: Row, seen: Seen, hosts: SortedHosts, deployment: Deployment) -> Sequence[Decision]:
    """One step after another: its hosts come up, traffic moves, and nothing goes wrong for a while."""
    live, target, step = row.state["live"], row.state["target"], deployment.step
    reason = deployment.trouble(seen.now)
    unready = _unready(row, seen, hosts, host_keys(target, step.fresh))
    if isinstance(unready, str):
        reason = unready
    if reason:
        return [_rolling_back(deployment, reason, seen.now), _shown(row, seen), Wait(0.0)]
    kept = host_keys(live, step.kept)
    others = [
        _shown(row, seen),
        *_keep_up(row, seen, hosts, kept),
        *_let_go(row, seen, hosts, (*kept, *host_keys(target))),
    ]
    if not isinstance(unready, str) and unready:
        return [*others, *unready]
    if not deployment.is_shifted:
        return [*others, Become(state=deployment.shifted(seen.now)), Wait(0.0)]
    left = deployment.baking_seconds(seen.now)
    if left > 0:
        return [*others, Wait(min(left, IN_SERVICE_SECONDS))]
    if deployment.is_last:
        return [*others, _settled(target), Wait(0.0)]
    return [*others, Become(state=deployment.next_step()), Wait(0.0)]


def _roll_back(
    row: Row, seen: Seen, hosts: SortedHosts, deployment: Deployment
) -> Sequence[Decision]:
    """Traffic goes back to the old fleet, whose missing instances are started first."""
    live, target, step = row.state["live"], row.state["target"], deployment.step
    kept, fresh = host_keys(live, step.kept), host_keys(target, step.fresh)
    others = [
        _shown(row, seen),
        *_keep_up(row, seen, hosts, kept),
        *_let_go(row, seen, hosts, (*kept, *fresh)),
    ]
    if deployment.waits_for_old and not all(is_ready(row, seen, key) for key in kept):
        restarts = row.state.get("restarts", {})
        worst = max((restarts.get(key, (0, 0.0))[0] for key in kept), default=0)
        if worst > ROLLBACK_RESTARTS_MAX or deployment.is_overdue(seen.now):
            return [*others, _stuck(deployment), Wait(1.0)]
        return [*others, Wait(BRINGING_UP_SECONDS)]
    if not deployment.is_last:
        return [*others, Become(state=deployment.next_step()), Wait(0.0)]
    return [*others, _settled(live, rolled_back_reason(deployment.rollback)), Wait(0.0)]


def _rolling_back(deployment: Deployment, reason: str, now: float) -> Become:
    fields = {"FailureReason": rolled_back_reason(reason)}
    return Become(fields=fields, state=deployment.turned_back(reason, now))


def _stuck(deployment: Deployment) -> Become:
    reason = (
        f"{rolled_back_reason(deployment.rollback)} The rollback failed as well: the instances of "
        "the old configuration did not come into service."
    )
    return Become("UpdateRollbackFailed", {"FailureReason": reason[:REASON_CHARACTERS_MAX]})


# The end --------------------------------------------------------------------------------------------


def _delete(row: Row, hosts: SortedHosts) -> Sequence[Decision]:
    if hosts.unknown:
        return [Wait(1.0)]
    if hosts.running:
        return [Become(state={"ready": []}), Halt((*hosts.running, *hosts.absent)), Wait(1.0)]
    return [Vanish()]


def _clear(hosts: SortedHosts) -> list[Decision]:
    decisions: list[Decision] = []
    if hosts.running:
        decisions += [Halt((*hosts.running, *hosts.absent)), Wait(1.0)]
    gone = (*hosts.exited, *(() if hosts.running else hosts.absent))
    if gone:
        decisions.append(Forget(gone))
    return decisions


# What is seen ---------------------------------------------------------------------------------------


def _shown(row: Row, seen: Seen) -> Become:
    return Become(state={"ready": sorted(key for key in seen.hosts if is_ready(row, seen, key))})


def is_ready(row: Row, seen: Seen, key: str) -> bool:
    """A host that cannot be told about now is as ready as it was: not seen is not gone."""
    if isinstance(seen.hosts.get(key), Unknown):
        return key in row.state.get("ready", [])
    return _passes(row, seen, key)


def _passes(row: Row, seen: Seen, key: str) -> bool:
    host = seen.hosts.get(key)
    return isinstance(host, Running) and host.ready and key not in row.state.get("leaving", {})


def _unhealthy(key: str, exited: Exited) -> str:
    """The reason with the end of the log, so that nobody has to look for it."""
    host = HostKey.parse(key)
    outcome = exited.outcome
    if outcome.get("failure_source") == "client":
        return str(outcome.get("failure") or "")
    container = f"container_{host.container + 1}" if "c" in key.rsplit("-", 1)[1] else "primary"
    reason = (
        f"The {container} container for production variant {host.variant} did not pass the ping "
        "health check. Please check CloudWatch logs for this endpoint."
    )
    # What the runner saw beside the health check: what killed the server, for one.
    failure = str(outcome.get("failure") or "")
    _, marker, why = failure.partition("did not pass the ping health check.")
    why = (why if marker else failure).partition(LAST_LINES)[0].strip()[:WHY_CHARACTERS_MAX]
    reason = f"{reason} {why}" if why else reason
    tail = [str(line) for line in outcome.get("log_tail") or []]
    words = _last_words(tail, REASON_CHARACTERS_MAX - len(reason) - len(LAST_LINES))
    return f"{reason}{LAST_LINES}{words}" if words else reason


def _last_words(tail: list[str], room: int) -> str:
    """The last traceback or the last lines; where there is no room for all, the end of them."""
    begin = max((at for at, line in enumerate(tail) if line.startswith("Traceback")), default=0)
    words: list[str] = []
    for line in reversed(tail[begin:]):
        text = line.strip()
        if not text.strip("~^ "):
            continue  # what marks a place in the line above it
        if len(words) == LOG_LINES_MAX or (words and len(text) + 3 > room):
            break
        words.insert(0, text[: max(0, room)])
        room -= len(text) + 3
    return " | ".join(words)

"""`clary status`: what runs, and where."""

from __future__ import annotations

import argparse
import time
from collections import Counter

from clary.cli.installation import installed
from clary.cli.output import emit_json, next_step, say
from clary.cli.running_work import running_hosts


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON document")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 only while every part answers, so that scripts can ask."""
    installation = installed()
    status, health = installation.health()
    server = installation.server()
    pid = installation.supervisor_pid
    healthy = status == 200
    work = Counter(one.work for one in running_hosts(installation.home))
    if options.json:
        emit_json(
            {
                "healthy": healthy,
                "url": installation.url,
                "home": str(installation.home),
                "supervisor": {"pid": pid, "started": server.get("started")},
                "children": server.get("children", {}),
                "health": health,
                "running": work,
            }
        )
        return 0 if healthy else 1
    word = "up" if healthy else "degraded" if status else "down"
    say(f"Clary is {word} at {installation.url}")
    say(f"  home        {installation.home}")
    if pid:
        minutes = (time.time() - server.get("started", time.time())) / 60
        say(f"  supervisor  process {pid}, up for {minutes:.0f} min")
    for name, child in server.get("children", {}).items():
        ended = f", last ended by {child['last_end']}" if "last_end" in child else ""
        say(f"  {name:<10}  {child['state']}, {child['restarts']} restarts{ended}")
    for arn, hosts in work.items():
        say(f"  runs        {arn} on {hosts} host{'s' if hosts > 1 else ''}")
    next_step('eval "$(clary env)"' if healthy else "clary doctor" if pid else "clary up")
    return 0 if healthy else 1

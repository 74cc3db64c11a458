"""Failed invocations in the log of their endpoint, each under the request id that its client is given."""

from __future__ import annotations

from clary.dataplane.capture import Journal
from clary.dataplane.invocation import Invocation
from clary.dataplane.request_ids import unique_id
from clary.model.errors import ApiError

CHARACTERS_MAX = 1000  # of what the container said


def tell(journal: Journal | None, invocation: Invocation, problem: ApiError) -> None:
    """Give a ModelError its request id, and write the line that is found by it.

    The id is made only now: one sent along with every request would cost the model server its
    cache of heads that it has read before.
    """
    problem.request_id = problem.request_id or unique_id()
    if journal is None:
        return
    status = problem.members["OriginalStatusCode"]
    text = " ".join(problem.members["OriginalMessage"][:CHARACTERS_MAX].splitlines())
    ended = f"answered {status}" if status else "failed"
    line = f"RequestId: {problem.request_id} {invocation.container} {ended}: {text}"
    journal.write(invocation.route, _stream(invocation), line)


def _stream(invocation: Invocation) -> str:
    """Where the lines of the container itself are, if the snapshot says so."""
    variant, instance = invocation.variant.name, invocation.instance
    if instance is None or not instance.log_id:
        return f"{variant}/errors"
    stream = f"{variant}/{instance.log_id}"
    return f"{stream}/{invocation.container}" if instance.containers else stream

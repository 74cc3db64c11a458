"""Checkpoints: restored from S3 before the program, copied to S3 while it runs and at its end."""

from __future__ import annotations

from collections.abc import Callable

from .faults import DOWNLOAD, UPLOAD, blame
from .manifests import Item, check_for_clashes, checked_path
from .mirrors import Keeper, Mirror, joined
from .s3 import S3, split_uri
from .s3_answers import S3Error
from .spec import HostSpec, checkpoint_relative, checkpoint_root
from .transfers import Count, Task, run_all

INTERVAL_SECONDS = 2.0


class Sync:
    """Two-way at the start, one way up from then on; deletions go up too. No per-host prefix."""

    def __init__(
        self, spec: HostSpec, s3: S3, *, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._s3 = s3
        self._mirror: Mirror | None = None
        if spec.checkpoints is not None:
            self._bucket, self._prefix = split_uri(spec.checkpoints.uri)
            self._directory = checkpoint_root(spec) / checkpoint_relative(spec)
            self._mirror = Mirror(
                s3,
                self._bucket,
                self._prefix,
                checkpoint_root(spec),
                checkpoint_relative(spec),
                deletes=True,
            )
        self._keeper = Keeper([self._mirror] if self._mirror else [], interval_seconds)

    @property
    def last_problem(self) -> str:
        """Why the last copy failed, empty when it did not."""
        return self._keeper.last_problem

    def restore(self, progress: Callable[[int], None] | None = None) -> int:
        """Bring down what earlier runs left; return the bytes. Raise ClientFault."""
        if self._mirror is None:
            return 0
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            items = self._items()
            check_for_clashes(items, "the checkpoints")
            for item in items:
                (self._directory / item.path).parent.mkdir(parents=True, exist_ok=True)
            moved = run_all([self._task(item) for item in items], progress)
        except (S3Error, OSError) as problem:
            raise blame(DOWNLOAD, problem) from problem
        self._mirror.adopt()
        return moved

    def start(self) -> None:
        self._keeper.start()

    def finish(self) -> None:
        """Copy what is left; raise ClientFault where S3 refuses it."""
        try:
            self._keeper.finish()
        except (S3Error, OSError) as problem:
            raise blame(UPLOAD, problem) from problem

    def _items(self) -> list[Item]:
        start = joined(self._prefix, "")
        listed = self._s3.objects(self._bucket, start)
        return [
            Item(self._bucket, found.key, checked_path(found.key[len(start) :], start), found.size)
            for found in listed
            if not found.key.endswith("/")
        ]

    def _task(self, item: Item) -> Task:
        def download(count: Count) -> None:
            self._s3.get_file(item.bucket, item.key, self._directory / item.path, count)

        return download

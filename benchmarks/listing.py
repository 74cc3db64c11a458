"""One page of ListModels at 100 and at 100,000 models, through boto3.

python benchmarks/listing.py [--models 100000]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import peers

from clary.store.database import Store
from clary.store.rows import Row

ORDERS = [(by, order) for by in ("CreationTime", "Name") for order in ("Ascending", "Descending")]


def fill(home: str, first: int, last: int) -> None:
    """Straight into the table, as many clients would over a year."""
    store = Store.open(f"sqlite:///{Path(home) / 'clary.db'}")
    prefix = "arn:aws:sagemaker:us-east-1:123456789012:model/"
    for number in range(first, last):
        name = f"model-{number:06d}"
        document = {"ModelName": name, "PrimaryContainer": {"Image": "image"}}
        row = Row("Model", name, prefix + name, "123456789012", "us-east-1", document=document)
        store.rows.insert(row)
    store.close()


def page_seconds(peer: peers.Peer) -> dict[str, float]:
    client = peer.client("sagemaker")
    found: dict[str, float] = {}
    for by, order in ORDERS:
        times: list[float] = []
        for _ in range(30):
            started = time.perf_counter()
            answer = client.list_models(SortBy=by, SortOrder=order, MaxResults=100)
            times.append(time.perf_counter() - started)
            assert len(answer["Models"]) == 100
        found[f"{by}, {order}"] = statistics.median(times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100_000)
    options = parser.parse_args()
    with peers.clary() as peer:
        fill(peer.home, 0, 100)
        few = page_seconds(peer)
        fill(peer.home, 100, options.models)
        many = page_seconds(peer)
    print(f"{'ListModels(100), ms':<32}{'100':>9}{options.models:>9}{'difference':>12}")
    for name, seconds in few.items():
        more = many[name]
        print(f"{name:<32}{seconds * 1e3:>9.2f}{more * 1e3:>9.2f}{(more - seconds) * 1e3:>12.2f}")


if __name__ == "__main__":
    main()

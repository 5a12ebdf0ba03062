"""Bytes that cross between the processes of joblib's backends, and the local clusters that scale.py starts."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
_count = [0]
_clients: list[Any] = []
Count = Callable[[], float]


@contextmanager
def no_traffic() -> Iterator[Count]:
    """Yield a function that returns 0."""
    yield lambda: 0


# Pipes of loky -------------------------------------------------------------------------------------


@contextmanager
def written_bytes() -> Iterator[Count]:
    """Yield a function that returns the bytes which this process and its children have written since."""
    before = _written()
    yield lambda: _written() - before


def _written() -> int:
    import psutil

    process = psutil.Process()
    return sum(one.io_counters().write_chars for one in [process, *process.children(recursive=True)])


# Sockets of dask -----------------------------------------------------------------------------------


def count_sockets() -> None:
    """Count the bytes that this process writes to the sockets of dask from now on."""
    from distributed.comm.tcp import TCP

    if hasattr(TCP.write, "counts"):
        return
    write = TCP.write

    async def counted(self: Any, *args: Any, **kwargs: Any) -> int:
        n_bytes = await write(self, *args, **kwargs)
        _count[0] += n_bytes
        return n_bytes

    counted.counts = True  # type: ignore[attr-defined]
    TCP.write = counted


def counted_bytes() -> int:
    return _count[0]


@contextmanager
def start_dask(n_workers: int) -> Iterator[None]:
    """Start workers of dask whose traffic is counted, with the settings of memory that the guide advises."""
    import dask
    from distributed import Client, LocalCluster

    environment = "distributed.nanny.pre-spawn-environ"
    dask.config.set({f"{environment}.MALLOC_TRIM_THRESHOLD_": 2**27, f"{environment}.MALLOC_MMAP_THRESHOLD_": 2**25})
    count_sockets()
    options = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        client.run(count_sockets)
        _clients.append(client)
        yield
        _clients.clear()


@contextmanager
def socket_bytes() -> Iterator[Count]:
    """Yield a function that returns the bytes that client, scheduler and workers have written since."""
    before = _socket_bytes()
    yield lambda: _socket_bytes() - before


def _socket_bytes() -> int:
    return counted_bytes() + sum(_clients[0].run(counted_bytes).values())


# Objects of ray ------------------------------------------------------------------------------------


@contextmanager
def start_ray(n_workers: int) -> Iterator[None]:
    """Start workers of ray."""
    import ray
    from ray.util.joblib import register_ray

    ray.init("local", num_cpus=n_workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    register_ray()
    yield
    ray.shutdown()


@contextmanager
def serialised_bytes() -> Iterator[Count]:
    """Yield a function that returns the bytes which this process has serialised for ray, and received, since."""
    from ray._private.serialization import SerializationContext

    serialise, deserialise = SerializationContext.serialize, SerializationContext.deserialize_objects
    total = [0]

    def counted(self: Any, value: Any) -> Any:
        result = serialise(self, value)
        total[0] += result.total_bytes
        return result

    def received(self: Any, *args: Any, **kwargs: Any) -> Any:
        values = deserialise(self, *args, **kwargs)
        total[0] += len(pickle.dumps(values))
        return values

    SerializationContext.serialize, SerializationContext.deserialize_objects = counted, received
    try:
        yield partial(sum, total)
    finally:
        SerializationContext.serialize, SerializationContext.deserialize_objects = serialise, deserialise


TRAFFIC = {"one process": no_traffic, "loky": written_bytes, "dask": socket_bytes, "ray": serialised_bytes}

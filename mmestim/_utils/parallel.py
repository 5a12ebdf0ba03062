"""Tasks for the workers of joblib's active backend, with constant arguments that each worker receives once."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from joblib.externals.loky.backend.reduction import dumps
from joblib.parallel import get_active_backend

T = TypeVar("T")
# Tasks per worker in a chunk, for backends that return results in lists only.
_TASKS_PER_WORKER = 4
_lock = threading.Lock()
# The constant arguments of the latest tasks, by digest.
_decoded: dict[str, list[Any]] = {}


def run_tasks(
    function: Callable[..., T],
    tasks: Iterable[Sequence[Any]],
    n_jobs: int | None,
    *,
    shared: Sequence[Any] = (),
    prefer: Literal["threads", "processes"] | None = None,
    chunk_size: int | None = None,
) -> Iterator[T]:
    """Call a function for each task in joblib's active backend, and yield the results in order.

    Parameters
    ----------
    function : callable
        Function of a module, called as ``function(*shared, *task)``.
    tasks : iterable of sequence
        Positional arguments of each call, which are taken when a worker is about to be free.
    n_jobs : int or None
        Number of workers, as in joblib. With 1, everything runs here.
    shared : sequence, default=()
        Arguments that all calls have in common. Other processes receive them once, and not with each task; those of
        loky and multiprocessing get less than 1 MB with each batch of tasks.
    prefer : {'threads', 'processes'}, default=None
        Kind of workers, if the user has not chosen a backend.
    chunk_size : int, default=None
        Number of tasks whose results are ready before the first of them is yielded, which bounds the memory. `None`
        yields each result at once if the backend can, and otherwise takes a few tasks per worker.

    Yields
    ------
    result : object
        Result of each task.
    """
    n_workers = effective_n_jobs(n_jobs)
    if n_workers == 1:
        yield from (function(*shared, *task) for task in tasks)
        return
    backend, _ = get_active_backend(prefer=prefer)
    if getattr(backend, "supports_sharedmem", False):
        calls = (delayed(function)(*shared, *task) for task in tasks)
    else:
        header, parcels = _pack(shared, backend)
        calls = (delayed(_call)(function, header, *parcels, *task) for task in tasks)
    if chunk_size is None and backend.supports_return_generator:
        results = Parallel(n_workers, prefer=prefer, return_as="generator")(calls)
        try:
            for result in results:  # noqa: UP028  # "yield from" would close it outside of the filter.
                yield result
        finally:
            with warnings.catch_warnings():  # A caller that takes only some results wants no others.
                warnings.filterwarnings("ignore", ".*tasks", UserWarning)
                results.close()
        return
    with Parallel(n_workers, prefer=prefer) as parallel:
        while chunk := list(itertools.islice(calls, chunk_size or _TASKS_PER_WORKER * n_workers)):
            yield from parallel(chunk)


def has_local_workers() -> bool:
    """Return whether the workers of the active backend are on this machine, where they see its files."""
    return type(get_active_backend()[0]).__module__.startswith("joblib._parallel_backends")


def local_workers() -> AbstractContextManager[Any]:
    """Return a context in which tasks run on this machine, whatever backend is active."""
    return nullcontext() if has_local_workers() else parallel_config("loky")


Header = tuple[str, tuple[int, ...]]


def _pack(shared: Sequence[Any], backend: Any) -> tuple[Header, list[Any]]:
    """Return what identifies the constant arguments, and what the backend hands to each worker once."""
    positions = tuple(index for index, value in enumerate(shared) if isinstance(value, np.ndarray))
    others = [value for index, value in enumerate(shared) if index not in positions]
    # loky and multiprocessing map large arrays into the memory of all workers, so that an array is the best parcel.
    content = np.frombuffer(dumps(others), np.uint8)
    parcels = [content, *(shared[index] for index in positions)]
    return (hashlib.blake2b(content.data, digest_size=16).hexdigest(), positions), [
        _hand_over(p, backend) for p in parcels
    ]


def _hand_over(array: np.ndarray, backend: Any) -> Any:
    """Return what stands for an array in tasks: a future of dask, a reference of ray, or the array."""
    library = type(backend).__module__.partition(".")[0]
    if library == "ray":
        return sys.modules["ray"].put(array)
    if client := getattr(backend, "client", None):  # dask
        # hash=False: hashed keys can be cancelled if several workers scatter the same content.
        return client.scatter(array, broadcast=True, hash=False)
    return array


def _call(function: Callable[..., T], header: Header, content: Any, *arguments: Any) -> T:
    """Call a function in a worker, after its constant arguments are put together."""
    digest, positions = header
    shared = list(_unpack(digest, content))
    for position, array in zip(positions, arguments, strict=False):
        shared.insert(position, _fetch(array))
    return function(*shared, *arguments[len(positions) :])


def _unpack(digest: str, content: Any) -> list[Any]:
    """Return the constant arguments, which a process unpickles once."""
    with _lock:
        if digest not in _decoded:
            _ignore_interrupts()
            _decoded.clear()
            _decoded[digest] = pickle.loads(_fetch(content))
        return _decoded[digest]


def _fetch(value: Any) -> Any:
    """Return the array behind a reference of ray; dask has replaced its futures."""
    ray = sys.modules.get("ray")
    return ray.get(value) if ray is not None and isinstance(value, ray.ObjectRef) else value


def _ignore_interrupts() -> None:
    """Ignore interrupts in a child process, since its parent ends it; its traceback would only be noise."""
    if multiprocessing.parent_process() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

"""The arithmetic of a fit: threads and kernels of linear algebra, which decide its last digits beside rows and seed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from joblib import cpu_count
from threadpoolctl import threadpool_info

POOLS = ("openmp", "blas")
"""The pools of threads, as threadpoolctl names them."""
ARITHMETIC = ("openmp_threads", "blas_threads", "blas_kernels")
"""The names that :func:`arithmetic_in_use` gives."""


def arithmetic_in_use() -> dict[str, str]:
    """Return the most threads that a fit takes here, and the processor whose kernels BLAS has chosen.

    A pool that is not loaded counts with what it would take, so that it does not matter what else a process has done.
    """
    declared = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    most = dict.fromkeys(POOLS, int(declared) if declared.isdecimal() else cpu_count())
    loaded: dict[str, list[int]] = {name: [] for name in POOLS}
    pools = threadpool_info()
    for pool in pools:
        loaded[pool["user_api"]].append(pool["num_threads"])
    most |= {name: max(counts) for name, counts in loaded.items() if counts}
    if not declared:  # scikit-learn takes no more threads than cores unless it is told to
        most["openmp"] = min(most["openmp"], cpu_count())
    kernels = sorted({str(pool["architecture"]) for pool in pools if pool.get("architecture")})
    return dict(zip(ARITHMETIC, (*(str(most[name]) for name in POOLS), ", ".join(kernels)), strict=True))


def recorded_threads(environment: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the threads of each pool that an environment names; None if it names none, as one of before does.

    >>> recorded_threads({"python": "3.11.7", "openmp_threads": "4"})
    {'openmp': 4}
    """
    threads = {name: int(environment[f"{name}_threads"]) for name in POOLS if f"{name}_threads" in environment}
    return threads or None

"""A row of ``build/bench.json``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure beside its peer's. ``ratio`` is ours / peer; ``reached`` tells whether the bar holds."""

    name: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    ratio: float
    bar: str
    reached: bool

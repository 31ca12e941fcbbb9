"""The names of the policies that a replay compares, as people write them; nothing heavy is imported here."""

from __future__ import annotations

import re

from airflow_mlops.core.errors import DeclarationError

POLICIES = "declared,never,nightly,clock:4,alarm,regret:0.1"
"""The policies that are compared where nobody names any."""
KNOWN = "declared, never, nightly, clock:N, alarm, alarm:K/N and regret:COST"
FORM = re.compile(r"declared|never|nightly|clock:[1-9]\d{0,3}|alarm(:[1-9]\d?(/[1-9]\d?)?)?|regret:\d*\.?\d+(e-?\d+)?")
MOST = 12
"""Policies of one replay."""


def policy_names(text: str) -> tuple[str, ...]:
    """Return the names of a list with commas between, each once.

    Raises
    ------
    DeclarationError
        If a name is none of a policy, none is named, or more than ``MOST``.

    >>> policy_names("declared, clock:4,,clock:4")
    ('declared', 'clock:4')
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if not FORM.fullmatch(name):
            raise DeclarationError(f"no policy {name!r}; there are {KNOWN}")
    if not 0 < len(names) <= MOST:
        raise DeclarationError(f"a replay compares 1 to {MOST} policies, and {len(names)} are named; there are {KNOWN}")
    return names

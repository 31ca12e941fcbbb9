"""The names of candidates that are fitted on several windows: ``boosting@4`` and ``boosting@all``.

A name of the user's has no ``@``, so the two never collide.
"""

from __future__ import annotations

SEPARATOR = "@"


def windowed_name(estimator: str, window: str) -> str:
    """Return the name of one of the user's candidates on one of the declared windows.

    >>> windowed_name("boosting", "4")
    'boosting@4'
    """
    return f"{estimator}{SEPARATOR}{window}"


def estimator_of(candidate: str) -> str:
    """Return the name that the user's function gives a candidate.

    >>> estimator_of("boosting@4"), estimator_of("boosting")
    ('boosting', 'boosting')
    """
    return candidate.partition(SEPARATOR)[0]


def window_of(candidate: str) -> str | None:
    """Return the window in a candidate's name; None where one window is declared, which no name has.

    >>> window_of("boosting@4"), window_of("boosting")
    ('4', None)
    """
    return candidate.partition(SEPARATOR)[2] or None


def describe_window(window: str) -> str:
    """Return a window in words.

    >>> describe_window("4"), describe_window("1"), describe_window("all")
    ('4 partitions', '1 partition', 'all partitions')
    """
    return "1 partition" if window == "1" else f"{window} partitions"

"""Rows of a made-up bakery, for a project that runs before it has data of its own."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

LABEL = "sold"
FIRST = datetime.fromisoformat("2025-01-05")
WEEKS = 12
ROWS = 60
SHOPS = ("harbour", "market", "station")


def example_csv() -> str:
    """Return twelve weeks of sales as CSV, 60 rows of a week, the same every time."""
    random = np.random.default_rng(0)
    lines = ["sale_id,sold_at,shop,price,rain_mm,sold\n"]
    for number in range(WEEKS * ROWS):
        at = FIRST + timedelta(weeks=number // ROWS, hours=8 + 2.5 * (number % ROWS))
        shop, price, rain = number % len(SHOPS), random.uniform(1, 6), random.gamma(1.0, 2.0)
        sold = 80 - 8 * price - 2 * rain + 6 * shop + random.normal(scale=3)
        lines.append(f"{number + 1},{at:%Y-%m-%d %H:%M:%S},{SHOPS[shop]},{price:.2f},{rain:.1f},{sold:.1f}\n")
    return "".join(lines)

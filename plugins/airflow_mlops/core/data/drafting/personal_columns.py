"""Guess which columns are personal, from their names and the form of their values.

A person confirms or deletes each guess, so false alarms are preferred to misses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LIKELY_SHARE = 0.8
"""Share of the values that must have a form for the column to count as having it."""

NAME_PATTERNS: tuple[tuple[str, str, str], ...] = (
    ("personal", "an e-mail address", r"e?_?mail(_.*)?"),
    ("personal", "a telephone number", r"(.*_)?(phone|mobile|telephone|fax|msisdn)(_.*)?"),
    ("personal", "a bank account", r"(.*_)?(iban|bic|bank_account|account_number|card_number|credit_card|pan)(_.*)?"),
    ("personal", "a name", r"(user|sur|last|first|given|family|middle|maiden|full|nick|birth)_?names?"),
    ("personal", "a name", r"names?|(customer|client|passenger|patient|employee|contact|person|holder|guest)_names?"),
    ("personal", "a date of birth", r"(.*_)?(birth_?(date|day|year)?|date_of_birth|dob)"),
    ("personal", "an official number", r"(.*_)?(ssn|social_security(_.*)?|passport(_.*)?|tax_id|national_id|nino)"),
    ("personal", "an address", r"(.*_)?(address|street(_.*)?|postcode|post_code|postal_code|zip|zip_code|zipcode)"),
    ("personal", "an address of a device", r"(.*_)?(ip|ip_address|mac_address|imei|device_id)"),
    ("sensitive", "something about a person", r"(.*_)?(gender|sex|religion|ethnicity|race|nationality|disability)"),
    ("sensitive", "something about a person", r"(.*_)?(diagnosis|disease|salary|income|party_membership)"),
)

VALUE_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("e-mail addresses", re.compile(r"[^@\s]{1,64}@[^@\s]+\.[A-Za-z]{2,}")),
    ("bank accounts", re.compile(r"[A-Z]{2}\d{2}( ?[A-Z0-9]{4}){2,7}( ?[A-Z0-9]{1,4})?")),
    (
        "telephone numbers",
        re.compile(r"\+\d[\d ()/.-]{6,18}\d|\(?0\d{1,5}[)/ -][\d /-]{4,14}\d|\(\d{3}\) ?\d{3}-\d{4}"),
    ),
    ("addresses of devices", re.compile(r"(\d{1,3}\.){3}\d{1,3}|([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")),
    ("official numbers", re.compile(r"\d{3}-\d{2}-\d{4}")),
)


def guess_privacy(name: str, texts: Sequence[str]) -> tuple[str, str] | None:
    """Return ``personal`` or ``sensitive`` with the reason for the guess; None for any other column.

    >>> guess_privacy("contactEmail", [])
    ('personal', 'its name says an e-mail address')
    >>> guess_privacy("carrier_name", ["United Air Lines"]) is None
    True
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).strip("_").lower()
    for kind, pattern in VALUE_PATTERNS:
        matches = sum(bool(pattern.fullmatch(text.strip())) for text in texts)
        if texts and matches >= LIKELY_SHARE * len(texts) and (kind != "bank accounts" or are_bank_accounts(texts)):
            return "personal", f"its values look like {kind}"
    for privacy, kind, expression in NAME_PATTERNS:
        if re.fullmatch(expression, words) or (
            re.fullmatch(rf".*_({expression})", words) and kind == "an e-mail address"
        ):
            return privacy, f"its name says {kind}"
    return None


def are_bank_accounts(texts: Sequence[str]) -> bool:
    """Return whether most texts are account numbers by their check digits (ISO 13616, modulo 97)."""
    valid = 0
    for text in texts:
        plain = text.replace(" ", "")
        if re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{8,30}", plain):
            digits = "".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])
            valid += int(digits) % 97 == 1
    return valid >= LIKELY_SHARE * len(texts)

"""Which columns look personal: by what they are called, and by what their values look like.

A guess for a person to confirm or strike out. It errs on the side of asking.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LIKELY = 0.8
"""Share of the values that must have a shape before the column is said to hold it."""

NAMED: tuple[tuple[str, str, str], ...] = (
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

SHAPED: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("e-mail addresses", re.compile(r"[^@\s]{1,64}@[^@\s]+\.[A-Za-z]{2,}")),
    ("bank accounts", re.compile(r"[A-Z]{2}\d{2}( ?[A-Z0-9]{4}){2,7}( ?[A-Z0-9]{1,4})?")),
    (
        "telephone numbers",
        re.compile(r"\+\d[\d ()/.-]{6,18}\d|\(?0\d{1,5}[)/ -][\d /-]{4,14}\d|\(\d{3}\) ?\d{3}-\d{4}"),
    ),
    ("addresses of devices", re.compile(r"(\d{1,3}\.){3}\d{1,3}|([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")),
    ("official numbers", re.compile(r"\d{3}-\d{2}-\d{4}")),
)


def looks_personal(name: str, texts: Sequence[str]) -> tuple[str, str] | None:
    """Return ``personal`` or ``sensitive`` and why a column looks so; None where it does not.

    >>> looks_personal("contactEmail", [])
    ('personal', 'its name says an e-mail address')
    >>> looks_personal("carrier_name", ["United Air Lines"]) is None
    True
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).strip("_").lower()
    for what, pattern in SHAPED:
        fitting = sum(bool(pattern.fullmatch(text.strip())) for text in texts)
        if texts and fitting >= LIKELY * len(texts) and (what != "bank accounts" or accounts(texts)):
            return "personal", f"its values look like {what}"
    for privacy, what, expression in NAMED:
        if re.fullmatch(expression, words) or (
            re.fullmatch(rf".*_({expression})", words) and what == "an e-mail address"
        ):
            return privacy, f"its name says {what}"
    return None


def accounts(texts: Sequence[str]) -> bool:
    """Return whether most texts are account numbers by their check digits (ISO 13616, modulo 97)."""
    right = 0
    for text in texts:
        plain = text.replace(" ", "")
        if re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{8,30}", plain):
            digits = "".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])
            right += int(digits) % 97 == 1
    return right >= LIKELY * len(texts)

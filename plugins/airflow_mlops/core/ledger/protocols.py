"""What the loop needs to remember: an append-only ledger, and a store of evidence."""

from __future__ import annotations

from typing import Any, Protocol

from airflow_mlops.core.ledger.record import Draft, Record


class Ledger(Protocol):
    """The records of one model, in order."""

    model: str

    def records(self) -> list[Record]:
        """Return all records, oldest first."""

    def append(self, draft: Draft, *, read: int) -> Record:
        """Append ``draft`` as number ``read + 1``, ``read`` being the last number its writer has seen.

        An operation already recorded is returned as it stands, whatever ``read`` says.

        Raises
        ------
        StaleLedgerError
            If another record was appended since: read again and decide again.
        """


class EvidenceStore(Protocol):
    """JSON documents named by the SHA-256 of their content."""

    def put(self, document: Any) -> str:
        """Store ``document`` and return its digest; the same document again is the same digest."""

    def get(self, digest: str) -> Any:
        """Return the document of ``digest``.

        Raises
        ------
        LedgerError
            If it is missing, or its content is not that of its name.
        """

    def location(self, digest: str) -> str:
        """Return where a person finds the document of ``digest``: a path or an address."""

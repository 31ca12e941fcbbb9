"""The protocols of persistence: an append-only ledger, and a store of evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload

from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.state import LoopState

D = TypeVar("D", bound=Details)


@dataclass(frozen=True)
class Head:
    """The last record of a ledger: its number, 0 if the ledger is empty, and its hash."""

    sequence: int
    hash: str


class Ledger(Protocol):
    """The records of one model, in order, and the state that they fold to."""

    model: str

    @overload
    def records(
        self, kind: type[D], /, *, partition: str | None = None, after: int = 0, newest_first: bool = False
    ) -> Iterator[Record[D]]: ...

    @overload
    def records(
        self, *kinds: type[Details], partition: str | None = None, after: int = 0, newest_first: bool = False
    ) -> Iterator[Record[Any]]: ...

    def records(
        self, *kinds: type[Details], partition: str | None = None, after: int = 0, newest_first: bool = False
    ) -> Iterator[Record[Any]]:
        """Yield records, oldest first, a page at a time.

        Parameters
        ----------
        kinds : dataclass of Details
            Kinds of records; all by default.
        partition : str, optional
            Partition that they are about.
        after : int
            Number of the record from which on, without it.
        newest_first : bool
            Whether the newest come first.
        """

    def record(self, sequence: int) -> Record[Any] | None:
        """Return the record of a number; None where there is none."""

    def recorded(self, operation: str) -> Record[Any] | None:
        """Return the record of an operation; None where it was not recorded."""

    def head(self) -> Head:
        """Return the number and the hash of the last record; nothing else is read."""

    def state(self, *, as_of: str | None = None, before: str | None = None) -> LoopState:
        """Return the :func:`~airflow_mlops.core.ledger.fold.fold` of the records, without reading all of them.

        Parameters
        ----------
        as_of, before : str, optional
            Count only what was recorded for partitions at or before ``as_of``, or strictly before ``before``.
        """

    def append(self, draft: Draft[D], *, read: int) -> Record[D]:
        """Append ``draft`` as number ``read + 1``, ``read`` being the last number its writer has seen.

        An operation already recorded is returned as it stands, whatever ``read`` says.

        Raises
        ------
        StaleLedgerError
            If another record was appended since: read again and decide again.
        """

    def take_lease(self, name: str, holder: str, *, seconds: float) -> bool:
        """Return whether ``holder`` alone may do something for so long; False while somebody else may.

        A lease is no part of the state, and nothing in the loop is decided by it.
        """

    def end_lease(self, name: str, holder: str) -> None:
        """End a lease; nothing happens where ``holder`` has it no longer."""


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
        """Return the path or address of the document of ``digest``, for a person."""

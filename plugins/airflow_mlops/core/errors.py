"""Every error the package raises on purpose.

    MlopsError
    |-- DeclarationError          the declaration of a loop is wrong; names file, line, key and value
    |-- NotReadyError             nothing to do yet: the run skips and a later one tries again
    |-- DataError                 what arrived cannot become a partition
    |   |-- SourceMissingError    not there yet; is a NotReadyError too
    |   |-- SourceUnreadableError there, but truncated, corrupt or in another format
    |   `-- PartitionRefusedError readable, but it must not reach a model
    |-- SourceUnreachableError    the place of the data does not answer; trying again may help
    |-- ProfileMismatchError      profiles that were counted on other bins, or of other columns
    |-- TrainingError             the user's function, or a fit, did not give a usable model
    |-- FitStoppedError           a fit was stopped from outside; trying again fits anew
    |-- GateError                 a candidate was judged and did not pass
    |-- RegistryError             the registry holds something else than the ledger says
    |-- RolloutError              a rollout cannot go on as asked
    |   `-- RolledBackError       the challenger was taken back; says why
    |-- PolicyError               a version lacks what the policy asks of its tier before it may serve
    |-- ReproductionError         a version cannot be made again; says what has changed
    `-- LedgerError
        |-- StaleLedgerError      another decision was recorded first; read again and decide again
        `-- LedgerCorruptError    the hash chain does not hold

``retryable`` says whether the same attempt may succeed later without anybody changing anything.
"""

from __future__ import annotations


class MlopsError(Exception):
    """Base of every error raised on purpose."""

    retryable = False


class DeclarationError(MlopsError):
    """The declaration of a loop is wrong.

    Parameters
    ----------
    message : str
        What is wrong, in one sentence.
    file, line, key : optional
        Where: the file, the line counted from 1, and the dotted path of the key.
    """

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        self.message, self.file, self.line, self.key = message, file, line, key
        where = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (where, key, message) if part))


class NotReadyError(MlopsError):
    """There is nothing to do yet, and that is no failure."""


class DataError(MlopsError):
    """What arrived cannot become a partition."""


class SourceMissingError(DataError, NotReadyError):
    """The source has nothing for this partition yet."""


class SourceUnreadableError(DataError):
    """The source has something for this partition that cannot be read."""


class PartitionRefusedError(DataError):
    """A partition was read and must not reach a model."""


class SourceUnreachableError(MlopsError):
    """The place where rows come from does not answer; that says nothing about the rows."""

    retryable = True


class ProfileMismatchError(MlopsError):
    """Two profiles cannot be added or compared: their bins or their columns differ."""


class TrainingError(MlopsError):
    """No usable model came out of training."""


class FitStoppedError(MlopsError):
    """A fit was stopped from outside, and that says nothing about the model."""

    retryable = True


class GateError(MlopsError):
    """A candidate did not pass its gates."""


class RegistryError(MlopsError):
    """The registry holds something else than the ledger says."""


class RolloutError(MlopsError):
    """A rollout cannot go on as asked."""


class RolledBackError(RolloutError):
    """The challenger was taken back."""


class PolicyError(MlopsError):
    """A version lacks what the policy asks of its tier."""


class ReproductionError(MlopsError):
    """A version cannot be made again from what is stored about it."""


class LedgerError(MlopsError):
    """The ledger cannot be read or written."""


class StaleLedgerError(LedgerError):
    """Another decision was recorded between reading and writing."""

    retryable = True


class LedgerCorruptError(LedgerError):
    """A record does not match its hash, or the chain is broken."""

"""Every error the package raises on purpose.

    MlopsError
    |-- DeclarationError          the declaration of a loop is wrong; names file, line, key and value
    |-- NotReadyError             nothing to do yet: the run skips and a later run tries again
    |-- DataError                 the rows of a partition are missing, unreadable or refused
    |   |-- SourceMissingError    not there yet; is a NotReadyError too
    |   |-- SourceUnreadableError there, but truncated, corrupt or in another format
    |   `-- PartitionRefusedError readable, but it must not reach a model
    |-- SourceUnreachableError    the source does not answer; a retry may help
    |-- LakeUnavailableError      the lake does not answer; a retry may help
    |-- EngineError               the executors cannot do the work as they are set up
    |   `-- EngineLostError       the cluster does not answer, or was lost in the middle; a retry may help
    |-- ProfileMismatchError      two profiles have different bins or columns
    |-- TrainingError             the user's function, or a fit, gave no usable model
    |-- FitStoppedError           a fit was stopped from outside; a retry fits again
    |-- FitPlaceError             the place of a fit has failed, not the fit; a retry fits in another job
    |-- GateError                 a candidate failed its gates
    |-- RegistryError             registry and ledger disagree
    |-- RolloutError              a rollout cannot go on as requested
    |   `-- RolledBackError       the challenger was rolled back; says why
    |-- PolicyError               a version does not meet the policy of its tier
    |-- ReproductionError         a version cannot be reproduced; says what has changed
    |-- NotSentError              a receiver has not taken a message; a later task sends it again
    `-- LedgerError
        |-- LedgerUnavailableError  the database is locked, full or away; a retry may help
        |-- StaleLedgerError      another decision was recorded first; read again and decide again
        `-- LedgerCorruptError    the hash chain does not hold

``retryable`` is true where the same attempt may succeed later although nobody changes anything.
"""

from __future__ import annotations

LONGEST_KEY = 200
"""Characters of a key that an error shows: a file may hold one of any length."""


class MlopsError(Exception):
    """Base of every error raised on purpose."""

    retryable = False


class DeclarationError(MlopsError):
    """The declaration of a loop is wrong.

    Parameters
    ----------
    message : str
        The fault, in one sentence.
    file, line, key : optional
        Its place: the file, the line counted from 1, and the dotted path of the key.
    """

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        self.message, self.file, self.line, self.key = message, file, line, key
        where = ":".join(str(part) for part in (file, line) if part is not None)
        place = None if key is None else key if len(key) <= LONGEST_KEY else f"{key[:LONGEST_KEY]}..."
        super().__init__(": ".join(part for part in (where, place, message) if part))


class NotReadyError(MlopsError):
    """There is nothing to do yet; this is not a failure."""


class DataError(MlopsError):
    """The rows of a partition are missing, unreadable or refused."""


class SourceMissingError(DataError, NotReadyError):
    """The source has nothing for this partition yet."""


class SourceUnreadableError(DataError):
    """The source has a file or an answer for this partition that cannot be read."""


class PartitionRefusedError(DataError):
    """A partition was read, and it must not reach a model."""


class SourceUnreachableError(MlopsError):
    """The source does not answer; nothing is known about its rows."""

    retryable = True


class LakeUnavailableError(MlopsError):
    """The lake does not answer, or does not show yet what was written to it; nothing is known about the rows."""

    retryable = True


class EngineError(MlopsError):
    """The executors that rows are spread over cannot do the work as they are set up; nothing was published."""


class EngineLostError(EngineError):
    """The cluster does not answer, or was lost in the middle of the work; nothing was published."""

    retryable = True


class ProfileMismatchError(MlopsError):
    """Two profiles cannot be added or compared: their bins or their columns differ."""


class TrainingError(MlopsError):
    """No usable model came out of training."""


class FitStoppedError(MlopsError):
    """A fit was stopped from outside; nothing is known about the model."""

    retryable = True


class FitPlaceError(MlopsError):
    """The place of a fit has failed, for want of machines or by a fault of its own: nothing is known of the model."""

    retryable = True


class TransformError(TrainingError):
    """A job that predicts rows elsewhere has failed, was stopped, or gave no whole predictions; none was recorded."""


class TransformPlaceError(MlopsError):
    """The place of such a job has failed, for want of machines or by a fault of its own: a retry starts another."""

    retryable = True


class TransformUnderWayError(MlopsError):
    """Jobs that predict rows elsewhere have not ended, and their runner was told not to wait.

    Parameters
    ----------
    jobs : tuple of str
        The names of all jobs that were started or adopted for the rows.
    """

    def __init__(self, jobs: tuple[str, ...]) -> None:
        super().__init__(f"jobs {', '.join(jobs)} have not all ended")
        self.jobs = jobs


class FitUnderWayError(MlopsError):
    """A fit elsewhere has not ended, and its runner was told not to wait.

    Parameters
    ----------
    job : str
        The name of the job.
    first : int
        The number of the first job that this task has waited for.
    """

    def __init__(self, job: str, first: int) -> None:
        super().__init__(f"job {job} has not ended")
        self.job, self.first = job, first


class GateError(MlopsError):
    """A candidate failed its gates."""


class RegistryError(MlopsError):
    """Registry and ledger disagree."""


class RolloutError(MlopsError):
    """A rollout cannot go on as requested."""


class RolledBackError(RolloutError):
    """The challenger was rolled back."""


class PolicyError(MlopsError):
    """A version does not meet the policy of its tier."""


class ReproductionError(MlopsError):
    """A version cannot be reproduced from its stored evidence."""


class NotSentError(MlopsError):
    """A receiver has not taken a message, which stays unsent; no task fails by it."""

    retryable = True


class LedgerError(MlopsError):
    """The ledger cannot be read or written."""


class LedgerUnavailableError(LedgerError):
    """The database of the ledger is locked, full or away; nothing was recorded, or the retry finds what was."""

    retryable = True


class StaleLedgerError(LedgerError):
    """Another decision was recorded between reading and writing."""

    retryable = True


class LedgerCorruptError(LedgerError):
    """A record does not match its hash, or the chain is broken."""

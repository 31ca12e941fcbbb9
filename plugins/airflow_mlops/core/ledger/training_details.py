"""Records about a training: its decision, start and end, and the version that it made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_mlops.core.ledger.details import Details


@dataclass(frozen=True)
class PinnedPartition:
    """A partition in one version of the snapshots.

    ``labels`` is the pin of its labels, where they come from a source of their own; see
    :class:`~airflow_mlops.core.data.labels.labels_of.LabelPin`.
    """

    partition: str
    version: int
    digest: str
    labels: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the pin as JSON values, without ``labels`` where there are none."""
        pin: dict[str, Any] = {"partition": self.partition, "version": self.version, "digest": self.digest}
        return pin if self.labels is None else {**pin, "labels": self.labels}


@dataclass(frozen=True)
class TrainingWindow:
    """The partitions a model is fitted on, and the newer ones it is evaluated on."""

    fitted: tuple[PinnedPartition, ...] = ()
    holdout: tuple[PinnedPartition, ...] = ()

    @property
    def pins(self) -> tuple[PinnedPartition, ...]:
        """All partitions, the fitted ones first."""
        return (*self.fitted, *self.holdout)

    def newest(self, length: int) -> TrainingWindow:
        """Return the window of the newest ``length`` fitted partitions before the same holdout."""
        return TrainingWindow(self.fitted[-length:], self.holdout)

    def to_dict(self) -> dict[str, Any]:
        """Return the window as JSON values."""
        return {name: [pin.to_dict() for pin in pins] for name, pins in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingWindow:
        """Return the window that ``to_dict`` wrote."""
        return cls(*(tuple(PinnedPartition(**pin) for pin in values[part]) for part in ("fitted", "holdout")))


@dataclass(frozen=True, kw_only=True)
class RetrainDecided(Details):
    """A decision to retrain or not. ``cause`` is a word, ``reason`` a sentence, ``numbers`` the figures behind them.

    ``declared`` is the section ``retrain`` of the declaration that decided: policy, cooldown, budget.
    """

    KIND: ClassVar[str] = "retrain_decided"
    SUMMARY: ClassVar[str] = "Yes or no, the cause in a word, the reason in a sentence, and the numbers behind it."

    retrain: bool
    cause: str = ""
    reason: str = ""
    trigger: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    declared: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingStarted(Details):
    """A decision to retrain was picked up; ``request`` is the digest of everything the training depends on."""

    KIND: ClassVar[str] = "training_started"
    SUMMARY: ClassVar[str] = "A decision to retrain was picked up, with its window pinned to versions and digests."

    decision: int
    request: str = ""
    window: TrainingWindow = TrainingWindow()


@dataclass(frozen=True, kw_only=True)
class TrainingFailed(Details):
    """A decision ended without a usable model."""

    KIND: ClassVar[str] = "training_failed"
    SUMMARY: ClassVar[str] = "A decision ended without a usable model, and why."

    decision: int
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class CandidateRefused(Details):
    """A decision ended with a candidate that did not pass its gates; ``report`` is the evaluation's digest.

    ``left_out`` has the reasons why other candidates of the training were not judged, by their names, and
    ``training_seconds`` is the wall time of the fits of all of them. ``loss_change`` is the candidate's loss less the
    champion's on the same rows, as a share of that; None where they were not compared. ``setup`` is the digest of the
    declaration and the code that made it. Where several windows are declared, ``by_window`` has the same change of the
    best candidate of each, by the name of the window.
    """

    KIND: ClassVar[str] = "candidate_refused"
    SUMMARY: ClassVar[str] = "A decision ended with a candidate that did not pass its gates, with their numbers."

    decision: int
    reason: str = ""
    report: str | None = None
    left_out: dict[str, str] | None = None
    training_seconds: float | None = None
    loss_change: float | None = None
    setup: str | None = None
    by_window: dict[str, float] | None = None


@dataclass(frozen=True)
class Signature:
    """The signature of a version: the digest of its file, and the fingerprint of the key that signed it."""

    digest: str
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """The origin of a version that was fitted in another environment.

    ``environment`` is its name there, ``version`` the number there, ``archive`` the digest of the manifest it came
    with and ``key`` the fingerprint of the key that signed that. ``judged`` is whether it was judged on rows of here,
    with the ``reason`` in words. ``report`` is the evaluation there, ``window`` names the partitions of there, and
    ``reproduced`` is the record of its reproduction there, as JSON values; None if there was none.
    """

    environment: str
    version: str
    archive: str
    key: str
    judged: bool
    reason: str = ""
    report: str | None = None
    window: TrainingWindow = TrainingWindow()
    reproduced: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class CandidateRegistered(Details):
    """A candidate became a version of the model.

    ``artefact`` is the digest of its model file, ``report`` of its evaluation, ``profile`` of the window's profile,
    ``installed`` and ``sbom`` of the environment and the bill of materials. ``fit_seconds`` is wall time of its fit,
    ``training_seconds`` of the fits of all candidates, ``rows`` how many it was fitted on, ``champion`` the version it
    was compared with. ``hidden`` are the columns that the contract hid from the fit, None where that was not recorded;
    ``levels`` are those of its categories by column, and ``classes`` those of its label by their codes, None where the
    label is 0 or 1, or a number. ``left_out`` has the reasons why other candidates of the training were not judged, by
    their names. ``own_code`` has the digests of the user's modules that define types of the model, and ``metric_code``
    of those that define the user's metric by which models are compared. ``adopted`` is the origin of a version that
    was fitted in another environment: ``window`` then has no fitted partition, and the one of here that it was judged
    on, if it was. ``earlier_tags`` are its tags in the registry where an attempt without a record gave it
    others than those of this record.
    """

    KIND: ClassVar[str] = "candidate_registered"
    SUMMARY: ClassVar[str] = "A candidate passed its gates and became a version of the model."

    version: str
    decision: int = 0
    request: str = ""
    candidate: str = ""
    artefact: str = ""
    report: str | None = None
    profile: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    champion: str | None = None
    fit_seconds: float = 0.0
    training_seconds: float | None = None
    rows: int = 0
    window: TrainingWindow = TrainingWindow()
    best_params: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    signature: Signature | None = None
    sbom: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    installed: str | None = None
    hidden: tuple[str, ...] | None = None
    levels: dict[str, tuple[str, ...]] | None = None
    classes: tuple[str, ...] | None = None
    left_out: dict[str, str] | None = None
    own_code: dict[str, str] | None = None
    metric_code: dict[str, str] | None = None
    adopted: Adoption | None = None
    earlier_tags: dict[str, str] | None = None

    @property
    def trained_on(self) -> TrainingWindow:
        """The window of the training, wherever it was: an adopted version's partitions are not here."""
        return self.window if self.adopted is None else self.adopted.window


@dataclass(frozen=True, kw_only=True)
class VersionRecalled(Details):
    """A decision ended with an earlier champion, which becomes the candidate again in place of a new version.

    ``report`` is the digest of the evaluation, ``champion`` the version it was compared with, ``tried`` the number of
    earlier champions that predicted the holdout, ``metrics`` its own there. ``training_seconds`` is the wall time of
    the fits that it was better than, and ``left_out`` has the reasons why others were not judged, by their names.
    """

    KIND: ClassVar[str] = "version_recalled"
    SUMMARY: ClassVar[str] = "An earlier champion beat the fits of a training and became the candidate again."

    version: str
    decision: int
    request: str = ""
    report: str | None = None
    champion: str | None = None
    tried: int = 1
    metrics: dict[str, float] = field(default_factory=dict)
    training_seconds: float | None = None
    left_out: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Superseded(Details):
    """A ``decision`` or a candidate ``version`` that something newer, or an equal model, made needless."""

    KIND: ClassVar[str] = "superseded"
    SUMMARY: ClassVar[str] = "A decision or a candidate that something newer, or an equal model, has made needless."

    decision: int | None = None
    version: str | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Reproduced(Details):
    """A version was fitted again; see :class:`~airflow_mlops.core.governance.reproduce_version.Reproduction`."""

    KIND: ClassVar[str] = "reproduced"
    SUMMARY: ClassVar[str] = (
        "A version was fitted again from its stored request: identical, within a tolerance, or different."
    )

    version: str
    verdict: str
    reason: str = ""
    rows: int = 0
    largest_difference: float = 0.0
    same_file: bool = False
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CardWritten(Details):
    """The model card of a version was written; ``missing`` names the sections that have no content."""

    KIND: ClassVar[str] = "card_written"
    SUMMARY: ClassVar[str] = "The model card of a version: its digest, and what it lacks."

    version: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Escalated(Details):
    """A person must look: retraining does not help the ``champion``; ``decision`` is the record that found it."""

    KIND: ClassVar[str] = "escalated"
    SUMMARY: ClassVar[str] = "Something that a person must look at, since the loop alone gets no further; and why."

    champion: str
    decision: int = 0
    reason: str = ""

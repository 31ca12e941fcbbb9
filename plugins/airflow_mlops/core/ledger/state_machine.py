"""The state machine of a loop: the serving version and the work in flight. Its moves are pure functions of one record.

retrain_decided (yes) -> training_started -> candidate_registered | version_recalled -> rollout_started
                                         \\-> training_failed, candidate_refused, superseded
rollout_started -> stage_entered, stage_analysed … -> promoted | rolled_back
promoted -> rolled_back to a champion from before
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.rollout_details import StageAnalysed, StageEntered
from airflow_mlops.core.ledger.training_details import CandidateRegistered, RetrainDecided


def name_of_recalled(number: str) -> str:
    """Return the name of an earlier version among the candidates of a training."""
    return f"version {number}"


@dataclass(frozen=True)
class Recall:
    """The newest recall of a version.

    ``partition`` is the one as of which it became the candidate again, ``decision`` the number of the decision that
    ended so, and ``report`` the digest of its evaluation then.
    """

    partition: str
    decision: int
    report: str | None = None


@dataclass(frozen=True)
class Version:
    """A registered version of the model: its number, its partition, and the details of the record that brought it.

    ``recall`` is how an earlier champion became the candidate again; None of a version that never did.
    """

    number: str
    partition: str
    details: CandidateRegistered
    recall: Recall | None = None

    @property
    def chosen_as_of(self) -> str:
        """The partition as of which a training chose the version: its own, or that of its newest recall."""
        return self.partition if self.recall is None else self.recall.partition

    @property
    def origin(self) -> str:
        """How and as of which partition it became the candidate, in words."""
        return f"{'made' if self.recall is None else 'recalled'} as of {self.chosen_as_of}"

    @property
    def chosen_by(self) -> int:
        """Number of the decision to retrain that ended in the version, or in its newest recall."""
        return self.details.decision if self.recall is None else self.recall.decision

    @property
    def judged_in(self) -> tuple[str | None, str]:
        """The digest of the newest evaluation that chose the version, and its name among the candidates there."""
        if self.recall is None:
            return self.details.report, self.details.candidate
        return self.recall.report, name_of_recalled(self.number)

    @property
    def candidacy(self) -> str:
        """Name of this time as the candidate, unique for the version: its number, and the partition of a recall."""
        return self.number if self.recall is None else f"{self.number}-{self.recall.partition}"

    def to_json(self) -> dict[str, Any]:
        """Return the version as JSON values."""
        recall = {} if self.recall is None else {"recall": vars(self.recall)}
        return {"number": self.number, "partition": self.partition, "details": self.details.to_json(), **recall}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Version:
        """Return the version that ``to_json`` wrote."""
        recall = Recall(**values["recall"]) if "recall" in values else None
        return cls(values["number"], values["partition"], CandidateRegistered.read(values["details"]), recall)


@dataclass(frozen=True)
class OpenRollout:
    """A rollout under way.

    ``record`` is the number of the record that started it. ``stage`` is -1 before the first step was entered, and
    ``entered`` the partition as of which the step was. ``settled`` is True once the step has passed or was skipped,
    ``failed`` holds why it must be rolled back, ``paused`` why it is held. ``looks`` are the step's analyses, oldest
    first, and ``approved`` the steps that a person has let begin.
    """

    version: Version
    record: int
    stage: int = -1
    entered: str = ""
    share: int = 0
    kind: str = "waiting"
    settled: bool = False
    failed: str | None = None
    paused: str | None = None
    looks: tuple[Record[StageAnalysed], ...] = ()
    approved: frozenset[int] = frozenset()

    @property
    def salt(self) -> str:
        """Salt of the sticky split of this rollout's keys; a recalled version is proved on other keys than before."""
        return f"rollout-{self.version.candidacy}"

    def entering(self, record: Record[StageEntered]) -> OpenRollout:
        """Return the rollout once it has entered a step."""
        details = record.details
        return replace(
            self,
            stage=details.stage,
            entered=str(record.partition),
            share=details.share,
            kind=details.kind,
            settled=False,
            looks=(),
        )

    def analysed(self, record: Record[StageAnalysed]) -> OpenRollout:
        """Return the rollout after an analysis; one of another rollout or step changes nothing."""
        details = record.details
        if (details.rollout, details.stage) != (self.record, self.stage):
            return self
        failed = self.failed
        if details.verdict == "fail":
            failed = failed or f"{details.name}: {details.reason}"
        settled = self.settled or details.verdict == "pass"
        return replace(self, looks=(*self.looks, record), settled=settled, failed=failed)

    def to_json(self) -> dict[str, Any]:
        """Return the rollout as JSON values."""
        return {
            **vars(self),
            "version": self.version.to_json(),
            "looks": [look.to_json() for look in self.looks],
            "approved": sorted(self.approved),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> OpenRollout:
        """Return the rollout that ``to_json`` wrote."""
        looks = tuple(Record.from_json(look) for look in values["looks"])
        version, approved = Version.from_json(values["version"]), frozenset(values["approved"])
        return cls(**{**values, "version": version, "looks": looks, "approved": approved})


@dataclass(frozen=True)
class StateMachine:
    """The serving version, and the decision, candidate or rollout in flight.

    ``traffic_record`` is the number of the last record that changes who serves whom, ``last_rollback`` of the last
    rollback; ``training_started`` the partition as of which the open decision was picked up.
    """

    champion: Version | None = None
    promoted_at: str | None = None
    candidate: Version | None = None
    rollout: OpenRollout | None = None
    open_decision: Record[RetrainDecided] | None = None
    training_started: str | None = None
    traffic_record: int = 0
    last_rollback: int = 0
    mask_key: str | None = None

    @property
    def in_flight(self) -> str | None:
        """The reason why a new retrain has to wait; None where nothing is in flight."""
        if self.rollout is not None:
            paused = "" if self.rollout.paused is None else ", paused"
            return f"version {self.rollout.version.number} is being rolled out ({self.rollout.kind}{paused})"
        if self.candidate is not None:
            return f"version {self.candidate.number} waits for its rollout"
        if self.open_decision is not None:
            return f"the retrain of record {self.open_decision.sequence} is under way"
        return None

    def rollout_of(self, version: str) -> OpenRollout | None:
        """Return the open rollout if it is of this version."""
        return self.rollout if self.rollout is not None and self.rollout.version.number == version else None

    def closing(self, *, decision: int | None, version: str | None) -> StateMachine:
        """Return the state after the end of a decision, and of a candidate if one is named."""
        state = self
        if state.open_decision is not None and decision == state.open_decision.sequence:
            state = replace(state, open_decision=None, training_started=None)
        if version is not None and state.candidate is not None and state.candidate.number == version:
            state = replace(state, candidate=None)
        return state

    def rollout_ended(self, version: str, sequence: int) -> StateMachine:
        """Return the state after the end of the rollout or the candidate of a version."""
        rollout = None if self.rollout_of(version) is not None else self.rollout
        waits = self.candidate is not None and self.candidate.number != version
        candidate = self.candidate if waits else None
        return replace(self, rollout=rollout, candidate=candidate, traffic_record=sequence)

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values, without the fields at their defaults."""
        values: dict[str, Any] = {}
        for name, value in vars(self).items():
            if value is not None and value != 0:
                values[name] = value.to_json() if hasattr(value, "to_json") else value
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> StateMachine:
        """Return the state that ``to_json`` wrote."""
        readers: dict[str, Any] = {
            "champion": Version.from_json,
            "candidate": Version.from_json,
            "rollout": OpenRollout.from_json,
            "open_decision": Record.from_json,
        }
        return cls(**{name: readers.get(name, lambda kept: kept)(value) for name, value in values.items()})

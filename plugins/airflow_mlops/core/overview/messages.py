"""Decisions of the ledger as messages to people: what happened, to which model, by which numbers, and where to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.ledger import rollout_details as rollout
from airflow_mlops.core.ledger import training_details as training
from airflow_mlops.core.ledger import watch_details as watch
from airflow_mlops.core.ledger.data_details import PartitionRefused
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.notice_details import ApprovalWanted
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.overview.sentences import ASK, BAD, describe_record, tone_of

KINDS: dict[str, tuple[type[Details], ...]] = {
    "promoted": (rollout.Promoted,),
    "rolled_back": (rollout.RolledBack,),
    "refused": (PartitionRefused, training.CandidateRefused, rollout.Rejected),
    "alarm": (watch.WindowJudged,),
    "retrain": (training.RetrainDecided,),
    "escalated": (training.Escalated,),
    "approval": (ApprovalWanted,),
    "overdue": (watch.WindowJudged,),
}
"""The records that may be of a kind of decision; :func:`kind_of` says which are."""
TITLES = {
    "promoted": "promoted",
    "rolled_back": "rolled back",
    "refused": "refused",
    "alarm": "alarm",
    "retrain": "retrain decided",
    "escalated": "a person must look",
    "approval": "approval wanted",
    "overdue": "overdue",
    "failed": "a task failed",
}
TONES = {"retrain": ASK, "overdue": ASK, "failed": BAD}
"""The tone of a message where the ledger's record has none."""
MEASURED = ("value", "low", "high", "reference", "worse_by", "limit", "rows")
"""Fields of a judgement that are numbers of its own."""


@dataclass(frozen=True)
class Message:
    """A message about one decision.

    Parameters
    ----------
    id : str
        The same for the same decision however often it is sent, and for no other one.
    kind : str
        A key of ``TITLES``.
    title, sentence : str
        What happened in words, and the sentence of the ledger.
    tone : str
        ``bad``, ``good``, ``ask`` or ``plain``.
    numbers : dict of str to float
        The figures behind it, by name.
    decided_by : str
        Task, command or person that decided.
    at : str
        Time of the record, ISO 8601; empty where there is no record.
    link : str
        Address of the Dag run that decided, or of the page of the model; empty where Airflow's is not configured.
    """

    id: str
    kind: str
    title: str
    sentence: str
    tone: str
    model: str
    owner: str
    tier: str
    partition: str | None = None
    version: str | None = None
    numbers: dict[str, float] | None = None
    decided_by: str = ""
    at: str = ""
    link: str = ""

    @property
    def text(self) -> str:
        """The message as one line, without its numbers and its link."""
        of_partition = f" ({self.partition})" if self.partition else ""
        return f"{self.model}: {self.title}{of_partition}: {self.sentence}"

    def to_dict(self) -> dict[str, Any]:
        """Return the message as JSON values, ``text`` among them."""
        return {**asdict(self), "numbers": dict(self.numbers or {}), "text": self.text}


def kind_of(record: Record[Any]) -> str | None:
    """Return the kind of decision that a record is, a key of ``KINDS``; None where nobody has to know it."""
    details = record.details
    if isinstance(details, watch.WindowJudged):
        if not details.alarms or details.historical:
            return None
        return "overdue" if isinstance(details, watch.OverdueJudged) else "alarm"
    if isinstance(details, training.RetrainDecided) and not details.retrain:
        return None
    return next((kind for kind, types in KINDS.items() if isinstance(details, types)), None)


def message_of(record: Record[Any], loop: Loop, *, base_url: str = "") -> Message:
    """Return the message about a record.

    Parameters
    ----------
    record : Record
        A record of which :func:`kind_of` has a kind.
    base_url : str
        Address of Airflow, without a slash at its end; empty for messages without links.

    Raises
    ------
    ValueError
        If nobody has to know the record.
    """
    kind = kind_of(record)
    if kind is None:
        raise ValueError(f"record {record.sequence} ({record.kind}) is no decision to be notified of")
    return Message(
        # The hash tells apart the ledgers of two installations, whose mail or pager may be one.
        id=f"{record.model}:{record.sequence}:{record.hash[:12]}",
        kind=kind,
        title=TITLES[kind],
        sentence=describe_record(record),
        tone=TONES.get(kind) or tone_of(record),
        model=record.model,
        owner=loop.owner,
        tier=loop.tier,
        partition=record.partition,
        version=_version_of(record.details),
        numbers=numbers_of(record.details),
        decided_by=record.actor,
        at=record.recorded_at,
        link=address_of(record.model, record.actor, base_url),
    )


def failure_message(
    loop: Loop, actor: str, error: str, *, attempt: int, partition: str | None, base_url: str = ""
) -> Message:
    """Return the message about a task that failed and is not tried again.

    Parameters
    ----------
    actor : str
        Dag, task and run, with slashes between them.
    error : str
        Why it failed.
    attempt : int
        Number of its last attempt, from 1.
    """
    task = actor.split("/")[1] if "/" in actor else actor
    return Message(
        id=f"{loop.model}:{actor}:{attempt}",
        kind="failed",
        title=TITLES["failed"],
        sentence=f"{task} failed: {error}",
        tone=TONES["failed"],
        model=loop.model,
        owner=loop.owner,
        tier=loop.tier,
        partition=partition,
        decided_by=actor,
        link=address_of(loop.model, actor, base_url),
    )


def late_run_message(loop: Loop, run: Mapping[str, Any], *, base_url: str = "") -> Message:
    """Return the message that a run of a Dag has not ended by its deadline.

    Parameters
    ----------
    run : mapping
        The run as Airflow's API describes it, with ``dag_id``, ``dag_run_id``, ``state``, ``queued_at`` and
        ``partition_key``.
    """
    hint = "no worker takes its task, or its Dag is paused" if run["state"] == "queued" else "its task has not ended"
    dag_id, run_id, since = run["dag_id"], run["dag_run_id"], str(run["queued_at"])[:19]
    sentence = (
        f"run {run_id} of {dag_id} is {run['state']} since {since} UTC, and watch.deadline is {loop.watch.deadline} "
        f"hours: {hint}"
    )
    page = f"{base_url}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
    return Message(
        id=f"{loop.model}:late:{dag_id}:{run_id}",
        kind="overdue",
        title=TITLES["overdue"],
        sentence=sentence,
        tone=TONES["overdue"],
        model=loop.model,
        owner=loop.owner,
        tier=loop.tier,
        partition=run["partition_key"],
        decided_by=f"deadline of {dag_id}",
        link=page if base_url else "",
    )


def numbers_of(details: Details) -> dict[str, float]:
    """Return the figures of a record by name: the measured ones first, then those that stand behind it."""
    measured = {name: getattr(details, name, None) for name in MEASURED}
    behind = dict(getattr(details, "numbers", {}))
    return {name: value for name, value in {**measured, **behind}.items() if _is_number(value)}


def address_of(model: str, actor: str, base_url: str) -> str:
    """Return the address of the Dag run of an actor; of the page of the model where the actor is no task."""
    if not base_url:
        return ""
    parts = actor.partition(" for person:")[0].split("/", 2)
    if len(parts) == 3 and not any(" " in part for part in parts):
        dag_id, task_id, run_id = (quote(part, safe="") for part in parts)
        return f"{base_url}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}"
    return f"{base_url}/airflow-mlops/models/{quote(model, safe='')}"


def _version_of(details: Details) -> str | None:
    version = getattr(details, "version", None) or getattr(details, "champion", None)
    return None if version is None else str(version)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

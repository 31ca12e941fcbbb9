"""Measure performance: the served predictions of a partition against the labels that have arrived.

Where labels come from a source of their own, a window is judged anew whenever labels of its rows have come or were
corrected. Each look at a window spends a part of its alarm rate: half of what is left, and all of it once no more
labels may come, so that many looks alarm no more often than one. An alarm stands until a later look finds the metric
within its limit. A window that had its verdict, and that no further labels were to come of, is historical: what is
said of it is recorded, and raises no alarm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.data.labels.labels_of import digest_of_labels
from airflow_mlops.core.data.labels.open_labels import earliest_touched
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.watch import Performance
from airflow_mlops.core.errors import MlopsError, NotReadyError
from airflow_mlops.core.ledger.state import LoopState, Version
from airflow_mlops.core.training.window import ModelRows, pin_scored, read_partition
from airflow_mlops.core.watch.performance.holdout_losses import columns_of, reference_loss, reference_slices
from airflow_mlops.core.watch.performance.judge_performance import HoldoutLosses, Look, ServedRows, judge_performance
from airflow_mlops.core.workspace import Workspace


def measure_performance(workspace: Workspace, partition: str, *, as_of: str | None = None) -> dict[str, Any]:
    """Return, and record, the metric of a scored partition beside the champion's value on its holdout.

    ``verdict`` is ``alarm``, ``no alarm`` or ``insufficient data``. A partition older than the newest
    one decided on is ``historical``: recorded, never alarming.

    Parameters
    ----------
    as_of : str, optional
        Up to which delivery labels count, where they come from a source of their own: the partition by default, and
        never less than what it was judged as of before.

    Raises
    ------
    NotReadyError
        If nothing was scored, or no performance is declared.
    """
    declared = workspace.loop.watch.performance
    if declared is None:
        raise NotReadyError("no performance is declared to be watched")
    state = workspace.state(as_of=partition)
    scored = state.require_scored(partition)
    known = state.performance.get(partition)
    if known is not None and known["snapshot"] != scored["snapshot"]:
        known = None
    as_of = max(as_of or partition, partition, str((known or {}).get("as_of", partition)))
    if as_of > partition:
        state = workspace.state(as_of=as_of)
    judging = _Judging(workspace, declared, state, partition, as_of, known or {})
    if known is not None and known.get("labels", "") == judging.labels:
        return {"partition": partition, **known}
    details = judging.judged()
    look = f":{judging.look}:{judging.labels}" if known is not None else ""
    record = workspace.record_fact(
        workspace.draft(
            "performance_judged", f"performance:{partition}:{scored['publication']}{look}", partition,
            evidence=tuple(str(details[name]) for name in ("report", "holdout_slices") if details.get(name)),
            **details,
        )
    )  # fmt: skip
    return {"partition": partition, **record.details}


def rejudge_performance(workspace: Workspace, as_of: str) -> list[dict[str, Any]]:
    """Judge every window again whose labels are others by ``as_of`` than when it was judged; return what was said.

    A window that was judged as of a later tick is judged as of that one again.
    """
    if workspace.loop.data.labels is None or workspace.loop.watch.performance is None:
        return []
    state, found = workspace.state(), []
    for partition, known in sorted(state.performance.items()):
        until = max(as_of, str(known.get("as_of", partition)))
        if partition > as_of or partition not in state.scored:
            continue
        if digest_of_labels(state.labels, partition, until) != known.get("labels", ""):
            found.append(measure_performance(workspace, partition, as_of=until))
    return found


def labelled_predictions(
    workspace: Workspace, partition: str, scored: dict[str, Any], *, as_of: str | None = None
) -> pd.DataFrame:
    """Return the served predictions of a partition's rows with their labels, of those rows that have one.

    Parameters
    ----------
    as_of : str, optional
        Up to which delivery labels count, where they come from a source of their own; the partition by default.
    """
    state = workspace.state(as_of=as_of or partition)
    state.scored[partition] = scored
    rows = read_partition(workspace, pin_scored(state, partition), label=True)
    return _matched(workspace, rows, partition, scored).drop(columns="row")


def _matched(workspace: Workspace, rows: pd.DataFrame, partition: str, scored: Mapping[str, Any]) -> pd.DataFrame:
    """Return the predictions of the labelled rows with their label, and in ``row`` the place of each in ``rows``."""
    data = workspace.loop.data
    labels = rows[[data.key, data.label]].assign(row=np.arange(len(rows))).dropna()
    labels = labels.rename(columns={data.key: "key", data.label: "label"}).astype({"key": str})
    predictions: pd.DataFrame = workspace.predictions.read(partition, version=int(scored["version"])).to_pandas()
    return predictions.merge(labels, on="key", validate="one_to_one")


@dataclass(frozen=True)
class _Judging:
    """One look at a window; ``known`` is what the look before it said of the same rows, empty at the first."""

    workspace: Workspace
    declared: Performance
    state: LoopState
    partition: str
    as_of: str
    known: Mapping[str, Any]

    @property
    def waits(self) -> bool:
        """Whether labels come from a source of their own."""
        return self.workspace.loop.data.labels is not None

    @cached_property
    def labels(self) -> str:
        """What tells the labels of this look from others; empty where they come with the rows, or none has come."""
        return digest_of_labels(self.state.labels, self.partition, self.as_of) if self.waits else ""

    @cached_property
    def look(self) -> int:
        """How many looks there were before."""
        return int(self.known.get("look", 0)) + 1 if self.known else 0

    @cached_property
    def oldest_open(self) -> str:
        """The oldest partition that a delivery of this tick may label."""
        return earliest_touched(self.workspace.loop, self.as_of) if self.waits else self.as_of

    @cached_property
    def historical(self) -> bool:
        """Whether this look may raise no alarm; see the module."""
        if self.known.get("historical") or self.workspace.state().is_historical(self.as_of):
            return True
        return self.partition < self.oldest_open and "value" in self.known

    @cached_property
    def rate(self) -> float:
        """The alarm rate of this look; one that raises no alarm spends nothing."""
        if self.historical:
            return self.declared.alarm_rate
        left = max(self.declared.alarm_rate - float(self.known.get("spent", 0.0)), 0.0)
        return left if self.partition <= self.oldest_open else left / 2

    @cached_property
    def version(self) -> Version:
        """The champion that scored the window."""
        return self.state.versions[str(self.state.scored[self.partition]["champion"])]

    def judged(self) -> dict[str, Any]:
        """Return the details of the record; what is larger is kept as evidence."""
        scored = self.state.scored[self.partition]
        rows = read_partition(self.workspace, pin_scored(self.state, self.partition, self.as_of), label=True)
        frame = _matched(self.workspace, rows, self.partition, scored)
        details: dict[str, Any] = {
            "metric": self.declared.metric, "rows": len(frame), "scored": len(rows), "snapshot": scored["snapshot"],
            "champion": scored["champion"], "historical": self.historical,
        }  # fmt: skip
        if self.waits:
            spent = float(self.known.get("spent", 0.0))
            details |= {"as_of": self.as_of, "labels": self.labels, "look": self.look, "spent": spent}
        if len(frame) < self.declared.min_rows:
            said = f"{len(frame):,} of {len(rows):,} rows have a label, {self.declared.min_rows:,} are needed"
            return details | {"verdict": "insufficient data", "needed": self.declared.min_rows, "said": said}
        found = self._found(rows, frame)
        if self.waits and "value" in found and not self.historical:
            details["spent"] += self.rate
        # An alarm that stands was raised when the window was none of history.
        historical = self.historical and found["verdict"] != "alarm"
        return details | found | {"historical": historical}

    def _found(self, rows: pd.DataFrame, frame: pd.DataFrame) -> dict[str, Any]:
        """Return what the labelled rows say."""
        metric, beside = self.declared.metric, dict[str, Any]()
        value = float(self.version.details["metrics"][metric])
        reference = HoldoutLosses(value, reference_loss(self.workspace, self.version, metric))
        columns = {}
        if self.declared.slices:
            try:
                kept, slices = reference_slices(self.workspace, self.state, self.version, self.declared)
                reference = HoldoutLosses(value, reference.whole, slices)
                columns, beside = self._columns(rows), {"holdout_slices": kept}
            except MlopsError as error:
                beside = {"no_slices": f"no slice can be judged: {error}"}
        taken = frame["row"].to_numpy()
        served = ServedRows(
            frame["label"].to_numpy(float), frame["served_prediction"].to_numpy(),
            {name: values[taken] for name, values in columns.items()},
        )  # fmt: skip
        look = Look(self.rate, self.historical, tuple(self.known.get("alarmed", ())))
        details, report = judge_performance(self.declared, served, reference, look)
        if report is not None:
            where = {"partition": self.partition, "champion": self.version.number, "as_of": self.as_of}
            beside["report"] = self.workspace.evidence.put({**where, **report})
        return details | beside

    def _columns(self, rows: pd.DataFrame) -> dict[str, Any]:
        """Return the columns of the declared slices, from the rows, or from their features where they lack one."""
        features = pd.DataFrame(index=rows.index)
        if not set(self.declared.slices) <= set(rows.columns):
            pin = pin_scored(self.state, self.partition)
            features = FeatureMaker(self.workspace).make(rows, pin.partition, pin.version)
        return columns_of(ModelRows(rows, features), self.declared.slices)

"""Translate plain records of lineage into datasets and facets of OpenLineage; imported by its listener alone."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import attrs
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    InputDatasetFacet,
    OutputDatasetFacet,
    RunFacet,
    base_subset_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
    schema_dataset,
)

from airflow_mlops.core.lineage.task_lineage import Assertion, Dataset, Datasets, RecordReference, TaskLineage

RUN_FACET = "mlops_loop"
"""Key of the run facet of this package."""
SCHEMA_URL = "urn:airflow-mlops:facets:1-0-0:MlopsLoopRunFacet.json#/$defs/MlopsLoopRunFacet"
"""Address of its JSON schema, which is the file ``mlops_loop_run_facet.json`` beside this module."""


@attrs.define(kw_only=True)
class MlopsLoopRunFacet(RunFacet):
    """The deed of a task in a loop: model, partition, version, and the ledger records that prove it.

    Each record has its ``sequence`` within the model, its ``kind`` and its ``hash``.
    """

    model: str
    partition: str
    version: str | None = None
    records: list[dict[str, Any]]

    _additional_skip_redact: ClassVar[list[str]] = ["model", "partition", "version", "records"]

    @staticmethod
    def _get_schema() -> str:
        return SCHEMA_URL


def operator_lineage(lineage: TaskLineage | Datasets | None) -> OperatorLineage[Any, Any]:
    """Return the lineage of a task as Airflow's provider takes it; empty where none was kept.

    A task without a loop has datasets alone, and no facet of a loop.
    """
    if lineage is None:
        return OperatorLineage()
    datasets = lineage if isinstance(lineage, Datasets) else lineage.datasets
    return OperatorLineage(
        inputs=[input_dataset(dataset) for dataset in datasets.inputs],
        outputs=[output_dataset(dataset) for dataset in datasets.outputs],
        run_facets={} if isinstance(lineage, Datasets) else {RUN_FACET: loop_facet(lineage)},
    )


def loop_facet(lineage: TaskLineage) -> MlopsLoopRunFacet:
    """Return the deed of a task in a loop."""
    return MlopsLoopRunFacet(
        model=lineage.model,
        partition=lineage.partition,
        version=lineage.datasets.version,
        records=[_reference(record) for record in lineage.records],
    )


def input_dataset(dataset: Dataset) -> InputDataset:
    """Return a dataset that was read, with schema, version, assertions, rows and parts where they are known."""
    facets: dict[str, InputDatasetFacet] = {}
    if dataset.rows is not None:
        facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            rowCount=dataset.rows
        )
    if dataset.assertions:
        facets["dataQualityAssertions"] = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions=[_assertion(assertion) for assertion in dataset.assertions]
        )
    subset = _subset(dataset)
    if subset is not None:
        facets["subset"] = base_subset_dataset.InputSubsetInputDatasetFacet(inputCondition=subset)
    name = dataset.name
    return InputDataset(name.namespace, name.name, inputFacets=facets, facets=_dataset_facets(dataset))


def output_dataset(dataset: Dataset) -> OutputDataset:
    """Return a dataset that was written, with schema, version, rows and parts where they are known."""
    facets: dict[str, OutputDatasetFacet] = {}
    if dataset.rows is not None:
        facets["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=dataset.rows
        )
    subset = _subset(dataset)
    if subset is not None:
        facets["subset"] = base_subset_dataset.OutputSubsetOutputDatasetFacet(outputCondition=subset)
    name = dataset.name
    return OutputDataset(name.namespace, name.name, outputFacets=facets, facets=_dataset_facets(dataset))


def strip_secrets(error: BaseException | None) -> None:
    """Take secrets out of the messages of an error and of its causes: logins and queries of URLs, and masked values.

    The listener masks only what Airflow knew to be secret when it was loaded. A password that the task has read from a
    connection since would be sent.
    """
    from airflow.sdk.log import redact  # type: ignore[attr-defined]  # Airflow's own providers take it from there

    visited: list[BaseException] = []
    while error is not None and error not in visited:
        error.args = tuple(strip_urls(str(redact(arg))) if isinstance(arg, str) else arg for arg in error.args)
        visited.append(error)
        error = error.__cause__ or error.__context__


def strip_urls(text: str) -> str:
    """Return a text without the logins and the queries of the URLs and paths in it.

    >>> strip_urls("https://user:word@shop.example/rows?key=1 answered 500")
    'https://shop.example/rows?... answered 500'
    """
    return re.sub(r"\?[^\s'\"<>]+", "?...", re.sub(r"(?<=//)[^/\s@]+@", "", text))


def _dataset_facets(dataset: Dataset) -> dict[str, DatasetFacet]:
    facets: dict[str, DatasetFacet] = {}
    if dataset.columns is not None:
        fields = [schema_dataset.SchemaDatasetFacetFields(name, kind) for name, kind in dataset.columns.items()]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    if dataset.version is not None:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=dataset.version)
    return facets


def _subset(dataset: Dataset) -> base_subset_dataset.BaseSubsetCondition | None:
    """Return the condition that selects the parts, or else the files, of a dataset; None for all of it."""
    if dataset.parts:
        partitions = [
            base_subset_dataset.Partition(dimensions=dict(part.dimensions), identifier=part.identifier)
            for part in dataset.parts
        ]
        return base_subset_dataset.PartitionSubsetCondition(partitions=partitions)
    if dataset.locations:
        return base_subset_dataset.LocationSubsetCondition(locations=list(dataset.locations))
    return None


def _assertion(assertion: Assertion) -> data_quality_assertions_dataset.Assertion:
    return data_quality_assertions_dataset.Assertion(
        assertion=assertion.rule,
        success=assertion.success,
        column=assertion.column,
        severity=assertion.severity,
        expected=assertion.expected,
        actual=assertion.actual,
    )


def _reference(record: RecordReference) -> dict[str, Any]:
    return {"sequence": record.sequence, "kind": record.kind, "hash": record.hash}

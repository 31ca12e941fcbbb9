"""A source that joins point-in-time features of a Feast repository to the entity rows of another source.

The entity rows hold keys, time and label.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import DeclarationError, SourceUnreadableError
from airflow_mlops.core.ports.partitions import Arrival, Source
from airflow_mlops.core.sources.feast_join import FeatureJoin, View, translate_errors
from airflow_mlops.core.sources.size_limits import Meter


class FeastRows:
    """Entity rows with the features of a Feast repository.

    Parameters
    ----------
    entities : Source
        Source of the entity rows; it has to know types.
    folder : Path
        Folder of ``feature_store.yaml``.
    repo : str
        The same folder as declared, for messages and the ledger.
    service : str, optional
        Feature service that lists the features.
    features : sequence of str
        Features as ``view:feature``, without a service.
    time : str
        Column of the entity rows with their time; without a zone it is taken as UTC, as Feast does.
    limits : Limits
        How much a partition may hold, features included.

    Raises
    ------
    DeclarationError
        If Feast is not installed, or there is no such repository.
    """

    def __init__(
        self,
        entities: Source,
        folder: Path,
        *,
        repo: str,
        time: str,
        service: str | None = None,
        features: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        if importlib.util.find_spec("feast") is None:
            raise DeclarationError(
                "Feast is not installed here: pip install airflow-mlops[feast]", key="data.source.kind"
            )
        if not (folder / "feature_store.yaml").is_file():
            raise DeclarationError(f"{repo!r} holds no feature_store.yaml", key="data.source.repo")
        self._entities, self._folder, self._repo, self._time = entities, folder, repo, time
        self._service, self._features, self._limits = service, tuple(features), limits or Limits()

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:  # noqa: ARG002
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`.

        Features may change where the entity rows do not, so nothing counts as unchanged before it is read.
        """
        where = f"partition {partition}: the feature repository {self._repo}"
        with self._entities.open(partition) as arrival:
            with translate_errors(where):
                store = self._store()
                join = FeatureJoin(store, self._views(store, where), self._time, where)
            schema = join.schema(arrival.schema)
            selection = {"feature_service": self._service} if self._service else {"features": list(self._features)}
            with closing(self._join_batches(arrival, join, schema, Meter(self._limits, partition))) as batches:
                yield Arrival(
                    schema,
                    batches,
                    typed=arrival.typed,
                    origin={"repo": self._repo, **selection, "entities": arrival.origin},
                    broken=arrival.broken,
                    texts=arrival.texts,
                    untyped=arrival.untyped,
                    warnings=arrival.warnings,
                )

    def _store(self) -> Any:
        import feast

        return feast.FeatureStore(repo_path=str(self._folder))

    def _views(self, store: Any, where: str) -> list[View]:
        """Return the views to read, with the types that the repository declares."""
        from feast.types import from_feast_to_pyarrow_type

        views = []
        for name, features in self._features_by_view(store, where).items():
            view = store.get_feature_view(name)
            kinds = {feature.name: from_feast_to_pyarrow_type(feature.dtype) for feature in view.features}
            missing = [feature for feature in features if feature not in kinds]
            if missing:
                raise SourceUnreadableError(
                    f"{where}: the view {name!r} has no feature {missing[0]!r}; it has {', '.join(kinds)}"
                )
            views.append(View(name, tuple(view.join_keys), tuple((feature, kinds[feature]) for feature in features)))
        return views

    def _features_by_view(self, store: Any, where: str) -> dict[str, list[str]]:
        """Return the features of the declaration, or of the feature service, by view."""
        features: dict[str, list[str]] = {}
        for reference in self._features:
            name, _, feature = reference.partition(":")
            features.setdefault(name, []).append(feature)
        projections = store.get_feature_service(self._service).feature_view_projections if self._service else []
        for projection in projections:
            if projection.name_alias or projection.join_key_map or projection.version_tag is not None:
                raise SourceUnreadableError(
                    f"{where}: the feature service {self._service!r} renames or pins the view "
                    f"{projection.name!r}, which is not supported; list data.source.features instead"
                )
            features.setdefault(projection.name, []).extend(feature.name for feature in projection.features)
        return features

    def _join_batches(
        self, arrival: Arrival, join: FeatureJoin, schema: pa.Schema, meter: Meter
    ) -> Generator[pa.RecordBatch]:
        for batch in arrival.batches:
            meter.add_rows(batch.num_rows, len(schema), self._repo)
            rows = join.join_batch(batch, schema)
            meter.add_bytes(rows.nbytes, self._repo)
            yield rows

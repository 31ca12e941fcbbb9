"""Bad labels: the promised outcome, the reason in the ledger, the rows untouched, and the next delivery is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.data.labels.labels_of import labels_of, pin_labels
from airflow_mlops.core.data.labels.take_labels import take_labels
from airflow_mlops.core.errors import DataError, DeclarationError, NotReadyError
from airflow_mlops.core.ledger.record import verify_chain
from tests.bad_input.cases_of_labels import LABELLED, LABELS, LabelCase, good_labels, lines, text
from tests.bad_input.world import BAD, CONTRACT, HISTORY, SourceKind, World

ERRORS: dict[str, type[Exception]] = {
    "refused": DataError,
    "not ready": NotReadyError,
    "declaration error": DeclarationError,
}
EXTENSIONS = {"json": "jsonl"}


def declared(kind: str, **source: Any) -> dict[str, Any]:
    """Return the keys of ``data`` for labels from files of a kind."""
    uri = f"labels/{{partition}}.{EXTENSIONS.get(kind, kind)}"
    return {"labels": {"source": {"kind": kind, "uri": uri, **source}, "delay": 1}}


def put(world: World, content: bytes | None) -> None:
    """Put a delivery where the declared source has it."""
    if content is None:
        return
    uri = str(world.data["labels"]["source"]["uri"])
    path = world.folder / uri.replace("{partition}", BAD[:10])
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("case", LABELS, ids=lambda case: case.line.replace(" ", "_"))
@pytest.mark.bad_input
def test_a_delivery_of_labels_has_the_outcome_that_is_promised(
    case: LabelCase, tmp_path: Path, seeded: Callable[[SourceKind, bool], World]
) -> None:
    world = World(tmp_path, contract=CONTRACT, data=declared(case.kind, **case.source))
    world.copy_stores(seeded("parquet", True))
    published = dict(world.reader.state().published.items())
    put(world, case.write(good_labels()))
    if case.outcome in ERRORS:
        with pytest.raises(ERRORS[case.outcome]) as raised:
            take_labels(world.workspace, BAD)
        assert_nothing_taken(case, world, str(raised.value))
    else:
        record = take_labels(world.workspace, BAD)
        assert (record.bad, record.rows) == (case.bad, case.taken)
        assert all(word in record.message for word in case.words), record.message
        assert world.records("labels_arrived", BAD)[-1].details == record
        assert set(labels_as_of(world)) <= set(good_labels())
    assert dict(world.reader.state().published.items()) == published
    assert list(published) == HISTORY

    # The delivery is corrected, and counts.
    world.data = declared("csv", delimiter=";")
    put(world, text(lines(good_labels())))
    assert take_labels(world.workspace, BAD).rows == 200
    assert labels_as_of(world) == pytest.approx(good_labels(), abs=1e-6)
    records = list(world.reader.ledger.records())
    assert verify_chain(records) == len(records)


def assert_nothing_taken(case: LabelCase, world: World, message: str) -> None:
    """Assert that no label counts, and that the ledger says why, unless there was nothing to say yet."""
    for word in case.words:
        assert word in message
    assert BAD not in world.reader.state().labels
    records = [record.details for record in world.records("window_judged", BAD)]
    reasons = [details.message for details in records if details.check == "labels"]
    assert reasons == ([message] if case.outcome == "refused" else [])


def labels_as_of(world: World) -> dict[str, float]:
    """Return the labels of the week that is labelled, as of the delivery."""
    workspace = world.reader
    pin = pin_labels(workspace.state().labels, LABELLED, BAD)
    return {str(key): float(value) for key, value in labels_of(workspace, LABELLED, pin).items()}

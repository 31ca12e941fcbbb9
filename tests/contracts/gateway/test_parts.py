"""The parts of a gateway by themselves: breaker, micro-batcher, samples, backends and the state file."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import DeclarationError, RolloutError
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.ports.rollout_target import OlderTrafficError, Traffic
from airflow_mlops.gateway.breaker import FLOOR, MARGIN, SLOW_SECONDS, TRIP_THRESHOLD, Breaker, e_value
from airflow_mlops.gateway.inference_backends import InferenceBackend, choose_backend
from airflow_mlops.gateway.micro_batcher import BusyError, MicroBatcher, predict_rows
from airflow_mlops.gateway.model_cache import LoadedVersion, VersionLoader, reject_history_features
from airflow_mlops.gateway.request_counts import SAMPLE, ReservoirSample
from airflow_mlops.gateway.row_shape import request_shape
from airflow_mlops.gateway.serving import Serving
from airflow_mlops.gateway.settings import Settings, read_token
from airflow_mlops.gateway.shadow_link import ShadowLink
from airflow_mlops.gateway.state_file import FILE, SavedState, read_state, write_state
from airflow_mlops.gateway.version_files import ServedVersion
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.contracts.gateway.toy_project import ToyProject, describe_version
from tests.unit.core.toy_loop import toy_loop


def test_the_breaker_errs_for_less_than_its_share_of_challengers_that_are_just_within_the_limit() -> None:
    random, limit, stopped = np.random.default_rng(0), FLOOR + MARGIN, 0
    for _ in range(1_000):
        failures = np.cumsum(random.random(1_500) < limit)
        at = np.flatnonzero(np.diff(failures, prepend=0))
        stopped += any(e_value(int(rows) + 1, int(failures[rows]), limit) >= TRIP_THRESHOLD for rows in at)
    assert stopped / 1_000 <= 1.5 / TRIP_THRESHOLD


@pytest.mark.parametrize(("share", "rows"), [(1.0, 3), (0.5, 12), (0.2, 60), (0.1, 250)])
def test_the_breaker_needs_few_rows_of_a_challenger_that_fails_often(share: float, rows: int) -> None:
    row_counts = []
    for seed in range(200):
        random, breaker = np.random.default_rng(seed), Breaker()
        for number in range(2_000):
            if breaker.record_challenger(number, 0.001, failed=bool(random.random() < share)) is not None:
                break
        row_counts.append(breaker.rows)
    assert np.median(row_counts) <= rows


def test_the_breaker_takes_a_slow_challenger_out_and_says_that_it_was_slow() -> None:
    breaker = Breaker()
    for _ in range(50):
        breaker.record_champion(0.002, failed=False)
    assert breaker.record_challenger(1, SLOW_SECONDS * 0.9, failed=False) is None
    assert breaker.record_challenger(2, 2 * SLOW_SECONDS, failed=False, batch_rows=50) is None
    reasons = [breaker.record_challenger(unit, 2 * SLOW_SECONDS, failed=False) for unit in range(5)]
    message = next(reason for reason in reasons if reason is not None)
    assert f"by taking over {SLOW_SECONDS:g} s" in message


def test_the_breaker_forgives_what_the_champion_does_as_well_and_one_key_alone() -> None:
    breaker = Breaker()
    for number in range(400):
        breaker.record_champion(0.001, failed=number % 3 == 0)
    assert all(breaker.record_challenger(unit, 0.001, failed=unit % 3 == 0) is None for unit in range(300))
    lonely = Breaker()
    assert all(lonely.record_challenger(7, 0.001, failed=True) is None for _ in range(300))


class Model:
    """A model that doubles, records the sizes of its batches, and can be made to wait."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def predict(self, rows: Sequence[Any]) -> Any:
        self.batches.append(len(rows))
        self.go_on.wait(10)
        if any(row is None for row in rows):
            raise ValueError("no row")
        return np.array([2.0 * row for row in rows])


def test_a_lone_row_goes_at_once_and_rows_that_come_while_the_version_is_busy_go_together() -> None:
    async def exercise() -> None:
        model = Model()
        batcher = MicroBatcher("1", InferenceBackend("frame", model.predict, 0.0))
        assert await batcher.submit([1.0]) == [2.0]
        model.go_on.clear()
        first = batcher.submit([1.0])
        await asyncio.sleep(0.05)
        later = [batcher.submit([float(number)]) for number in range(7)]
        model.go_on.set()
        assert [await future for future in (first, *later)] == [[2.0], *([2.0 * number] for number in range(7))]
        assert model.batches == [1, 1, 7]
        batcher.close()

    asyncio.run(exercise())


def test_under_load_a_batch_waits_for_as_many_as_the_one_before_and_a_lone_row_at_most_once() -> None:
    async def exercise() -> None:
        model = Model()
        batcher = MicroBatcher("1", InferenceBackend("array", model.predict, 0.001))
        await asyncio.gather(*(batcher.submit([1.0]) for _ in range(3)))
        first = batcher.submit([1.0])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not first.done()
        await asyncio.gather(first, batcher.submit([1.0]), batcher.submit([1.0]))
        assert model.batches == [3, 3]
        assert await asyncio.wait_for(batcher.submit([1.0]), 1) == [2.0]
        lone = batcher.submit([2.0])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert lone.done()
        assert model.batches == [3, 3, 1, 1]

    asyncio.run(exercise())


def test_a_row_that_raises_does_not_take_those_beside_it_with_it() -> None:
    async def exercise() -> None:
        batcher = MicroBatcher("1", InferenceBackend("array", Model().predict, 0.0))
        futures = [batcher.submit([1.0]), batcher.submit([None, 3.0])]
        assert [await future for future in futures] == [[2.0], ["ValueError: no row", 6.0]]
        assert batcher.quick

    asyncio.run(exercise())


def test_a_model_that_was_slow_once_gets_a_thread_of_its_own_and_holds_up_nobody() -> None:
    go_on = threading.Event()

    async def exercise() -> None:
        def slow(rows: Sequence[Any]) -> Any:
            if list(rows) == [1.0]:
                time.sleep(0.1)
            else:
                go_on.wait(10)
            return np.array(rows)

        batcher = MicroBatcher("1", InferenceBackend("array", slow, 0.0))
        assert batcher.quick
        assert await batcher.submit([1.0]) == [1.0]
        assert not batcher.quick
        waiting = batcher.submit([2.0])
        await asyncio.sleep(0.05)
        assert not waiting.done(), "the loop stood still until the model was ready"
        go_on.set()
        batcher.close()
        assert await waiting == [2.0]

    asyncio.run(exercise())


def test_many_rows_at_once_go_to_the_thread_and_hold_up_no_single_one_of_another_version() -> None:
    async def exercise() -> None:
        model = Model()
        large, other = (MicroBatcher(number, InferenceBackend("array", model.predict, 0.0)) for number in ("1", "2"))
        model.go_on.clear()
        waiting = large.submit([1.0] * 65)
        await asyncio.sleep(0.05)
        model.go_on.set()
        assert await other.submit([1.0]) == [2.0]
        assert await waiting == [2.0] * 65
        assert large.quick
        large.close()

    asyncio.run(exercise())


def test_more_rows_than_may_wait_are_refused_and_a_retired_lane_answers_what_it_took() -> None:
    async def exercise() -> None:
        model = Model()
        batcher = MicroBatcher("1", InferenceBackend("frame", model.predict, 0.0), most_waiting=10)
        model.go_on.clear()
        first = batcher.submit([0.0])
        await asyncio.sleep(0.05)
        waiting = [batcher.submit([float(number)]) for number in range(10)]
        with pytest.raises(BusyError, match="10 rows wait for version 1"):
            batcher.submit([1.0])
        batcher.close()
        model.go_on.set()
        assert [await future for future in (first, *waiting)] == [[0.0], *([2.0 * number] for number in range(10))]

    asyncio.run(exercise())


def test_a_sample_of_a_stream_holds_each_item_as_likely_as_every_other() -> None:
    sample = ReservoirSample(1, seed=0)
    for at in range(0, 4 * SAMPLE, 500):
        sample.add(np.arange(at, at + 500, dtype=float)[:, None])
    items = sample.items[:, 0]
    assert len(items) == len(set(items)) == SAMPLE
    quarters = np.histogram(items, bins=4, range=(0, 4 * SAMPLE))[0]
    assert np.abs(quarters - SAMPLE / 4).max() < 5 * np.sqrt(SAMPLE * 0.25 * 0.75)


COLUMNS = ["x1", "x2", "x3"]
ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 3)), columns=COLUMNS)
LABEL = (ROWS["x1"] > 0).astype(int)


def prepare_backend(
    model: Any, folder: Path, *, onnx: bool = False, classifies: bool = False
) -> tuple[InferenceBackend, Any]:
    """Return the backend of a fitted model, and rows for it."""
    fields = {"gates": [{"metric": "log_loss", "at_most": 5}]} if classifies else {}
    workspace = in_memory_workspace(toy_loop(**fields), {}, scratch=folder)
    recorded = {"id": "string", "at": "timestamp[us]", "y": "double", **dict.fromkeys(COLUMNS, "double")}
    shape = request_shape(workspace.loop.data, None, recorded)
    backend = choose_backend(model, shape, FeatureMaker(workspace), classifies=classifies, onnx=onnx)
    records = [{"id": "a", **{name: float(value) for name, value in row.items()}} for row in ROWS.to_dict("records")]
    return backend, shape.decode_rows(json.dumps(records).encode())[0]


@pytest.mark.parametrize(
    ("model", "classifies"),
    [
        (HistGradientBoostingRegressor(max_iter=5), False),
        (make_pipeline(StandardScaler(), GradientBoostingRegressor(n_estimators=5)), False),
        (GradientBoostingClassifier(n_estimators=5), True),
    ],
)
def test_numbers_go_as_arrays_and_say_what_the_frame_says_to_the_last_digit(
    tmp_path: Path, model: Any, classifies: bool
) -> None:
    fitted = model.fit(ROWS[["x2", "x1"]], LABEL)
    backend, rows = prepare_backend(fitted, tmp_path, classifies=classifies)
    assert backend.name == "array"
    expected = fitted.predict_proba(ROWS[["x2", "x1"]])[:, 1] if classifies else fitted.predict(ROWS[["x2", "x1"]])
    assert backend.predict(rows).tolist() == expected.tolist()


@pytest.mark.parametrize("onnx", [False, True])
def test_three_classes_are_probabilities_in_the_order_of_their_codes(tmp_path: Path, onnx: bool) -> None:
    if onnx:
        pytest.importorskip("skl2onnx")
        pytest.importorskip("onnxruntime")
    codes = np.digitize(ROWS["x1"], [-0.5, 0.5])
    fitted = GradientBoostingClassifier(n_estimators=5).fit(ROWS, codes)
    backend, rows = prepare_backend(fitted, tmp_path, onnx=onnx, classifies=True)
    assert backend.name == ("onnx" if onnx else "array")
    predicted = backend.predict(rows)
    assert predicted.shape == (300, 3)
    np.testing.assert_allclose(predicted, fitted.predict_proba(ROWS), atol=1e-5 if onnx else 0)


def test_a_row_of_three_classes_that_is_no_number_fails_alone() -> None:
    chances = np.array([[0.2, 0.3, 0.5], [np.nan, 0.5, 0.5]])
    outcomes = predict_rows(InferenceBackend("array", lambda _rows: chances, 0.0), [1, 2])
    assert outcomes == [[0.2, 0.3, 0.5], "the model gave [nan, 0.5, 0.5]"]


@pytest.mark.parametrize("onnx", [False, True])
def test_a_model_without_probabilities_answers_with_its_decision(tmp_path: Path, onnx: bool) -> None:
    fitted = make_pipeline(StandardScaler(), LinearSVC()).fit(ROWS, LABEL)
    backend, rows = prepare_backend(fitted, tmp_path, onnx=onnx, classifies=True)
    assert backend.name == "array"
    assert backend.predict(rows).tolist() == fitted.predict(ROWS).astype(float).tolist()


@pytest.mark.parametrize("classifies", [False, True])
def test_onnx_is_used_where_it_says_the_same_and_is_close_on_rows_it_was_not_compared_on(
    tmp_path: Path, classifies: bool
) -> None:
    pytest.importorskip("skl2onnx")
    pytest.importorskip("onnxruntime")
    model = (GradientBoostingClassifier if classifies else GradientBoostingRegressor)(n_estimators=20)
    fitted = model.fit(ROWS, LABEL)
    backend, rows = prepare_backend(fitted, tmp_path, onnx=True, classifies=classifies)
    assert backend.name == "onnx"
    expected = fitted.predict_proba(ROWS)[:, 1] if classifies else fitted.predict(ROWS)
    assert np.abs(backend.predict(rows) - expected).max() < 1e-5
    for value in (None, 1e300):
        odd = copy.copy(rows[0])
        setattr(odd, rows[0].__struct_fields__[2], value)
        with pytest.raises(ValueError, match="null or too large"):
            backend.predict([odd])


def test_what_does_not_convert_goes_as_an_array_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("skl2onnx")
    backend, _rows = prepare_backend(HistGradientBoostingRegressor(max_iter=5).fit(ROWS, LABEL), tmp_path, onnx=True)
    assert backend.name == "array"
    assert "rows do not go as onnx" in caplog.text


def test_a_model_that_answers_an_array_otherwise_than_a_frame_goes_as_a_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class ByName(HistGradientBoostingRegressor):
        def predict(self, X: Any) -> Any:
            return super().predict(X) + (0.0 if hasattr(X, "columns") else 1e-3)

    backend, _rows = prepare_backend(ByName(max_iter=5).fit(ROWS, LABEL), tmp_path)
    assert backend.name == "frame"
    assert "away from the frame" in caplog.text


def test_a_model_that_wants_a_column_which_no_row_holds_is_refused(tmp_path: Path) -> None:
    fitted = HistGradientBoostingRegressor(max_iter=5).fit(ROWS.rename(columns={"x3": "z"}), LABEL)
    with pytest.raises(RolloutError, match="fitted on 'z'"):
        prepare_backend(fitted, tmp_path)


def test_features_that_need_the_history_of_a_row_are_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "features_of_the_past.py").write_text("def features(frame, history): ...\n")
    data = {**toy_loop().data.model_dump(mode="json", exclude_none=True, by_alias=True)}
    loop = toy_loop(data={**data, "features": "features_of_the_past:features"})
    with pytest.raises(DeclarationError, match="cannot be served by the gateway"):
        reject_history_features(loop, tmp_path)


traffics = st.builds(
    Traffic,
    st.integers(0, 10**9),
    st.just("1"),
    st.just("2"),
    st.sampled_from(["canary", "shadow"]),
    st.floats(0, 100),
    st.text(st.characters(codec="utf-8"), max_size=50),
    st.none() | st.just("3"),
)
states = st.builds(
    SavedState,
    traffics,
    st.none() | st.floats(0, 100),
    st.just({}),
    st.none() | st.text(st.characters(codec="utf-8"), max_size=50),
)


@given(state=states)
def test_what_is_kept_is_read_back(tmp_path_factory: pytest.TempPathFactory, state: SavedState) -> None:
    folder = tmp_path_factory.mktemp("state")
    write_state(folder, state)
    assert read_state(folder) == state


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"traffic": {}, "local_share": null}'])
def test_a_state_that_the_gateway_did_not_write_is_an_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    assert read_state(tmp_path) == SavedState()
    (tmp_path / FILE).write_text(content)
    with pytest.raises(RolloutError, match=FILE):
        read_state(tmp_path)


def test_a_token_must_be_there_and_long_enough_and_is_never_repeated(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("short\n")
    for environment, place, words in (
        ({}, None, "no token"),
        ({"T": "short"}, None, "5 characters"),
        ({}, file, "5 ch"),
    ):
        with pytest.raises(DeclarationError, match=words) as error:
            read_token(place, environment, "T")
        assert "short" not in str(error.value)
    with pytest.raises(DeclarationError, match="cannot be read"):
        read_token(tmp_path / "nowhere", {}, "T")
    assert read_token(None, {"T": "sixteen characters"}, "T") == "sixteen characters"


def test_a_rollback_waits_neither_for_a_version_that_loads_nor_for_a_shadow_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, go_on = ToyProject(tmp_path), threading.Event()
    loads = VersionLoader.load

    def slowly(loader: VersionLoader, version: ServedVersion) -> LoadedVersion:
        if version.number == "3":
            go_on.wait(30)
        return loads(loader, version)

    async def never(_link: ShadowLink) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(VersionLoader, "load", slowly)
    monkeypatch.setattr(ShadowLink, "start", never)

    async def roll_back() -> None:
        serving = Serving(
            Settings(
                project.workspace.loop,
                tmp_path,
                Lake.on_disk(project.lake),
                tmp_path / "state",
                tmp_path / "log",
                project.workspace.keys,
            )
        )
        for number in (1, 2):
            await serving.prepare(ServedVersion.from_dict(describe_version(project.version(number))))
        await serving.apply(Traffic(1, "1"), None)
        loading = asyncio.create_task(serving.prepare(ServedVersion.from_dict(describe_version(project.version(3)))))
        starting = asyncio.create_task(serving.apply(Traffic(2, "1", "2", "shadow", 100.0), None))
        await asyncio.sleep(0.1)
        await asyncio.wait_for(serving.apply(Traffic(3, "1"), None), 5)
        assert serving.served.traffic == Traffic(3, "1")
        assert not loading.done()
        starting.cancel()
        go_on.set()
        await loading
        with pytest.raises(OlderTrafficError):
            await serving.apply(Traffic(2, "1", "2", "shadow", 100.0), None)
        await serving.close()

    asyncio.run(roll_back())

"""The section resources: what a stage gets, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.resources import Resources
from airflow_mlops.core.errors import DeclarationError
from tests.unit.core.toy_loop import toy_fields, toy_loop

DECLARED = {
    "default": {"queue": "small", "pool": "loops"},
    "train": {"pool": "trainings", "slots": 2},
    "fit": {"queue": "big", "executor_config": {"pod_template_file": "pods/fit.yaml", "more": [{"a": 1}]}},
}


def test_a_key_of_a_stage_goes_over_that_of_default_and_one_of_fit_over_that_of_train() -> None:
    resources = Resources(**DECLARED)
    assert resources.task_args("score") == {"queue": "small", "pool": "loops"}
    assert resources.task_args("train") == {"queue": "small", "pool": "trainings", "pool_slots": 2}
    assert resources.task_args("fit") == {
        "queue": "big",
        "pool": "trainings",
        "pool_slots": 2,
        "executor_config": DECLARED["fit"]["executor_config"],
    }
    assert Resources().task_args("fit") == {}
    assert resources.pools() == {"loops": 1, "trainings": 2}


def test_a_loop_with_resources_reads_back_equal_and_has_a_hash() -> None:
    loop = toy_loop(resources=DECLARED)
    assert Loop(**yaml.safe_load(yaml.safe_dump(loop.to_dict()))) == loop
    assert hash(loop) == hash(toy_loop(resources=copy.deepcopy(DECLARED)))
    assert loop != toy_loop()
    assert "resources" not in toy_loop().to_dict()


@pytest.mark.parametrize(
    ("resources", "key", "message"),
    [
        ({"fits": {"pool": "a"}}, "resources.fits", "fit"),
        ({"fit": {"pools": "a"}}, "resources.fit.pools", "pool"),
        ({"fit": {"pool": ""}}, "resources.fit.pool", "at least 1"),
        ({"fit": {"pool": "a", "slots": 0}}, "resources.fit.slots", "greater than or equal to 1"),
        ({"fit": {"slots": 2}}, "resources.fit.slots", "2 slots are of no pool"),
        ({"fit": {}}, "resources.fit", "declares nothing"),
        ({"fit": {"queue": "{{ var.value.queue }}"}}, "resources.fit.queue", "holds a template"),
        (
            {"fit": {"executor_config": {"pod_override": object()}}},
            "resources.fit.executor_config",
            "JSON values alone",
        ),
        ({"fit": {"executor_config": {"a": "{{ x }}"}}}, "resources.fit.executor_config.a", "holds a template"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_key(resources: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(DeclarationError, match=message) as error:
        Loop(**toy_fields(resources=resources))
    assert error.value.key == key

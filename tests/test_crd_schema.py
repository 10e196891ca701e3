"""The strict schemas refuse what an API server would refuse or drop."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.crd_schema import custom_resource_errors, strict_schema

JOB: dict[str, Any] = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "TrainJob",
    "metadata": {"name": "align", "labels": {"any": "thing"}},
    "spec": {
        "runtimeRef": {"name": "some-runtime"},
        "trainer": {"numNodes": 2, "numProcPerNode": 1, "resourcesPerNode": {"limits": {"cpu": 4, "memory": "16Gi"}}},
    },
}


def test_a_correct_train_job_has_no_errors() -> None:
    assert custom_resource_errors(JOB) == []


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("spec", "trainer", "numNodez"), 2, "numNodez"),
        (("spec", "trainer", "numNodes"), "two", "is not of type 'integer'"),
        (("spec", "trainer", "numProcPerNode"), "auto", "is not of type 'integer'"),
        (("spec", "trainer", "resourcesPerNode", "limits", "memory"), "16 gigabytes", "does not match"),
        (("spec", "runtimeRef"), {}, "'name' is a required property"),
        (("apiVersion",), "trainer.kubeflow.org/v2", "is not trainer.kubeflow.org/v1alpha1"),
    ],
)
def test_a_wrong_field_is_named(path: tuple[str, ...], value: object, complaint: str) -> None:
    job = copy.deepcopy(JOB)
    place = job
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    errors = custom_resource_errors(job)
    assert len(errors) == 1
    assert complaint in errors[0]


def test_maps_keep_free_keys_and_described_objects_do_not() -> None:
    schema = strict_schema(
        {
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "properties": {
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            },
        }
    )
    assert schema == {
        "type": "object",
        "properties": {
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "port": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        },
        "additionalProperties": False,
    }

"""A compiled pipeline and its checked arguments, complete before Kubeflow is contacted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

import yaml

from v2a_dpo.errors import UserError

#: Python types that an argument of each parameter type may have, and the word for it in messages.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "STRING": ((str,), "text"),
    "NUMBER_INTEGER": ((int,), "a whole number"),
    "NUMBER_DOUBLE": ((float, int), "a number"),
    "BOOLEAN": ((bool,), "true or false"),
    "LIST": ((list,), "a list"),
    "STRUCT": ((dict,), "a mapping"),
}


@dataclass(frozen=True)
class CompiledPipeline:
    """A compiled pipeline: its text, and the specification in it."""

    text: str
    spec: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, text: str) -> CompiledPipeline:
        """The pipeline compiled into `text`, one or two YAML documents of which the first is the specification."""
        # The safe loader written in C: five times as fast.
        return cls(text, next(yaml.load_all(text, Loader=yaml.CSafeLoader)))

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.spec["pipelineInfo"]["name"])

    @property
    def version(self) -> str:
        """A name that is the same for the same compiled text, and different for any other."""
        return f"{self.name}-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}"

    @property
    def images(self) -> list[str]:
        """The container images of all tasks, sorted."""
        executors = self.spec["deploymentSpec"]["executors"].values()
        return sorted({executor["container"]["image"] for executor in executors if "container" in executor})

    @property
    def inputs(self) -> dict[str, Mapping[str, Any]]:
        """The pipeline's inputs by name, as the specification describes them."""
        return dict(self.spec["root"].get("inputDefinitions", {}).get("parameters", {}))

    @property
    def defaults(self) -> dict[str, Any]:
        """The default values of those inputs that have one."""
        return {name: item["defaultValue"] for name, item in self.inputs.items() if "defaultValue" in item}

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments `values`, checked: every one is an input of the right type, and no required one is missing.

        Text for an input of another type is read as YAML. Raises UserError that names the input.
        """
        unknown = sorted(set(values) - set(self.inputs))
        if unknown:
            raise UserError(
                f"The pipeline {self.name} has no input called {', '.join(unknown)}.",
                where="--input",
                remedy=f"Its inputs are {', '.join(self.inputs)}.",
            )
        missing = [
            name
            for name, definition in self.inputs.items()
            if name not in values and not definition.get("isOptional") and "defaultValue" not in definition
        ]
        if missing:
            raise UserError(
                f"The pipeline {self.name} needs {', '.join(missing)}.",
                where="--input",
                remedy=" ".join(f"Give --input {name}=VALUE." for name in missing),
            )
        return {name: _typed(name, value, str(self.inputs[name]["parameterType"])) for name, value in values.items()}


def task_names(spec: Mapping[str, Any]) -> list[str]:
    """The names of a pipeline's tasks that run containers, each after those it waits for.

    `spec` is the specification as compiled, or as the server returns it, with the platform's part beside it.
    """
    spec = spec.get("pipeline_spec", spec)
    components = spec["components"]

    def walk(dag: Mapping[str, Any]) -> Iterator[str]:
        tasks = dag["tasks"]
        for name in TopologicalSorter(
            {name: task.get("dependentTasks", []) for name, task in tasks.items()}
        ).static_order():
            component = components[tasks[name]["componentRef"]["name"]]
            if "dag" in component:
                yield from walk(component["dag"])
            else:
                yield name

    return list(dict.fromkeys(walk(spec["root"]["dag"])))


@dataclass(frozen=True)
class Submission:
    """A run to be started: which pipeline, with which arguments, under which names."""

    compiled: CompiledPipeline
    arguments: Mapping[str, Any]
    experiment: str
    run_name: str
    service_account: str
    #: An existing version on the server, such as one of GitOps; None: the version of the compiled text.
    existing_version: str | None = None

    @property
    def version(self) -> str:
        """The name of the version that runs."""
        return self.existing_version or self.compiled.version

    def description(self) -> str:
        """The submission as YAML."""
        return yaml.safe_dump(
            {
                "pipeline": self.compiled.name,
                "version": self.version,
                "experiment": self.experiment,
                "run": self.run_name,
                "service_account": self.service_account,
                "images": self.compiled.images,
                "arguments": dict(self.arguments),
            },
            sort_keys=False,
            width=120,
        )


def _typed(name: str, value: Any, parameter_type: str) -> Any:
    types, word = _TYPES[parameter_type]
    if isinstance(value, str) and str not in types:
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError as error:
            remedy = f"Give {word}."
            raise UserError(f"The input {name} is not YAML: {value!r}.", where="--input", remedy=remedy) from error
    wrong_boolean = isinstance(value, bool) and bool not in types
    if wrong_boolean or not isinstance(value, types):
        raise UserError(f"The input {name} is {value!r}, not {word}.", where="--input", remedy=f"Give {word}.")
    return value

"""Components are a signature and one call: what each hands to its stage is what the stage takes."""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest
from kfp.dsl.base_component import BaseComponent

import components
from components.definition import GENERATION, ORCHESTRATION, SCORING

FOLDER = Path(components.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "definition"))


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def function_of(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return function


def stage_calls(function):
    """(stage, names of its arguments) of every `run_stage` call."""
    dicts = {
        node.targets[0].id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run_stage":
            arguments = node.args[2]
            arguments = dicts[arguments.id] if isinstance(arguments, ast.Name) else arguments
            yield node.args[0].value, {key.value for key in arguments.keys}


def test_the_file_is_named_after_its_one_component(name):
    component = getattr(import_module(f"components.{name}"), name)
    assert isinstance(component, BaseComponent)
    assert component.description
    assert component.component_spec.implementation.container.image.rpartition("/")[2].rpartition(":")[0] in (
        GENERATION, SCORING, ORCHESTRATION,
    )  # fmt: skip


def test_the_body_is_imports_of_stages_and_one_call(name):
    _, *statements = function_of(name).body  # the docstring comes first
    imports = [item for item in statements if isinstance(item, ast.ImportFrom)]
    assert imports
    assert all(item.module.startswith("v2a_dpo.stages.") for item in imports)
    calls = [
        node
        for node in ast.walk(function_of(name))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in {alias.asname or alias.name for item in imports for alias in item.names}
    ]
    runs = [call for call in calls if call.func.id.islower()]  # a class holds arguments
    assert len(runs) == 1


def test_its_source_stands_alone_as_it_must_in_a_pod(name):
    component = getattr(import_module(f"components.{name}"), name)
    source = component.component_spec.implementation.container.command[-1]
    defined = {}
    exec(compile(source, name, "exec"), defined)
    assert inspect.isfunction(defined[name])


def test_a_stage_gets_what_it_takes(name):
    for stage, given in stage_calls(function_of(name)):
        parameters = inspect.signature(getattr(import_module(f"v2a_dpo.stages.{stage}"), stage)).parameters
        required = {
            key for key, item in parameters.items() if item.default is inspect.Parameter.empty and key != "params"
        }
        assert required <= given, f"{stage} also needs {required - given}"
        assert given <= parameters.keys() - {"params", "progress"}, f"{stage} does not know {given - parameters.keys()}"

"""Components are a signature and one call: what each hands to its stage is what the stage takes."""

import ast
import inspect
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from kfp.dsl.base_component import BaseComponent

import components
from components.definition import GENERATION, ORCHESTRATION, SCORING
from v2a_dpo.orchestration.task import run_stage

STEPS = sorted(path.stem for path in Path(components.__file__).parent.glob("[!_]*.py") if path.stem != "definition")
#: (file, name) -> component; a file's imports define none.
COMPONENTS = {
    (step, name): value
    for step in STEPS
    for name, value in vars(import_module(f"components.{step}")).items()
    if isinstance(value, BaseComponent)
}


@pytest.fixture(params=COMPONENTS, ids=lambda key: key[1])
def component(request):
    return COMPONENTS[request.param]


@pytest.fixture
def function(component):
    return ast.parse(inspect.getsource(component.python_func)).body[0]


def imported(function):
    """What the body imports from the library, by the name it has there."""
    return {
        alias.asname or alias.name: getattr(import_module(item.module), alias.name)
        for item in function.body
        if isinstance(item, ast.ImportFrom)
        for alias in item.names
    }


def calls(function, *names):
    return [node for node in ast.walk(function) if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names]


def given_to_run_stage(function):
    """(stage, names of its arguments) of every `run_stage` call: of `locals()`, and those put together in the call."""
    others = signature(run_stage).parameters.keys()
    for call in calls(function, "run_stage"):
        assert ast.unparse(call.args[1]) == "locals()"
        stage = imported(function)[call.args[0].id]
        own = {argument.arg for argument in function.args.args} & signature(stage).parameters.keys()
        yield stage, own | {item.arg for item in call.keywords if item.arg not in others}


@pytest.mark.parametrize("step", STEPS)
def test_a_file_holds_components_and_nothing_else(step):
    tree = ast.parse(Path(import_module(f"components.{step}").__file__).read_text(encoding="utf-8"))
    docstring, *statements = tree.body
    assert isinstance(docstring, ast.Expr)
    defined = [item for item in statements if not isinstance(item, ast.ImportFrom)]
    assert [item.name for item in defined] == [name for file, name in COMPONENTS if file == step]


def test_every_component_has_a_name_of_its_own():
    names = [name for _, name in COMPONENTS]
    assert len(names) == len(set(names))
    assert names == [component.python_func.__name__ for component in COMPONENTS.values()]


def test_a_component_is_described_and_runs_in_an_image_of_ours(component):
    assert component.description
    assert component.component_spec.implementation.container.image.rpartition("/")[2].rpartition(":")[0] in (
        GENERATION, SCORING, ORCHESTRATION,
    )  # fmt: skip


def test_the_body_is_imports_of_the_library_and_one_call(function):
    imports = [item for item in function.body if isinstance(item, ast.ImportFrom)]
    assert imports
    assert all(item.module.startswith("v2a_dpo.") for item in imports)
    run_by_the_engine = calls(function, "run_stage")
    ran = run_by_the_engine or calls(function, "stage")
    assert len(ran) == 1
    stage = imported(function)["stage"]
    assert inspect.isfunction(stage)
    assert stage.__module__.startswith(("v2a_dpo.stages.", "v2a_dpo.orchestration."))


def test_its_source_stands_alone_as_it_must_in_a_pod(component):
    source = component.component_spec.implementation.container.command[-1]
    name = component.python_func.__name__
    defined = {}
    exec(compile(source, name, "exec"), defined)
    assert inspect.isfunction(defined[name])


def test_a_stage_gets_what_it_takes(function):
    for stage, given in given_to_run_stage(function):
        parameters = signature(stage).parameters
        required = {key for key, item in parameters.items() if item.default is inspect.Parameter.empty}
        assert required <= given, f"{stage} also needs {required - given}"
        assert given <= parameters.keys() - {"progress"}, f"{stage} does not take {given - parameters.keys()}"


def test_no_argument_of_a_component_is_lost(function):
    read = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for _, given in given_to_run_stage(function):
        # `finished` only makes a task wait for the workers
        assert {argument.arg for argument in function.args.args} - given - read <= {"finished"}


def test_a_component_runs_its_stage_with_its_own_arguments():
    cells = COMPONENTS["sweep_cells", "plan_sweep"].python_func(
        params={"align": {"beta": 600}}, betas=[200.0], thresholds=[0.5, 0.9], grid=True
    )
    assert cells == ["beta-200-threshold-0.5", "beta-200-threshold-0.9"]

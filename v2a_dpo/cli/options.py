"""What the commands share: parameters, default paths, progress bars, and how a result is printed.

A command is a function of its options. A parameter that is a dataclass stands for a group of options, its fields; one
that is a `Call` gives parameters and progress. A command that returns a `Stage` is no more than its options: the stage
is called with them. `AT` names the default paths: the words in capitals stand for the options of that name, so that
`AT.clips("SPLIT")` is `ROOT/clips/SPLIT`, with `--root` and `--split` put in.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args

import typer

from v2a_dpo.artifacts.layout import Layout
from v2a_dpo.artifacts.location import exists
from v2a_dpo.cli.console import ProgressBars

if TYPE_CHECKING:
    from v2a_dpo.config import Params

ParamsFile = Annotated[
    str, typer.Option("--params", metavar="FILE", help="The parameters of all stages (YAML), local or s3://.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override one parameter, e.g. align.beta=200. Repeatable."),
]
KeepArtifacts = Annotated[
    bool,
    typer.Option(
        "--keep-artifacts", help="Keep finished work made by other code; lineage and model card then name that code."
    ),
]
Root = Annotated[
    str,
    typer.Option(
        metavar="FOLDER", help="The loop's artifacts: ROOT of the default paths. Every FOLDER is local or s3://."
    ),
]
PARAMS_FILE = "params.yaml"
ROOT = "artifacts"
AT = Layout("ROOT")
#: A stage that is called with the parameters, the options by name, and `progress`; what it returns is printed.
Stage: TypeAlias = Callable[..., object]


def folder(help_text: str, *names: str, **settings: Any) -> typer.models.OptionInfo:
    """An option that names a folder, local or s3://."""
    return typer.Option(*names, help=f"{help_text}.", metavar="FOLDER", **settings)


def file(help_text: str, *names: str, **settings: Any) -> typer.models.OptionInfo:
    """An option that names a file."""
    return typer.Option(*names, help=f"{help_text}.", metavar="FILE", **settings)


@dataclass(frozen=True)
class Call:
    """Parameters, progress and layout for a command."""

    params: Params
    progress: ProgressBars
    #: The artifacts under `--root`.
    layout: Layout


def register(
    app: typer.Typer, panel: str | None, *commands: Callable[..., object], keep_artifacts: bool = False
) -> None:
    """Adds commands to a panel of the help; with `keep_artifacts` they have that option.

    A command of a `Call` or a `Stage` gets `--params` and `--set`, one with default paths gets `--root`. What it
    returns is printed, by the first process if several share the work. An optional input (`... | None`) for which no
    path is named counts only if its default path exists. The function `list_` is the command `list`.
    """
    for command in commands:
        name = command.__name__.rstrip("_").replace("_", "-")
        app.command(name, rich_help_panel=panel)(_typer_command(command, keep_artifacts=keep_artifacts))


def read_params(path: str, overrides: list[str] | None, *, keep_artifacts: bool = False) -> Params:
    """The parameters in the file `path`, local or remote, with the command line's overrides.

    Imported late, so that `--help` answers at once.
    """
    from v2a_dpo.params import load_params

    changes = [*(overrides or []), *(["keep_artifacts=true"] if keep_artifacts else [])]
    if "://" not in path:
        return load_params(path, changes)
    from v2a_dpo.artifacts.location import read_bytes

    with NamedTemporaryFile(suffix=".yaml") as copy:
        copy.write(read_bytes(path))
        copy.flush()
        return load_params(copy.name, changes)


def _typer_command(function: Callable[..., object], *, keep_artifacts: bool) -> Callable[..., None]:
    """The function that Typer reads and calls: with the shared options in its signature."""
    signature = inspect.signature(function, eval_str=True)
    own = [each for each in signature.parameters.values() if each.annotation is not Call]
    takes_call, is_stage = len(own) < len(signature.parameters), signature.return_annotation == Stage
    options = [option for each in own for option in _options(each)]
    shared: dict[str, tuple[object, object]] = {}
    if any("ROOT" in str(each.default) for each in options) and "root" not in [each.name for each in options]:
        shared["root"] = (Root, ROOT)
    if takes_call or is_stage:
        shared |= {"params": (ParamsFile, PARAMS_FILE), "overrides": (Overrides, None)}
    if keep_artifacts:
        shared["keep_artifacts"] = (KeepArtifacts, False)

    def run(context: typer.Context, **entered: Any) -> None:
        root = entered.get("root") or ROOT
        values = _with_default_paths(context, options, entered, root)
        arguments = {each.name: _argument(each, values) for each in own}
        if "params" not in shared:
            result = function(**arguments)
        else:
            params = read_params(
                entered["params"], entered["overrides"], keep_artifacts=entered.get("keep_artifacts", False)
            )
            with ProgressBars() as progress:
                calls = [Call(params, progress, Layout(root))] if takes_call else []
                result = function(*calls, **arguments)
                if is_stage:
                    result = result(params, **arguments, progress=progress)  # type: ignore[operator]
        if result is not None and os.environ.get("RANK", "0") == "0":
            typer.echo(result)

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("context", kind, annotation=typer.Context)]
    parameters += [each.replace(kind=kind) for each in options]
    parameters += [inspect.Parameter(name, kind, annotation=a, default=d) for name, (a, d) in shared.items()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and is_dataclass(annotation)


def _options(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """The options that a parameter of a command stands for: itself, or the fields of its group."""
    group = parameter.annotation
    return list(inspect.signature(group, eval_str=True).parameters.values()) if _is_group(group) else [parameter]


def _argument(parameter: inspect.Parameter, values: dict[str, Any]) -> Any:
    """What a command gets for a parameter: the option's value, or the group made of its fields' values."""
    group = parameter.annotation
    if not _is_group(group):
        return values[parameter.name]
    return group(**{field.name: values[field.name] for field in fields(group)})


def _with_default_paths(
    context: typer.Context, options: list[inspect.Parameter], entered: dict[str, Any], root: str
) -> dict[str, Any]:
    """The values of a command's own options; in defaults the words in capitals are replaced."""
    words, values = {"ROOT": root}, {}
    for each in options:
        value = entered[each.name]
        source = context.get_parameter_source(each.name)
        if source is not None and source.name == "DEFAULT":
            optional = type(None) in get_args(get_args(each.annotation)[0])
            value = _filled(value, words, optional=optional)
        values[each.name] = value
        if isinstance(value, str):
            words[each.name.upper()] = value
        if each.name == "name":
            words["SPLIT"] = "test" if value.startswith("test-") else value
    return values


def _filled(default: Any, words: dict[str, str], *, optional: bool) -> Any:
    """A default with its words replaced; of an optional one only what exists."""
    if isinstance(default, list | tuple):
        paths = (_filled(each, words, optional=optional) for each in default)
        return [path for path in paths if path is not None]
    if not isinstance(default, str):
        return default
    value = re.sub(r"\b[A-Z]+\b", lambda match: words.get(match[0], match[0]), default)
    return None if optional and value != default and not exists(value) else value

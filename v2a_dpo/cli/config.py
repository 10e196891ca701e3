"""Commands about the parameters: all values of a preset, and the reference of every field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from v2a_dpo.cli.loop import LOOP
from v2a_dpo.cli.options import Call, file, register

Schema = dict[str, Any]

_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_INTRODUCTION = """# Configuration

Every stage reads its sections of one YAML file, `params.yaml` or that of `--params`. `--set align.beta=200` changes
one field for one command. A file may start from another one beside it and state what differs, as in
`base: mmaudio-large-44k.yaml`. `v2a-dpo config show` prints all values.

Defaults are the paper's values where it gives one, with the section in brackets, and our choices elsewhere. This page
is made by `v2a-dpo config reference`.
"""

config = typer.Typer(no_args_is_help=True, help="Parameters: print all values of a preset, or describe every field.")


def show(
    call: Call, output: Annotated[str | None, file("Write this file instead of printing, such as params.yaml")] = None
) -> str:
    """Print all parameters as YAML, in the complete form that DVC needs of params.yaml.

    Example: v2a-dpo config show --params configs/mmaudio-large-44k.yaml --output params.yaml
    """
    import yaml

    from v2a_dpo.artifacts.location import write_atomically
    from v2a_dpo.params import values_of

    head = "# All parameters, by `v2a-dpo config show`; docs/configuration.md describes every field.\n"
    text = head + yaml.safe_dump(values_of(call.params), sort_keys=False)
    if output is None:
        return text.rstrip()
    write_atomically(output, text.encode())
    return output


def reference() -> str:
    """Print the description of every parameter as Markdown: docs/configuration.md.

    Example: v2a-dpo config reference > docs/configuration.md
    """
    from v2a_dpo.config import Params

    schema = Params.model_json_schema()
    models = schema["$defs"]
    sections = {name: model for name, field in schema["properties"].items() if (model := _model_of(field, models))}
    top = {name: field for name, field in schema["properties"].items() if name not in sections}
    lines = [_INTRODUCTION, *_table({"properties": top}, models)]
    for name, model in sections.items():
        lines += [f"\n## {name}\n", model["description"] + "\n", *_table(model, models)]
    return "\n".join(lines)


def _table(model: Schema, models: Schema) -> Iterator[str]:
    yield "| field | default | values | meaning |\n| --- | --- | --- | --- |"
    yield from _rows(model, models)


def _rows(model: Schema, models: Schema, prefix: str = "") -> Iterator[str]:
    """One row per field; those of a section inside a section have its name in front."""
    for name, field in model["properties"].items():
        if inner := _model_of(field, models):
            yield from _rows(inner, models, f"{name}.")
        else:
            default = f"`{_plain(field['default'])}`" if "default" in field else "required"
            yield f"| `{prefix}{name}` | {default} | {', '.join(_values(field))} | {field['description']} |"


def _model_of(field: Schema, models: Schema) -> Schema | None:
    """The section that a field holds, also where it may be absent or is one of several."""
    for part in _parts(field):
        if "$ref" in part:
            return models[part["$ref"].rpartition("/")[2]]
    return None


def _values(field: Schema) -> list[str]:
    """Permitted words and numeric limits of a field."""
    values = []
    for part in _parts(field):
        words = part.get("enum", [part["const"]] if "const" in part else [])
        values += [f"`{word}`" for word in words] + [
            f"{sign} {part[key]:g}" for key, sign in _LIMITS.items() if key in part
        ]
        values += ["`true`, `false`"] if part.get("type") == "boolean" else []
    return values


def _parts(field: Schema) -> Iterator[Schema]:
    """A field's schema, and those of its alternatives, items, keys and values."""
    yield field
    nested = [field.get("items"), field.get("propertyNames"), field.get("additionalProperties")]
    for part in [*field.get("anyOf", []), *field.get("allOf", []), *nested]:
        if isinstance(part, dict):
            yield from _parts(part)


def _plain(value: Any) -> str:
    """A default as YAML writes it on one line."""
    import yaml

    return yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    register(config, "Parameters", show, reference)
    app.add_typer(config, name="config", rich_help_panel=LOOP)

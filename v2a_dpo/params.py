"""Parameters from YAML files and from the command line, and back to plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from v2a_dpo.config import Params
from v2a_dpo.errors import UserError

_FIELDS = "docs/configuration.md describes every field."


def load_params(path: str | Path, overrides: Sequence[str] = ()) -> Params:
    """The parameters in the YAML file `path`, with `overrides` such as `align.beta=200` put on top.

    A file may name another one that it changes, beside it: `base: mmaudio-large-44k.yaml`. Sections merge field by
    field, everything else is replaced. Raises UserError that names each wrong field.
    """
    return params_from(override_params(_content(Path(path)), overrides), where=str(path))


def params_from(content: Mapping[str, Any], *, where: str = "the parameters") -> Params:
    """The parameters with these values, as YAML or JSON gives them; raises UserError that names each wrong field.

    Workflow engines hand on every number as a double: 3.0 counts as 3 where a whole number is meant.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        fields = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise UserError(f"Wrong parameters: {fields}.", where=where, remedy=_FIELDS) from error


def values_of(params: Params) -> dict[str, Any]:
    """The parameters as JSON values for `params_from`, without null, which some workflow engines do not support."""
    return params.model_dump(mode="json", exclude_none=True)


def override_params(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of the parameters' values with `overrides` such as `align.beta=200` put on top."""
    changed: dict[str, Any] = deepcopy(dict(content))
    for override in overrides:
        _override(changed, override)
    return changed


def _content(path: Path, *derived: Path) -> dict[str, Any]:
    """The values in a file, on top of those of its base; `derived` are the files that led to it."""
    remedy = "Start from a file in configs/."
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"The parameters cannot be read: {error}", where=str(path), remedy=remedy) from error
    if not isinstance(content, dict):
        raise UserError("The parameters are not a mapping of sections.", where=str(path), remedy=remedy)
    if (base := content.pop("base", None)) is None:
        return content
    if path in derived:
        raise UserError("The file is its own base.", where=str(path), remedy="Remove one `base` of the circle.")
    return _merged(_content(path.parent / str(base), path, *derived), content)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _merged(base[key], value) for key, value in changes.items() if _are_sections(base.get(key), value)}
    return {**base, **changes, **both}


def _are_sections(*values: object) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _override(content: dict[str, Any], override: str) -> None:
    name, separator, value = override.partition("=")
    if not separator:
        what = f"--set expects section.field=value, got {override!r}."
        raise UserError(what, where="--set", remedy="For example: --set align.beta=200")
    *sections, field = name.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise UserError(f"{section!r} is a field, not a section.", where=f"--set {override}", remedy=_FIELDS)
    try:
        content[field] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"The value of {name} is not valid YAML: {error}", where="--set", remedy=_FIELDS) from error

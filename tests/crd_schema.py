"""Strict JSON schemas of custom resources, made from the OpenAPI schemas in `tests/golden/crds`: what an API server
would refuse, refused here."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

CRDS = Path(__file__).parent / "golden" / "crds"


def strict_schema(openapi: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of one OpenAPI v3 schema of a CustomResourceDefinition, in which a field it does not name is an
    error.

    An API server drops unknown fields in silence, so a misspelt one has no effect; here it is refused. What JSON schema
    cannot say (`x-kubernetes-*`: validation rules, list keys) is left out; an integer-or-string becomes a choice of
    both; an object of which the resource says nothing at all (`metadata`, an empty policy) stays open.
    """
    schema = {key: value for key, value in openapi.items() if not key.startswith("x-kubernetes-") and key != "default"}
    if openapi.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.pop("nullable", False) and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    if "items" in schema:
        schema["items"] = strict_schema(schema["items"])
    if "properties" in schema:
        schema["properties"] = {name: strict_schema(child) for name, child in schema["properties"].items()}
        if not openapi.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = strict_schema(schema["additionalProperties"])
    return schema


@functools.cache
def _validator(kind: str) -> tuple[str, Draft202012Validator]:
    resource = json.loads(next(CRDS.glob(f"{kind}.*.json")).read_text())
    return f"{resource['group']}/{resource['version']}", Draft202012Validator(
        strict_schema(resource["openAPIV3Schema"])
    )


def custom_resource_errors(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with `manifest`, one sentence a place; empty when it would be accepted. Its kind must have a file
    in `golden/crds`."""
    api_version, validator = _validator(manifest["kind"])
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
    if manifest.get("apiVersion") != api_version:
        errors.append(f"$.apiVersion: {manifest.get('apiVersion')} is not {api_version}")
    return errors

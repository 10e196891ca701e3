"""What the program writes as JSON is JSON: `NaN` and `Infinity`, which Python would write, are no part of it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def calls_of_json(source):
    """The calls of `json.dump` and `json.dumps` in a module's source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dump", "json.dumps"):
            yield node


def refuses_nan(call):
    return any(item.arg == "allow_nan" and ast.unparse(item.value) == "False" for item in call.keywords)


def test_no_code_writes_json_that_may_hold_nan():
    files = [
        path
        for folder in ("v2a_dpo", "components", "pipelines", "benchmarks", "docker")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    calls = [(path.relative_to(ROOT), call) for path in files for call in calls_of_json(path.read_text("utf-8"))]
    assert len(calls) > 20
    assert [f"{path}:{call.lineno}" for path, call in calls if not refuses_nan(call)] == []

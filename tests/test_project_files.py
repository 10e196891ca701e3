"""What a contributor meets before the code: the guide, the change log, the citation, templates, checks and CI."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import blocks

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
HOOKS = {
    hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
}
TRACKED = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
    "\0"
)


def parsed(*path: str) -> dict:
    return yaml.safe_load(ROOT.joinpath(*path).read_text(encoding="utf-8"))


def steps(job: str) -> list[dict]:
    return parsed(".github", "workflows", "ci.yml")["jobs"][job]["steps"]


# The guide


def rows_of_parts() -> list[tuple[str, str]]:
    table = GUIDE.split("## Adding a part")[1].split("\n**")[0]
    return re.findall(r"^\| (.+?) \| (.+) \|$", table, re.MULTILINE)[2:]


def test_the_guide_says_where_each_kind_of_part_goes() -> None:
    assert {part for part, _ in rows_of_parts()} >= {"a generator", "a sixth score", "a loss", "a metric", "a stage"}


@pytest.mark.parametrize(("part", "files"), rows_of_parts(), ids=lambda text: text if len(text) < 30 else "")
def test_each_name_in_the_guide_is_defined_in_a_file_of_its_row(part: str, files: str) -> None:
    spans = [span for span in re.findall(r"`([^`]+)`", files) if " " not in span]
    paths = [ROOT / span for span in spans if "/" in span or "." in span]
    source = "\n".join(path.read_text(encoding="utf-8") for path in paths if path.suffix == ".py" and path.exists())
    for name in (span for span in spans if re.fullmatch(r"\w+", span)):
        assert re.search(rf"^(class |def )?{name}\b", source, re.MULTILINE), f"{part}: {name}"


def test_rules_of_the_guide_name_the_tests_that_hold_them() -> None:
    table = GUIDE.split("## Rules of the house")[1].split("\n## ")[0]
    named = re.findall(r"`(tests/[\w/.]+)`", table)
    assert len(named) >= 6
    for name in named:
        path = ROOT / name
        files = [path] if path.is_file() else path.glob("test_*.py")
        assert any("def test_" in file.read_text(encoding="utf-8") for file in files), name


def test_the_proof_that_nothing_moved_compares_what_it_ran() -> None:
    lines = next(block for block in blocks(ROOT / "CONTRIBUTING.md", "console") if "same_results" in block).splitlines()
    roots = [words[words.index("--root") + 1] for words in map(shlex.split, lines) if "--root" in words]
    assert shlex.split(lines[-1]) == ["python", "-m", "benchmarks.same_results", *roots]
    assert len(set(roots)) == 2
    assert all(root.startswith("build/") for root in roots)  # git ignores what is below


def test_commands_of_the_guide_that_run_python_name_modules_that_exist() -> None:
    modules = re.findall(r"python -m ((?:tests|benchmarks)[\w.]*)", GUIDE)
    assert set(modules) == {"benchmarks.same_results", "tests.pipelines.compiled"}
    for module in modules:
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").exists()


# Change log, licence, citation


def test_the_change_log_begins_with_what_is_unreleased() -> None:
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", section) for section in sections[1:])
    kinds = re.findall(r"^### (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_licence_holder_and_version_are_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation, licence = parsed("CITATION.cff"), (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (citation["license"], citation["version"]) == (project["license"], project["version"])
    assert licence.startswith(f"{project['license']} License")
    assert [author["name"] for author in citation["authors"]] == [re.search(r"Copyright \(c\) \d+ (.+)", licence)[1]]


def test_the_citation_has_what_its_format_requires_and_names_the_paper() -> None:
    citation = parsed("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type"} <= citation.keys()
    (paper,) = citation["references"]
    assert {"type", "title", "authors", "year"} <= paper.keys()
    assert paper["title"] in (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    assert all({"family-names", "given-names"} == author.keys() for author in paper["authors"])


# Checks before a commit


def test_checks_before_a_commit_need_no_network() -> None:
    assert [repo["repo"] for repo in parsed(".pre-commit-config.yaml")["repos"]] == ["local"]
    assert {hook["language"] for hook in HOOKS.values()} == {"system", "pygrep", "fail"}


@pytest.mark.parametrize("name", ["ruff-check", "ruff-format"])
def test_a_check_before_a_commit_passes_on_the_repository(name: str) -> None:
    python, *arguments = shlex.split(HOOKS[name]["entry"])
    assert python == ".venv/bin/python"
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_checks_of_programs_before_a_commit_are_those_of_lint() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    lint = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in HOOKS.values() if hook["language"] == "system"] == lint


def test_no_file_of_the_repository_holds_a_private_key_weights_or_media() -> None:
    tracked = [ROOT / name for name in TRACKED if name and (ROOT / name).is_file()]
    if not tracked:
        pytest.skip("not a git checkout")
    key = re.compile(HOOKS["no-private-key"]["entry"].encode())
    assert [path for path in tracked if key.search(path.read_bytes())] == []
    heavy, spared = (re.compile(HOOKS["no-weights-or-media"][name]) for name in ("files", "exclude"))
    assert [name for name in TRACKED if heavy.search(name) and not spared.search(name)] == []


def test_the_check_for_private_keys_finds_one() -> None:
    kinds = ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ")
    assert all(re.search(HOOKS["no-private-key"]["entry"], f"-----BEGIN {kind}PRIVATE KEY-----") for kind in kinds)


# Templates


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_are_valid(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    fields = [item for item in form["body"] if item["type"] != "markdown"]
    assert {item["type"] for item in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert all(item["attributes"]["label"] for item in fields)
    names = [item["id"] for item in fields]
    assert len(set(names)) == len(names)
    assert any(item.get("validations", {}).get("required") for item in fields)


def test_there_is_a_form_for_bugs_and_one_for_features() -> None:
    assert [path.stem for path in FORMS] == ["bug", "feature"]


def test_the_pull_request_s_checklist_asks_for_tests_documents_change_log_and_proof() -> None:
    items = re.findall(r"^- \[ \] (.+)$", (ROOT / ".github" / "pull_request_template.md").read_text(), re.MULTILINE)
    for word in ("Tests", "Documents", "CHANGELOG.md", "benchmarks.same_results"):
        assert any(word in item for item in items), word


# CI


def test_ci_runs_the_two_commands_of_the_readme_and_measures_coverage() -> None:
    commands = blocks(ROOT / "README.md", "console")[0].splitlines()
    jobs = parsed(".github", "workflows", "ci.yml")["jobs"]
    run = [step["run"] for job in jobs for step in steps(job) if "run" in step]
    assert sorted(run) == sorted([*commands, "make coverage"])
    assert all(re.search(rf"^{command.split()[1]}:", MAKEFILE, re.MULTILINE) for command in run)


def test_ci_may_only_read_stops_by_itself_and_pins_its_actions() -> None:
    workflow = parsed(".github", "workflows", "ci.yml")
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60
        used = [step["uses"] for step in steps(name) if "uses" in step]
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)
        python = next(step["with"]["python-version"] for step in steps(name) if "setup-python" in step.get("uses", ""))
        assert f"PYTHON ?= python{python}\n" in MAKEFILE


def test_ci_keeps_the_demo_s_report() -> None:
    upload = next(step for step in steps("demo") if "upload-artifact" in step.get("uses", ""))
    assert upload["with"]["path"] in (ROOT / "README.md").read_text(encoding="utf-8")
    assert upload["with"]["if-no-files-found"] == "error"


# Benchmarks


def test_each_benchmark_and_each_result_has_its_row() -> None:
    table = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+\.py)` \| .+ \| `(.+?)` \| .+ \| (.+) \|$", table, re.MULTILINE)
    programs = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    assert sorted(name for name, _, _ in rows) == sorted(programs)
    linked = [link for _, _, cell in rows for link in re.findall(r"\]\((.+?)\)", cell)]
    results = {f"results/{path.name}" for path in (ROOT / "benchmarks" / "results").iterdir()}
    assert sorted(linked) == sorted(results)
    for name, command, _ in rows:
        assert command.startswith((f"python -m benchmarks.{name.removesuffix('.py')}", "make "))

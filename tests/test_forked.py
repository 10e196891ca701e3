"""A forked program has its own sources, folder, environment, output and exit code."""

import os

from tests import forked

PROGRAM = """
import os, sys
import v2a_dpo
print(v2a_dpo.__file__, os.getcwd(), os.environ.get("GIVEN"), "HOME" in os.environ, sys.argv[1:], os.getpid())
print("a message", file=sys.stderr)
sys.exit(3)
"""


def test_a_forked_program_is_a_process_of_its_own_that_runs_the_sources_of_its_path(tmp_path):
    package = tmp_path / "sources" / "v2a_dpo"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "program.py").write_text(PROGRAM)
    folder = tmp_path / "folder"
    folder.mkdir()
    environment = {"PYTHONPATH": str(package.parent), "GIVEN": "yes"}
    done = forked.run("v2a_dpo.program", "an argument", folder=folder, environment=environment)
    *told, process = done.stdout.split()
    assert told == [str(package / "__init__.py"), str(folder), "yes", "False", "['an", "argument']"]
    assert int(process) != os.getpid()
    assert (done.stderr, done.returncode) == ("a message\n", 3)

"""The command line: `v2a-dpo <stage>`, and `v2a-dpo run` for the whole loop."""

from v2a_dpo.cli.main import main

__all__ = ["main"]

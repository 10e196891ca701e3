"""`python -m v2a_dpo.cli`: the command line without its entry-point script."""

from v2a_dpo.cli.main import main

if __name__ == "__main__":
    main()

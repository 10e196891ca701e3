"""One module per stage: it reads artifacts, calls the library and writes artifacts, whoever drives it."""

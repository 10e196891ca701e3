"""One module a stage: it reads artifacts, calls the library and writes artifacts, whoever drives it."""

"""Compiling takes a second a pipeline, so tests that need the same one again get its text from memory."""

from pathlib import Path

import pytest

from pipelines import compilation


def remember_compilations(patch: pytest.MonkeyPatch) -> None:
    """Puts a memory before the real compilation."""
    compile_pipeline = compilation.compile_pipeline
    texts: dict[str, str] = {}

    def remembered(name: str, *, output: str | Path, **options: object) -> Path:
        key = f"{name} {sorted(options.items())}"
        if key not in texts:
            texts[key] = compile_pipeline(name, output=output, **options).read_text()
        path = Path(output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[key])
        return path

    patch.setattr(compilation, "compile_pipeline", remembered)

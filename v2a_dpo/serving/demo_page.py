"""A page in the browser: drop a video, and hear the base and the aligned model side by side.

Everything comes from this machine: no fonts or scripts from elsewhere, no statistics, no public link.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from v2a_dpo.serving.comparison import ModelComparison
from v2a_dpo.serving.requests import MAX_PROMPT_CHARACTERS, MIN_DURATION_S, RequestRefused, VideoRequest
from v2a_dpo.serving.service import client_errors
from v2a_dpo.serving.settings import ServingSettings

_KEPT_S = 3600
_MODELS = ("base", "aligned")
#: Trimming would fetch an encoder from elsewhere.
_CSS = """
.spectrograms { display: block; width: 100%; max-width: 760px; margin: 0 auto; height: auto; overflow: visible; }
.spectrograms text { fill: var(--body-text-color); font-size: 10px; font-family: inherit; }
@media (min-width: 700px) { .spectrograms text { font-size: 6.5px; } }
.spectrograms text.label { font-weight: 600; }
.spectrograms .playhead { display: none; }
footer { display: none !important; }
#video button[aria-label^="Trim"], #video button[aria-label^="Reset"] { display: none; }
"""
_WORDS = """# Hear the difference
Drop a video, say what should be heard, and listen to the generator before and after preference alignment. Both start
from the same noise."""


def serve_demo(settings: ServingSettings, *, base: str, aligned: str, host: str, port: int) -> None:
    """Shows the page at `http://host:port` until it is stopped; what was uploaded is deleted then.

    Raises UserError when a model is missing.
    """
    comparison = ModelComparison(dict(zip(_MODELS, (base, aligned), strict=True)), settings)
    with TemporaryDirectory(prefix="v2a-dpo-demo-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        import gradio

        page = _page(comparison, Path(uploads))
        page.queue(max_size=1 + settings.max_waiting, default_concurrency_limit=1, api_open=False)
        page.launch(
            quiet=True,
            server_name=host,
            server_port=port,
            share=False,
            max_file_size=settings.max_upload_bytes,
            theme=gradio.themes.Default(
                primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
            ),
            css=_CSS,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            ssr_mode=False,
        )


def _page(comparison: ModelComparison, uploads: Path) -> Any:
    import gradio

    settings = comparison.settings
    with gradio.Blocks(title="Base and aligned", analytics_enabled=False, delete_cache=(_KEPT_S, _KEPT_S)) as page:
        gradio.Markdown(_WORDS)
        with gradio.Row():
            with gradio.Column(min_width=300):
                video = gradio.Video(label="Video", sources=["upload"], height=280, buttons=[], elem_id="video")
            with gradio.Column(min_width=300):
                prompt = gradio.Textbox(
                    label="Prompt (may be empty)",
                    info="for example: a dog barks twice",
                    max_length=MAX_PROMPT_CHARACTERS,
                    elem_id="prompt",
                )
                with gradio.Row():
                    seconds = gradio.Slider(
                        MIN_DURATION_S,
                        settings.max_duration_s,
                        settings.duration_s,
                        step=0.5,
                        label="Seconds",
                        min_width=200,
                    )
                    guidance = gradio.Slider(
                        1.0,
                        min(10.0, settings.max_guidance_scale),
                        settings.guidance_scale,
                        step=0.1,
                        label="Guidance",
                        min_width=200,
                    )
                seed = gradio.Number(0, label="Seed", precision=0, minimum=0)
                generate = gradio.Button("Generate", variant="primary", elem_id="generate")
        outputs: list[Any] = []
        with gradio.Row():
            for name in _MODELS:
                with gradio.Column(min_width=300):
                    label = name.capitalize()
                    outputs.append(
                        gradio.Video(
                            label=label, interactive=False, height=280, buttons=["download"], elem_id=f"{name}-video"
                        )
                    )
                    outputs.append(
                        gradio.Audio(
                            label=f"{label}, sound alone",
                            interactive=False,
                            buttons=["download"],
                            elem_id=f"{name}-audio",
                        )
                    )
        outputs.append(gradio.HTML(elem_id="spectrograms"))
        generate.click(
            _answer(comparison, uploads),
            inputs=[video, prompt, seconds, guidance, seed],
            outputs=outputs,
            show_progress_on=[outputs[0], outputs[2]],
            api_visibility="private",
        )
    return page


def _answer(comparison: ModelComparison, uploads: Path) -> Callable[..., list[str]]:
    """What the button does: the files and the figure that its outputs show, or a message."""
    import gradio

    # Whatever path the page sends, only what was uploaded to it is read.
    settings = comparison.settings.model_copy(update={"video_root": str(uploads)})

    def answer(
        video: str | None,
        prompt: str,
        seconds: float,
        guidance_scale: float,
        seed: int | None,
        progress: Any = gradio.Progress(),  # noqa: B008 - how Gradio wants it
    ) -> list[str]:
        if video is None:
            raise gradio.Error("Drop a video first.", print_exception=False)
        row = {
            "video_path": video,
            "prompt": prompt,
            "seconds": seconds,
            "guidance_scale": guidance_scale,
            "seed": seed,
        }
        try:
            with client_errors():
                request = VideoRequest.of(row, settings)
                folder = Path(mkdtemp(dir=uploads))
                compared = comparison.compare(
                    request, folder=folder, step=lambda share, text: progress(share, desc=text)
                )
        except RequestRefused as refusal:
            raise gradio.Error(escape(str(refusal)), print_exception=False) from refusal
        files = [
            str(path)
            for name in _MODELS
            for path in (compared.soundtracks[name].video, compared.soundtracks[name].sound)
        ]
        return [*files, compared.spectrograms]

    return answer

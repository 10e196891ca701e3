"""The demo page: a video is uploaded, and the base and the aligned model generate its sound side by side.

Everything comes from this machine: no fonts or scripts from elsewhere, no statistics, no public link.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from v2a_dpo.generation.one_video import OneVideoGenerator
from v2a_dpo.media.audio import write_wav
from v2a_dpo.media.spectrogram_figure import Panel, spectrogram_figure
from v2a_dpo.serving.packaging import model_folder
from v2a_dpo.serving.requests import MAX_PROMPT_CHARACTERS, MIN_DURATION_S, RequestRefused, VideoRequest
from v2a_dpo.serving.service import client_errors, sound_for
from v2a_dpo.serving.settings import ServingSettings

#: Seconds after which Gradio deletes uploads and results.
_KEPT_S = 3600
#: The page's style. The buttons to trim a video are hidden: they would fetch an encoder from elsewhere.
_CSS = """
.spectrograms { display: block; width: 100%; max-width: 760px; margin: 0 auto; height: auto; overflow: visible; }
.spectrograms text { fill: var(--body-text-color); font-size: 10px; font-family: inherit; }
@media (min-width: 700px) { .spectrograms text { font-size: 6.5px; } }
.spectrograms text.label { font-weight: 600; }
.spectrograms .playhead { display: none; }
footer { display: none !important; }
#video button[aria-label^="Trim"], #video button[aria-label^="Reset"] { display: none; }
"""
_INTRODUCTION = """# Base and aligned
Upload a video, describe the sound, and compare the generator before and after preference alignment. Both models start
from the same noise."""


def serve_demo(settings: ServingSettings, *, base: str, aligned: str, host: str, port: int) -> None:
    """Shows the page at `http://host:port` until it is stopped; uploads are deleted then.

    `base` and `aligned` are model folders, packaged models or addresses in the registry. Raises UserError when a model
    is missing.
    """
    generators = {}
    for name, source in {"base": base, "aligned": aligned}.items():
        with model_folder(source) as folder:
            generators[name] = OneVideoGenerator(folder, device=settings.device, precision=settings.precision)
    with TemporaryDirectory(prefix="v2a-dpo-demo-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        import gradio

        # Whatever path the page sends, only its own uploads are read.
        page = _page(generators, settings.model_copy(update={"video_root": uploads}))
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


def _page(generators: Mapping[str, OneVideoGenerator], settings: ServingSettings) -> Any:
    """The page's elements; `settings.video_root` is the folder of its uploads and results."""
    import gradio

    greatest_scale = min(10.0, settings.max_guidance_scale)
    with gradio.Blocks(title="Base and aligned", analytics_enabled=False, delete_cache=(_KEPT_S, _KEPT_S)) as page:
        gradio.Markdown(_INTRODUCTION)
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
                        MIN_DURATION_S, settings.max_duration_s, settings.duration_s,
                        step=0.5, label="Seconds", min_width=200,
                    )  # fmt: skip
                    guidance = gradio.Slider(
                        1.0, greatest_scale, settings.guidance_scale, step=0.1, label="Guidance", min_width=200
                    )
                seed = gradio.Number(0, label="Seed", precision=0, minimum=0)
                generate = gradio.Button("Generate", variant="primary", elem_id="generate")
        outputs: list[Any] = []
        shown: dict[str, Any] = {"interactive": False, "buttons": ["download"]}
        with gradio.Row():
            for name in generators:
                with gradio.Column(min_width=300):
                    label = name.capitalize()
                    outputs.append(gradio.Video(label=label, height=280, elem_id=f"{name}-video", **shown))
                    outputs.append(gradio.Audio(label=f"{label}, sound alone", elem_id=f"{name}-audio", **shown))
        outputs.append(gradio.HTML(elem_id="spectrograms"))
        generate.click(
            _answer(generators, settings),
            inputs=[video, prompt, seconds, guidance, seed],
            outputs=outputs,
            show_progress_on=[outputs[0], outputs[2]],
            api_visibility="private",
        )
    return page


def _answer(generators: Mapping[str, OneVideoGenerator], settings: ServingSettings) -> Callable[..., list[str]]:
    """The function behind the button: it returns the files and the figure that the outputs show, or raises a message
    for the user."""
    import gradio

    def answer(
        video: str | None,
        prompt: str,
        seconds: float,
        guidance_scale: float,
        seed: int | None,
        progress: Any = gradio.Progress(),  # noqa: B008 - Gradio finds it by its default
    ) -> list[str]:
        if video is None:
            raise gradio.Error("Upload a video first.", print_exception=False)
        row = {
            "video_path": video, "prompt": prompt, "seconds": seconds, "guidance_scale": guidance_scale, "seed": seed,
        }  # fmt: skip
        try:
            with client_errors():
                request = VideoRequest.of(row, settings)
                folder, files, panels = Path(mkdtemp(dir=settings.video_root)), [], []
                for number, (name, generator) in enumerate(generators.items()):
                    title = name.capitalize()
                    progress(number / len(generators), desc=f"{title} model")
                    mp4, wav = folder / f"{name}.mp4", folder / f"{name}.wav"
                    sounds = sound_for(generator, request, settings, mp4=mp4)
                    write_wav(str(wav), sounds.audio[0], sounds.sample_rate)
                    files += [str(mp4), str(wav)]
                    panels.append(Panel(title, name, sounds.audio[0], sounds.sample_rate))
                progress(1.0, desc="Spectrograms")
                description = f"Mel spectrograms of {' and '.join(generators)}, on one scale of loudness"
                return [*files, spectrogram_figure(panels, description=description)]
        except RequestRefused as refusal:
            raise gradio.Error(escape(str(refusal)), print_exception=False) from refusal

    return answer

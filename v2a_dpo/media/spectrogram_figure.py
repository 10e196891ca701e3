"""Mel spectrograms of one clip's real, base and aligned audio above each other, with marks at the true events.

The form of the paper's Fig. 2. It is an SVG whose colours outside the pictures follow the page's scheme.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2a_dpo.media.audio import resample
from v2a_dpo.media.mel import LogMel, MelSettings

_NUM_MELS = 64
_FRAMES_PER_S = 100
#: Decades below the loudest bin that are still shown.
_SHOWN_DECADES = 3.0
_WIDTH, _PANEL_HEIGHT, _GAP, _TOP, _BOTTOM = 360, 74, 20, 28, 26


@dataclass(frozen=True)
class Panel:
    """One spectrogram: its title, the page's class that colours it, and mono audio `[S]` at `sample_rate`."""

    title: str
    css_class: str
    audio: Tensor
    sample_rate: int


def spectrogram_figure(panels: Sequence[Panel], *, event_times_s: Sequence[float] = (), description: str) -> str:
    """The figure as SVG text; all panels share the time axis, the lowest sample rate's band, and the colour scale.

    `event_times_s` are drawn through all panels, with a triangle above the first. `description` is for screen
    readers.
    """
    sample_rate = min(panel.sample_rate for panel in panels)
    mels = [_log_mel(resample(panel.audio, panel.sample_rate, sample_rate), sample_rate) for panel in panels]
    duration_s = max(mel.shape[1] for mel in mels) / _FRAMES_PER_S
    loudest = max(float(mel.max()) for mel in mels)
    height = _TOP + len(panels) * (_PANEL_HEIGHT + _GAP) + _BOTTOM - _GAP
    parts = [
        f'<svg class="spectrograms" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(description)}">'
    ]
    for row, (panel, mel) in enumerate(zip(panels, mels, strict=True)):
        top = _TOP + row * (_PANEL_HEIGHT + _GAP)
        width = _WIDTH * mel.shape[1] / _FRAMES_PER_S / duration_s
        parts.append(
            f'<text class="label {panel.css_class}" x="0" y="{top - 5 if row else 13}">{escape(panel.title)}</text>'
            f'<image x="0" y="{top}" width="{width:.2f}" height="{_PANEL_HEIGHT}" preserveAspectRatio="none" '
            f'href="{_picture(mel, loudest)}"/>'
        )
    bottom = height - _BOTTOM
    for time_s in event_times_s:
        x = _WIDTH * time_s / duration_s
        parts.append(f'<path class="event-mark" d="M{x:.2f} {_TOP} l-4 -8 h8 z"/>')
        parts.append(f'<line class="event" x1="{x:.2f}" x2="{x:.2f}" y1="{_TOP}" y2="{bottom}"/>')
    parts.append(_time_axis(duration_s, bottom))
    parts.append(
        f'<line class="playhead" x1="0" x2="0" y1="{_TOP}" y2="{bottom}" data-duration="{duration_s:.3f}"/></svg>'
    )
    return "".join(parts)


def _log_mel(audio_S: Tensor, sample_rate: int) -> NDArray[np.float32]:
    hop = sample_rate // _FRAMES_PER_S
    n_fft = 2 ** round(np.log2(sample_rate * 0.04))
    settings = MelSettings(sample_rate, n_fft, hop, _NUM_MELS, 0.0, sample_rate / 2, "10")
    with torch.inference_mode():
        return np.asarray(LogMel(settings)(audio_S[None])[0].numpy())


def _picture(mel_MT: NDArray[np.float32], loudest: float) -> str:
    from matplotlib.image import imsave

    sink = BytesIO()
    imsave(sink, mel_MT, cmap="magma", vmin=loudest - _SHOWN_DECADES, vmax=loudest, origin="lower", format="png")
    return f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"


def _time_axis(duration_s: float, bottom: float) -> str:
    step_s = next(step for step in (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 600.0) if duration_s / step <= 8)
    marks = []
    for tick in range(int(duration_s / step_s + 1e-6) + 1):
        x = _WIDTH * tick * step_s / duration_s
        anchor = "start" if tick == 0 else "end" if x > _WIDTH - 8 else "middle"
        unit = " s" if tick == 0 else ""
        marks.append(
            f'<text class="tick" x="{x:.2f}" y="{bottom + 14}" text-anchor="{anchor}">{tick * step_s:g}{unit}</text>'
        )
    return "".join(marks)

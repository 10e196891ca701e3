"""The real PESQ (ITU-T P.862.2, package `pesq`), called in worker processes: its C code can end the process.

Nothing but NumPy is imported here, so that a worker starts at once.
"""

from __future__ import annotations

import numpy as np

#: The only rate of the wide-band mode.
PESQ_RATE = 16_000
#: The algorithm needs a quarter of a second, and overruns an array after about 50 utterances: 20 s hold fewer.
MIN_DURATION_S, MAX_DURATION_S = 0.25, 20.0
#: One step of 16 bits: signals that never exceed it are silent.
_SILENCE = 1.0 / 32768


def why_not(reference: np.ndarray, degraded: np.ndarray) -> str | None:
    """Why PESQ cannot compare these mono signals `[S]` at 16 kHz, or None where it can.

    Called first: some of these make the package raise errors of other kinds or return nonsense.
    """
    for name, signal in (("reference", reference), ("generated", degraded)):
        if not np.isfinite(signal).all():
            return f"the {name} sound is not finite"
        if signal.size < MIN_DURATION_S * PESQ_RATE:
            return f"the {name} sound is shorter than {MIN_DURATION_S} s"
        if np.abs(signal).max() <= _SILENCE:
            return f"the {name} sound is silent"
    return None


def wide_band_pesq(signals: tuple[np.ndarray, np.ndarray]) -> float | str:
    """PESQ (MOS-LQO, 1.0 to 4.64) of `(reference, degraded)`, mono `[S]` at 16 kHz; the reason as text where it fails.

    Raises MemoryError when memory runs out, which is no property of the sounds.
    """
    from pesq import OutOfMemoryError, PesqError, pesq

    try:
        return float(pesq(PESQ_RATE, *signals, "wb"))
    except OutOfMemoryError as error:
        raise MemoryError("PESQ found no memory") from error
    except (PesqError, ValueError) as error:
        message = error.args[0] if error.args else ""
        text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
        return f"PESQ refuses: {text or type(error).__name__}"

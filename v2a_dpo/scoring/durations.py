"""Whether candidates sound as long as the clips that they are scored against."""

from __future__ import annotations

from v2a_dpo.errors import UserError

#: A generator's sound ends with its last latent step, which is at most 32 ms long, not with the clip.
_TOLERANCE_S = 0.05


def check_sound(sound_s: float, *, clip_s: float, where: str) -> None:
    """Raises UserError unless a generated sound of `sound_s` seconds belongs to a clip of `clip_s` seconds."""
    if abs(sound_s - clip_s) > _TOLERANCE_S:
        raise UserError(
            f"The sounds last {sound_s:.2f} s, the clip {clip_s:.2f} s.",
            where=where,
            remedy="Give the clips that the candidates were made for; clips of another "
            "prepare.duration_s need new candidates.",
        )

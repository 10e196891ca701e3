"use strict";
// One clip of the gallery plays at a time: its silent video together with the chosen soundtrack.
(() => {
  const LARGEST_DRIFT_S = 0.06;
  let stopCurrent = () => {};
  document.body.classList.add("scripted");

  for (const clip of document.querySelectorAll(".clip")) {
    const video = clip.querySelector("video");
    const playhead = clip.querySelector(".playhead");
    const sounds = new Map([...clip.querySelectorAll("audio")].map((audio) => [audio.dataset.track, audio]));
    const buttons = [...clip.querySelectorAll("button")];
    const width = clip.querySelector(".spectrograms").viewBox.baseVal.width;
    let sound = null;

    const show = () => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(sounds.get(button.dataset.track) === sound));
      clip.classList.toggle("playing", sound !== null);
    };
    const follow = () => {
      if (sound === null) return;
      if (!video.ended && !sound.paused && Math.abs(video.currentTime - sound.currentTime) > LARGEST_DRIFT_S) {
        video.currentTime = Math.min(sound.currentTime, video.duration || 0);
      }
      const x = (width * sound.currentTime) / Number(playhead.dataset.duration);
      playhead.setAttribute("transform", `translate(${x.toFixed(2)} 0)`);
      requestAnimationFrame(follow);
    };
    const stop = () => {
      if (sound === null) return;
      sound.pause();
      video.pause();
      sound = null;
      show();
    };
    const play = (track) => {
      // Changing the soundtrack goes on where the other one is, so that two can be compared at the same moment.
      const from = sound === null || sound.ended ? 0 : sound.currentTime;
      if (sound === null) stopCurrent();
      else sound.pause();
      const wasPlaying = sound !== null;
      stopCurrent = stop;
      sound = sounds.get(track);
      sound.currentTime = from;
      video.currentTime = from;
      show();
      const chosen = sound;
      Promise.all([chosen.play(), video.play()]).catch(() => {
        if (sound === chosen) stop();
      });
      if (!wasPlaying) requestAnimationFrame(follow);
    };

    clip.querySelector(".controls").hidden = false;
    for (const audio of sounds.values()) audio.addEventListener("ended", () => audio === sound && stop());
    for (const button of buttons) {
      button.addEventListener("click", () => (button.getAttribute("aria-pressed") === "true" ? stop() : play(button.dataset.track)));
    }
  }
})();

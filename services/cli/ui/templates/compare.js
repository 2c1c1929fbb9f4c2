"use strict";
// Each video pauses at its own time of the same event, and all play from there.
const buttons = [...document.querySelectorAll("button[data-event]")], play = document.getElementById("play");
const videos = [...document.querySelectorAll("video")];
function show(button) {
  for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
  for (const figure of document.querySelectorAll("figure")) {
    const video = figure.querySelector("video"), at = video && video.getAttribute("data-" + button.dataset.event);
    figure.querySelector(".at").textContent = at ? ` · ${button.textContent} at ${Number(at).toFixed(2)} s` : " · not found in this video";
    if (!video) continue;
    video.pause();
    video.currentTime = at ? Number(at) + 0.001 : 0;
  }
}
for (const button of buttons) button.addEventListener("click", () => show(button));
if (buttons.length) show(buttons[0]);
if (play) play.addEventListener("click", () => {
  const still = videos.every((video) => video.paused);
  for (const video of videos) still ? video.play() : video.pause();
});
for (const video of videos) for (const kind of ["play", "pause"]) video.addEventListener(kind, () => {
  if (play) play.textContent = videos.every((other) => other.paused) ? "Play" : "Pause";
});

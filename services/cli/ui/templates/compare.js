"use strict";
// Every film stands at its own moment of the same event, and all play from there.
const buttons = [...document.querySelectorAll("button[data-event]")], play = document.getElementById("play");
const films = [...document.querySelectorAll("video")];
function show(button) {
  for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
  for (const figure of document.querySelectorAll("figure")) {
    const video = figure.querySelector("video"), at = video && video.getAttribute("data-" + button.dataset.event);
    figure.querySelector(".at").textContent = at ? ` · ${button.textContent} at ${Number(at).toFixed(2)} s` : " · not found in this film";
    if (!video) continue;
    video.pause();
    video.currentTime = at ? Number(at) + 0.001 : 0;
  }
}
for (const button of buttons) button.addEventListener("click", () => show(button));
if (buttons.length) show(buttons[0]);
if (play) play.addEventListener("click", () => {
  const still = films.every((film) => film.paused);
  for (const film of films) still ? film.play() : film.pause();
});
for (const film of films) for (const kind of ["play", "pause"]) film.addEventListener(kind, () => {
  if (play) play.textContent = films.every((other) => other.paused) ? "Play" : "Pause";
});

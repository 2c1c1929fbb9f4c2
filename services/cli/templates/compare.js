"use strict";
// Every film stands at its own moment of the same event.
const buttons = [...document.querySelectorAll("button[data-event]")];
function show(button) {
  for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
  for (const figure of document.querySelectorAll("figure")) {
    const video = figure.querySelector("video"), at = video && video.getAttribute("data-" + button.dataset.event);
    figure.querySelector(".at").textContent = at ? ` · ${button.textContent} at ${Number(at).toFixed(2)} s` : "";
    if (!at) continue;
    video.pause();
    video.currentTime = Number(at) + 0.001;
  }
}
for (const button of buttons) button.addEventListener("click", () => show(button));
if (buttons.length) show(buttons[0]);

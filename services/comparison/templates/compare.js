"use strict";
// Keeps all videos at one time before or after the same event: at a button, on the slider, frame by frame, in play.
(() => {
  // Times in the reader's zone, where the page has them.
  const date = { day: "numeric", month: "short" }, dated = [...document.querySelectorAll("[data-day]")];
  const differ = (times) => new Set(times).size;
  const byDay = new Intl.DateTimeFormat(undefined, date);
  // Two films of one day are told apart by the time of the day.
  const areOfOneDay = differ(dated.map((one) => byDay.format(new Date(one.dataset.day)))) < differ(dated.map((one) => one.dataset.day));
  const day = areOfOneDay ? new Intl.DateTimeFormat(undefined, { ...date, hour: "numeric", minute: "2-digit" }) : byDay;
  const when = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const one of dated) one.textContent = day.format(new Date(one.dataset.day));
  for (const one of document.querySelectorAll("[data-when]")) one.textContent = when.format(new Date(one.dataset.when));

  const find = (id) => document.getElementById(id);
  const videos = [...document.querySelectorAll("video")], slider = find("slider"), play = find("play");
  if (!videos.length) return;
  const events = [...document.querySelectorAll("button[data-event]")];
  const speeds = [...document.querySelectorAll("button[data-speed]")];
  const STEP = Number(slider.step);
  // A frame's time is rounded to milliseconds: a seek to this much later shows the frame itself, never the one before.
  const INSIDE_FRAME = 0.001;
  let zeros = [], now = 0, timer = null, chosen = null;

  const press = (buttons, one) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === one));
  };

  // Two times of the chosen event: its own, and that of the frame that shows it; empty if the video has no such event.
  function times(video) {
    const text = chosen && video.getAttribute(`data-${chosen.dataset.event}`);
    return text ? text.split(" ").map(Number) : [];
  }

  // The stretch that all videos have, in seconds from the event. A video without the event runs from its beginning.
  function align() {
    const found = videos.map((video) => times(video)[1]), known = found.filter((time) => time !== undefined);
    const before = known.length ? Math.min(...known) : 0;
    zeros = found.map((time) => (time === undefined ? before : time));
    slider.min = -Math.floor(before / STEP) * STEP;
    const after = videos.map((video, k) => (Number.isFinite(video.duration) ? video.duration - zeros[k] : Infinity));
    const end = Math.min(...after);
    slider.max = Number.isFinite(end) ? Math.max(0, Math.floor((end - STEP / 2) / STEP) * STEP) : 0;
  }

  function say() {
    const name = chosen ? chosen.textContent : "the beginning";
    const size = `${Math.abs(now).toFixed(2)} s`;
    const words = Math.abs(now) < STEP / 2 ? `At ${name}` : now < 0 ? `${size} before ${name}` : `${size} after ${name}`;
    find("clock").textContent = words;
    slider.value = now;
    slider.setAttribute("aria-valuetext", words);
  }

  function show(time) {
    now = Math.min(Number(slider.max), Math.max(Number(slider.min), time));
    for (const [k, video] of videos.entries()) video.currentTime = zeros[k] + now + INSIDE_FRAME;
    say();
  }

  function stop() {
    cancelAnimationFrame(timer);
    timer = null;
    play.textContent = "Play";
    for (const video of videos) video.pause();
  }

  function start() {
    if (now >= Number(slider.max) - STEP / 2) show(Number(slider.min));
    play.textContent = "Pause";
    for (const video of videos) video.play().catch(() => {});
    const tick = () => {
      now = videos[0].currentTime - zeros[0];
      for (const [k, video] of videos.entries())
        if (Math.abs(video.currentTime - zeros[k] - now) > STEP) video.currentTime = zeros[k] + now;
      if (now >= Number(slider.max) || videos.some((video) => video.ended)) { stop(); show(now); return; }
      say();
      timer = requestAnimationFrame(tick);
    };
    timer = requestAnimationFrame(tick);
  }

  function choose(button) {
    stop();
    chosen = button;
    press(events, button);
    for (const figure of document.querySelectorAll(".videos figure")) {
      const video = figure.querySelector("video");
      if (!video) continue;
      const [seconds] = times(video);
      figure.querySelector(".at").textContent =
        seconds === undefined ? ` · no ${button.textContent.toLowerCase()} found` : ` · ${button.textContent} at ${seconds.toFixed(2)} s`;
    }
    align();
    show(0);
  }

  function pace(button) {
    press(speeds, button);
    for (const video of videos) video.playbackRate = Number(button.dataset.speed);
  }

  // The last film over the first one, both at the moment of the slider.
  const over = find("over");
  over?.addEventListener("click", () => {
    const is = document.querySelector(".videos").classList.toggle("over");
    over.setAttribute("aria-pressed", String(is));
    find("mixed").hidden = !is;
  });
  find("mix")?.addEventListener("input", (event) => document.querySelector(".videos").style.setProperty("--mix", event.target.value));

  const halt = (act) => () => { stop(); act(); };
  for (const button of events) button.addEventListener("click", () => choose(button));
  for (const button of speeds) button.addEventListener("click", () => pace(button));
  play.addEventListener("click", () => (timer ? (stop(), show(Math.round(now / STEP) * STEP)) : start()));
  find("back").addEventListener("click", halt(() => show(now - STEP)));
  find("on").addEventListener("click", halt(() => show(now + STEP)));
  slider.addEventListener("input", () => { const wanted = Number(slider.value); stop(); show(wanted); });
  for (const video of videos) video.addEventListener("loadedmetadata", () => { align(); if (!timer) show(now); });
  // The address of a film at a server is valid for minutes: a new one is asked for, at the same place.
  for (const video of videos) video.addEventListener("error", () => {
    if (!video.currentTime || video.src.startsWith("data:")) return;
    stop();
    video.load();
  });
  pace(speeds[0]);
  if (events.length) choose(events[0]); else { align(); show(0); }
})();

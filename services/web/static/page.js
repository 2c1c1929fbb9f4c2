"use strict";
// Times in the visitor's zone, the film player, streams of shown tabs, and the sign-in of an open page that has expired.

const writtenDay = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const written = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function writeTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const words = (time.dataset.day ? writtenDay : written).format(new Date(time.dateTime));
    if (time.textContent !== words) time.textContent = words;
  }
  for (const text of root.querySelectorAll("text[data-day]")) text.textContent = writtenDay.format(new Date(text.dataset.day));
}

function setUpPlayer(player) {
  const [video, at, play, clock] = ["video", ".at", ".play", ".clock"].map((name) => player.querySelector(name));
  const frame = 1 / Number(player.dataset.fps);
  const session = player.closest("#session");
  // The report in the frame keeps the moment of the film. It has no origin in its sandbox: its window tells it apart.
  const report = () => session.querySelector(".report iframe")?.contentWindow;
  const send = (began) => report()?.postMessage({ seconds: video.currentTime, began }, "*");
  let loop = 0, led = false;
  const show = () => {
    if (!led) send(false);
    clock.textContent = `${video.currentTime.toFixed(2)} s`;
    if (video.duration) at.value = video.currentTime / video.duration;
    loop = video.paused ? 0 : requestAnimationFrame(show);
  };
  const go = (seconds, byReport = false) => {
    led = byReport;
    video.pause();
    // Inside the frame, not at its edge.
    video.currentTime = Math.min(Math.max(0, seconds), video.duration || seconds) + 0.001;
  };
  const setSpeed = (button) => {
    video.playbackRate = Number(button.dataset.speed);
    for (const other of player.querySelectorAll("[data-speed]")) other.setAttribute("aria-pressed", String(other === button));
  };
  video.defaultPlaybackRate = 0.25;
  setSpeed(player.querySelector("[data-speed='0.25']"));
  play.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  video.addEventListener("click", () => play.click());
  for (const kind of ["play", "pause"]) video.addEventListener(kind, () => {
    play.textContent = video.paused ? "Play" : "Pause";
    if (kind === "play") { led = false; send(true); }
    if (!loop) show();
  });
  for (const kind of ["seeked", "loadedmetadata"]) video.addEventListener(kind, show);
  // The address of a film is valid for minutes: a new one is asked for, at the same place.
  video.addEventListener("error", () => {
    if (!video.currentTime) return;
    const place = video.currentTime;
    video.load();
    video.addEventListener("loadedmetadata", () => (video.currentTime = place), { once: true });
  });
  addEventListener("message", ({ source, data }) => {
    if (!player.isConnected || source !== report()) return;
    if (Number.isFinite(data?.seconds)) go(data.seconds, true);
    else send(!video.paused);
  });
  at.addEventListener("input", () => go(Number(at.value) * (video.duration || 0)));
  session.addEventListener("click", (event) => {
    if (!player.isConnected) return;
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.time) { go(Number(button.dataset.time)); player.scrollIntoView({ block: "nearest" }); }
    if (button.dataset.step) go(video.currentTime - 0.001 + Number(button.dataset.step) * frame);
    if (button.dataset.speed) setSpeed(button);
    if (button.matches(".take")) button.parentElement.querySelector("input").value = video.currentTime.toFixed(3);
  });
  const first = session.querySelector(".findings [data-time]") || session.querySelector(".moments [data-time]");
  if (first) video.addEventListener("loadedmetadata", () => go(Number(first.dataset.time)), { once: true });
}

// The comparison, a document of this origin in a frame, is as high as it needs: the page scrolls and prints as one.
function fit(frame) {
  const inside = frame.contentDocument?.querySelector("main");
  if (!inside) return;
  const measure = () => (frame.style.height = `${inside.getBoundingClientRect().height + 4}px`);
  new ResizeObserver(measure).observe(inside);
  measure();
}
for (const frame of document.querySelectorAll("iframe.whole")) {
  frame.addEventListener("load", () => fit(frame));
  if (frame.contentDocument?.readyState === "complete") fit(frame);
}

const players = new WeakSet();
function setUp(root) {
  writeTimes(root);
  for (const player of root.querySelectorAll(".player")) {
    if (players.has(player)) continue;
    players.add(player);
    setUpPlayer(player);
  }
}

setUp(document);
document.addEventListener("htmx:after:swap", () => setUp(document));
// A new link is copied at once, where the browser still allows it after the click that asked for it.
function copyLink(button) {
  const link = button.parentElement.querySelector(".link");
  link.select();
  const said = () => (button.textContent = "Copied");
  if (navigator.clipboard) navigator.clipboard.writeText(link.value).then(said, () => {});
  // Without TLS, at a network's address, browsers offer the older call alone.
  else if (document.execCommand("copy")) said();
}
document.addEventListener("htmx:after:swap", () => {
  const made = document.querySelector(".copy:not(.offered)");
  if (!made) return;
  made.classList.add("offered");
  made.focus();
  copyLink(made);
});
document.addEventListener("click", (event) => {
  if (event.target.closest(".print")) window.print();
  const copy = event.target.closest(".copy");
  if (copy) copyLink(copy);
});
// A browser opens six connections to one server. Streams are open in the tab that is shown alone: a tab that opens in the
// background connects when it is shown first, and htmx pauses those of a tab that is hidden.
const connected = new WeakSet();
function connect() {
  if (document.hidden) return;
  for (const streamed of document.querySelectorAll("[hx-sse\\:connect]")) {
    if (connected.has(streamed)) continue;
    connected.add(streamed);
    // Not bubbling: a stream may lie inside another one.
    htmx.trigger(streamed, "shown", {}, false);
  }
}
document.addEventListener("htmx:after:process", connect);
document.addEventListener("visibilitychange", connect);
// A network that was away leaves a stream open on which nothing arrives. Every stream has an event at least every 20 s:
// after a silence, and when the network is back, the stream is ended, and htmx opens it again.
const STREAM_SILENCE = 60e3;
const heard = new WeakMap();
for (const kind of ["htmx:after:sse:connection", "htmx:before:sse:message"])
  document.addEventListener(kind, (event) => heard.set(event.target, performance.now()));
function reopen(longest) {
  for (const streamed of document.querySelectorAll("[hx-sse\\:connect]"))
    if (performance.now() - (heard.get(streamed) ?? Infinity) > longest) streamed._htmx?.sse?.reader?.cancel();
}
setInterval(() => reopen(STREAM_SILENCE), 10e3);
addEventListener("online", () => reopen(0));
// A deletion can be undone for a minute; a reload does not offer it again.
for (const undo of document.querySelectorAll(".undo")) {
  const place = new URL(location);
  place.searchParams.delete("deleted");
  history.replaceState(null, "", place);
  setTimeout(() => undo.remove(), 60e3);
}
// What is refused for a missing sign-in leads to the login, and back to this page. By `application/json` a login in front
// of the page answers a script with 401, not with a page of its own.
document.addEventListener("htmx:config:request", (event) => (event.detail.ctx.request.headers.Accept += ", application/json"));
document.addEventListener("htmx:sse:error", (event) => {
  if (event.detail.status === 401) location.reload();
});
document.addEventListener("htmx:response:error", (event) => {
  if (event.detail.ctx.response.status === 401) location.reload();
});

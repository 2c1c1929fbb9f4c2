"use strict";
// A box around the player in the first picture of the film: drawn with a pointer, moved with the arrow keys, or chosen
// among the people whom the analysis found.

const STEP = 0.02, SMALLEST = 0.03, FIRST_SECONDS = 0.05;
const HOW = "Draw a box around the player in the picture. With the keyboard, the arrow keys move it, and Shift with an arrow changes its size.";

// Lays an element on the picture inside a video, which may be wider or higher.
function cover(video, element) {
  const scale = Math.min(video.clientWidth / video.videoWidth, video.clientHeight / video.videoHeight);
  const [width, height] = [video.videoWidth * scale, video.videoHeight * scale];
  Object.assign(element.style, {
    left: `${video.offsetLeft + (video.clientWidth - width) / 2}px`, top: `${video.offsetTop + (video.clientHeight - height) / 2}px`,
    width: `${width}px`, height: `${height}px`,
  });
}

function put(frame, box) {
  ["left", "top", "width", "height"].forEach((side, k) => (frame.style[side] = `${100 * box[k]}%`));
}

// Numbers the people in the first picture. A click on one chooses it, as its button does.
function markPeople(form) {
  const player = document.querySelector(".player"), video = player.querySelector("video");
  const area = document.createElement("div");
  area.className = "area people";
  area.setAttribute("aria-hidden", "true");
  for (const [k, button] of form.querySelectorAll("button[name=box]").entries()) {
    const frame = document.createElement("div");
    frame.className = "box";
    frame.textContent = k + 1;
    put(frame, button.value.split(",").map(Number));
    frame.addEventListener("click", () => button.click());
    area.append(frame);
  }
  player.append(area);
  const show = () => {
    area.hidden = !form.isConnected || !video.paused || video.currentTime > FIRST_SECONDS;
    if (video.videoWidth) cover(video, area);
  };
  for (const kind of ["loadeddata", "play", "pause", "seeked"]) video.addEventListener(kind, show);
  new ResizeObserver(show).observe(video);
  show();
}

function setUpBox(form) {
  const button = form.querySelector(".draw"), field = form.elements.box, say = form.querySelector(".drawn");
  const player = document.querySelector(".player"), video = player.querySelector("video");
  const area = document.createElement("div"), frame = document.createElement("div");
  area.className = "area";
  area.tabIndex = 0;
  area.setAttribute("role", "application");
  area.setAttribute("aria-label", HOW);
  frame.className = "box";
  area.append(frame);
  let box = null, from = null;

  function show(next) {
    box = next;
    frame.hidden = !box;
    field.value = box ? box.map((share) => share.toFixed(4)).join(",") : "";
    if (box) put(frame, box);
    say.textContent = box ? "The player is in the box." : HOW;
  }

  function close() {
    area.remove();
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Show the player in the first picture";
  }

  button.addEventListener("click", () => {
    if (area.isConnected) { close(); show(null); say.textContent = ""; return; }
    video.pause();
    video.currentTime = 0;
    player.append(area);
    cover(video, area);
    show(box);
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Take the box away";
    area.focus({ preventScroll: true });
    player.scrollIntoView({ block: "nearest" });
  });
  // The box belongs to the first picture.
  for (const kind of ["play", "seeked"]) video.addEventListener(kind, () => {
    if (area.isConnected && (video.currentTime > FIRST_SECONDS || !video.paused)) close();
  });
  new ResizeObserver(() => { if (area.isConnected) cover(video, area); }).observe(video);

  const at = (event) => {
    const edges = area.getBoundingClientRect();
    const share = (place, start, size) => Math.min(1, Math.max(0, (place - start) / size));
    return [share(event.clientX, edges.left, edges.width), share(event.clientY, edges.top, edges.height)];
  };
  area.addEventListener("pointerdown", (event) => { area.setPointerCapture(event.pointerId); from = at(event); });
  area.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = at(event), size = [Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])];
    if (Math.min(...size) >= SMALLEST) show([Math.min(to[0], from[0]), Math.min(to[1], from[1]), ...size]);
  });
  for (const kind of ["pointerup", "pointercancel"]) area.addEventListener(kind, () => (from = null));
  area.addEventListener("keydown", (event) => {
    const across = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key] || 0, down = { ArrowUp: -STEP, ArrowDown: STEP }[event.key] || 0;
    if (!across && !down) return;
    event.preventDefault();
    let [left, top, width, height] = box || [0.35, 0.1, 0.3, 0.8];
    if (event.shiftKey) { width += across; height += down; } else { left += across; top += down; }
    width = Math.min(1, Math.max(SMALLEST, width));
    height = Math.min(1, Math.max(SMALLEST, height));
    show([Math.min(1 - width, Math.max(0, left)), Math.min(1 - height, Math.max(0, top)), width, height]);
  });
}

const boxes = new WeakSet();
function setUpBoxes() {
  for (const form of document.querySelectorAll("form.correct")) {
    if (boxes.has(form) || !form.querySelector(".draw")) continue;
    boxes.add(form);
    setUpBox(form);
  }
  for (const form of document.querySelectorAll("form.people")) {
    if (boxes.has(form)) continue;
    boxes.add(form);
    markPeople(form);
  }
}
setUpBoxes();
document.addEventListener("htmx:after:swap", setUpBoxes);

"use strict";
// A box around the player in the first picture of the film: drawn with a pointer, or moved with the arrow keys.

const STEP = 0.02, SMALLEST = 0.03, FIRST_SECONDS = 0.05;
const HOW = "Draw a box around the player in the picture. With the keyboard, the arrow keys move it, and Shift with an arrow changes its size.";

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

  // The picture inside the element, which may be wider or higher.
  function place() {
    const scale = Math.min(video.clientWidth / video.videoWidth, video.clientHeight / video.videoHeight);
    const [width, height] = [video.videoWidth * scale, video.videoHeight * scale];
    Object.assign(area.style, {
      left: `${video.offsetLeft + (video.clientWidth - width) / 2}px`, top: `${video.offsetTop + (video.clientHeight - height) / 2}px`,
      width: `${width}px`, height: `${height}px`,
    });
  }

  function show(next) {
    box = next;
    frame.hidden = !box;
    field.value = box ? box.map((share) => share.toFixed(4)).join(",") : "";
    if (box) ["left", "top", "width", "height"].forEach((side, k) => (frame.style[side] = `${100 * box[k]}%`));
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
    place();
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
  new ResizeObserver(() => { if (area.isConnected) place(); }).observe(video);

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
}
setUpBoxes();
document.addEventListener("htmx:after:swap", setUpBoxes);

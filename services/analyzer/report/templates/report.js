// Steps through the skeletons of a film, and keeps the slider, the cursors of the plots and the film in sync. Inside a page
// that plays the film, the page's film too: each sends {seconds} of its moment, and the page {began} where its film plays.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  for (const time of document.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime()))
      time.textContent = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "short" }).format(at);
  }
  if (!find("play")) return;
  const [figure, film, slider, go] = ["figure", "film", "slider", "go"].map(find);
  const svg = (name, parent) => parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  const draw = (element, attributes) => {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  };
  // A frame's time is rounded to milliseconds: a seek to this much later shows the frame itself, never the one before.
  const INSIDE_FRAME = 0.001;
  const SLOW = 0.25, { width: WIDTH, left: LEFT, right: RIGHT } = data.box;

  const picture = svg("image", figure);
  const bones = data.bones.map(([, , side]) => {
    const bone = svg("line", figure);
    bone.setAttribute("class", `bone ${side}`);
    return bone;
  });
  const head = svg("circle", figure);
  head.setAttribute("class", "head");
  const plots = [...document.querySelectorAll("figure.plot")].map((element, k) => ({
    ...data.plots[k], element, cursor: element.querySelector(".cursor"), at: element.querySelector("output"),
    group: element.closest("details"),
  }));
  let now = 0, timer = null;

  const nearest = (times, t) => {
    let low = 0, high = times.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < t) low = middle + 1; else high = middle;
    }
    return low && t - times[low - 1] <= times[low] - t ? low - 1 : low;
  };

  function skeleton(k) {
    const frame = data.frames[k], faint = new Set(data.faint[k]);
    const t = data.times[k];
    const inside = data.boxes.find(({ span }) => t >= span[0] && t <= span[1]);
    const box = inside ? inside.box : [0, 0, ...data.size];
    const thick = Math.max(box[2], box[3]) / 110;
    draw(figure, { viewBox: box.join(" ") });
    for (const [i, bone] of bones.entries()) {
      const [a, b] = data.bones[i];
      bone.style.display = frame ? "" : "none";
      if (!frame) continue;
      draw(bone, { x1: frame[2 * a], y1: frame[2 * a + 1], x2: frame[2 * b], y2: frame[2 * b + 1] });
      draw(bone, { "stroke-width": faint.has(a) || faint.has(b) ? thick / 3 : thick });
    }
    head.style.display = frame ? "" : "none";
    if (frame) draw(head, { cx: frame[0], cy: frame[1], r: 2 * thick });
    const still = data.stills.length ? data.stills[nearest(data.stills.map(({ time }) => time), t)] : null;
    const shows = still && Math.abs(still.time - t) < 0.02;
    picture.style.display = shows ? "" : "none";
    figure.classList.toggle("on-film", Boolean(shows));
    if (shows) {
      const [x, y, width, height] = still.box;
      draw(picture, { x, y, width, height, preserveAspectRatio: "none", href: `data:image/jpeg;base64,${still.jpeg}` });
    }
    find("unseen").textContent = frame ? "" : "the player is not seen here";
  }

  function cursors(t) {
    for (const { element, cursor, at, span, readout, digits, sign } of plots) {
      const part = (t - span[0]) / (span[1] - span[0]);
      const inside = part >= 0 && part <= 1;
      cursor.style.display = inside ? "" : "none";
      const x = LEFT + part * (WIDTH - LEFT - RIGHT);
      if (inside) draw(cursor, { x1: x, x2: x });
      const times = readout.map(([time]) => time), k = nearest(times, t);
      const read = inside && Math.abs(times[k] - t) < 0.06;
      at.textContent = read ? readout[k][1].toFixed(digits) + sign : "";
      element.dataset.at = inside ? t.toFixed(3) : "";
    }
  }

  // t: the requested moment, which may lie between two frames.
  function show(k, t) {
    now = Math.max(0, Math.min(k, data.times.length - 1));
    t ??= data.times[now];
    skeleton(now);
    cursors(t);
    slider.value = now;
    const words = `${t.toFixed(2)} s`;
    slider.setAttribute("aria-valuetext", words);
    find("clock").textContent = words;
    if (!film.hidden && film.readyState && film.paused) film.currentTime = data.times[now] + INSIDE_FRAME;
    return t;
  }

  // A report in a sandbox has no origin, but its address has that of the page around it.
  const embedded = parent !== window && location.protocol.startsWith("http");
  const send = (message) => embedded && parent.postMessage(message, location.origin);
  const seek = (k, t) => send({ seconds: show(k, t) });

  function openGroup(t) {
    const group = plots.find(({ span, group }) => group && t >= span[0] && t <= span[1]);
    if (group) for (const details of document.querySelectorAll("details.group")) details.open = details === group.group;
  }

  function follow({ seconds, began }) {
    if (began) stop();
    if (timer || !Number.isFinite(seconds)) return;
    openGroup(seconds);
    show(nearest(data.times, seconds), seconds);
  }

  function stop() {
    cancelAnimationFrame(timer);
    timer = null;
    go.setAttribute("aria-pressed", "false");
    go.textContent = "Play slowly";
  }

  function play() {
    seek(now === data.times.length - 1 ? 0 : now);
    const from = data.times[now], started = performance.now();
    go.setAttribute("aria-pressed", "true");
    go.textContent = "Stop";
    const tick = (clock) => {
      const t = from + SLOW * (clock - started) / 1000;
      const k = nearest(data.times, t);
      if (k !== now) seek(k);
      if (t >= data.times[data.times.length - 1]) stop();
      else timer = requestAnimationFrame(tick);
    };
    timer = requestAnimationFrame(tick);
  }

  function jump(t) {
    stop();
    openGroup(t);
    seek(nearest(data.times, t), t);
    find("play").scrollIntoView({ block: "start" });
    slider.focus({ preventScroll: true });
  }

  document.querySelector(".screen").hidden = false;
  document.documentElement.classList.add("live");
  slider.max = data.times.length - 1;
  slider.addEventListener("input", () => { stop(); seek(Number(slider.value)); });
  go.addEventListener("click", () => (timer ? stop() : play()));
  find("back").addEventListener("click", () => { stop(); seek(now - 1); });
  find("on").addEventListener("click", () => { stop(); seek(now + 1); });
  for (const button of document.querySelectorAll("button.jump"))
    button.addEventListener("click", () => jump(Number(button.dataset.time)));
  for (const { element, span } of plots)
    element.querySelector("svg").addEventListener("click", (event) => {
      const { left, width } = event.currentTarget.getBoundingClientRect();
      const part = ((event.clientX - left) / width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
      stop();
      seek(nearest(data.times, span[0] + Math.min(1, Math.max(0, part)) * (span[1] - span[0])));
    });

  // The film may be saved beside this page. The page loads it only after a click.
  const opener = find("open-film");
  opener.hidden = location.protocol !== "file:";
  function closeFilm() {
    film.hidden = true;
    opener.setAttribute("aria-pressed", "false");
    opener.textContent = "Film beside it";
  }
  film.addEventListener("loadeddata", () => show(now));
  film.addEventListener("error", () => {
    closeFilm();
    find("unseen").textContent = "overlay.mp4 is not in the folder of this page";
  });
  opener.addEventListener("click", () => {
    if (!film.hidden) {
      closeFilm();
      return;
    }
    film.hidden = false;
    opener.setAttribute("aria-pressed", "true");
    opener.textContent = "Close the film";
    if (film.readyState) show(now);
    else {
      film.preload = "auto";
      film.src = "overlay.mp4";
    }
  });

  const first = document.querySelector(".first .jump, .strip .jump, .events .jump");
  const start = first ? Number(first.dataset.time) : data.times[0];
  show(nearest(data.times, start), start);
  if (embedded) addEventListener("message", ({ source, origin, data }) => {
    if (source === parent && origin === location.origin) follow(data);
  });
  send({});
})();

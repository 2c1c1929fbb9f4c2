"use strict";
// Sends films from the browser to S3, several at once, and continues an upload that was interrupted.
//
//   film ─▶ POST /uploads ─┬─ one PUT ──────────────────────────────────────────▶ complete
//                          └─ parts that have not arrived: hash ─▶ sign ─▶ PUT ─▶ complete
//
// The ids of an upload are kept in this browser. The same film, chosen again after a reload, continues it.

const HEAD_BYTES = 1280, WHOLE_HASH_BYTES = 100e6, AT_ONCE = 3, LONGEST_PAUSE = 15e3;
// Without a byte or an answer for this long, a connection is taken for dead. Slow lines buffer megabytes.
const SILENCE = 180e3;
// The boxes that an MP4 may begin with. A length beyond the last number is unknown.
const MP4 = ["ftyp", "moov", "mdat", "free", "skip", "wide", "pnot", "styp", "uuid"];
const MOST_BOXES = 1000, MOST_INDEX_BYTES = 32 * 2**20, MOST_SECONDS = 1e6;
const STORE = "crease-uploads", LAST = "crease-discipline";
const drop = document.getElementById("drop"), list = document.getElementById("films"), all = document.getElementById("all");
const say = document.getElementById("say");

const stored = () => JSON.parse(localStorage.getItem(STORE) || "{}");
function keep(key, value) {
  const uploads = stored();
  if (value) uploads[key] = value; else delete uploads[key];
  localStorage.setItem(STORE, JSON.stringify(uploads));
}
const sizeOf = (bytes) => bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
// Without TLS, at a network's address, browsers offer neither crypto.subtle nor locks.
async function sha256(blob) {
  const bytes = await blob.arrayBuffer();
  return crypto.subtle ? hex(await crypto.subtle.digest("SHA-256", bytes)) : sha256Plain(new Uint8Array(bytes));
}
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return hex(bytes.buffer).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
// Films that are sent at once and name one player make one player.
const newPlayers = new Map();
function playerOf(name) {
  const key = name.trim();
  if (!newPlayers.has(key)) newPlayers.set(key, uuid());
  return newPlayers.get(key);
}
const alone = (name, options, act) => (navigator.locks ? navigator.locks.request(name, options, act) : act({}));
const stopped = () => new DOMException("", "AbortError");

class Refusal extends Error {}
class Expired extends Error {}
class PartsLost extends Error {}

function pause(attempt, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, Math.min(LONGEST_PAUSE, 500 * 2 ** attempt) * (0.5 + Math.random() / 2));
    addEventListener("online", resolve, { once: true });
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(stopped()); }, { once: true });
  });
}

// Calls the page; waits while it cannot be reached or the sign-in has expired.
async function ask(path, body, upload) {
  for (let attempt = 0; ; attempt++) {
    upload.signal.throwIfAborted();
    let reply = null, words = {};
    try {
      // By this header a login in front of the page answers 401, not with a page of its own.
      const headers = { accept: "application/json", "content-type": "application/json" };
      const signal = AbortSignal.timeout(SILENCE);
      reply = await fetch(path, body === undefined ? { headers, signal } : { method: "POST", headers, signal, body: JSON.stringify(body) });
      words = await reply.json();
    } catch { /* the line or the page is down */ }
    if (reply && reply.ok) return words;
    if (reply && reply.status !== 401 && reply.status < 500) throw new Refusal(words.sentence || "The page refused this film.");
    upload.show(reply && reply.status === 401 ? "Your sign-in has expired. Sign in in another tab; the upload continues by itself." : "No connection. The upload continues by itself.");
    await pause(attempt, upload.signal);
  }
}

function put(request, blob, progress, signal) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open("PUT", request.url);
    for (const [name, value] of Object.entries(request.headers)) xhr.setRequestHeader(name, value);
    let dead = 0;
    const heard = () => {
      clearTimeout(dead);
      dead = setTimeout(() => { xhr.abort(); resolve(0); }, SILENCE);
    };
    xhr.upload.addEventListener("progress", (event) => { heard(); progress(event.loaded); });
    xhr.addEventListener("loadend", () => clearTimeout(dead));
    xhr.addEventListener("load", () => resolve(xhr.status));
    xhr.addEventListener("error", () => resolve(0));
    signal.addEventListener("abort", () => { xhr.abort(); reject(stopped()); }, { once: true });
    heard();
    xhr.send(blob);
  });
}

// Puts until S3 has the bytes. 412: an earlier PUT, whose answer was lost, has stored them.
async function deliver(request, blob, progress, upload) {
  for (let attempt = 0; ; attempt++) {
    upload.signal.throwIfAborted();
    const status = await put(request, blob, progress, upload.signal);
    if (status === 200 || status === 412) return;
    if (status === 403) throw new Expired();
    if (status === 404) throw new PartsLost();
    if (status >= 400 && status < 500 && ![400, 408, 409, 429].includes(status)) throw new Refusal(`S3 refused the film (${status}).`);
    progress(0);
    upload.show("No connection. The upload continues by itself.");
    await pause(attempt, upload.signal);
  }
}

class Upload {
  constructor(card, file, key, fields) {
    Object.assign(this, { card, file, key, fields });
    this.sent = new Map();
    this.bar = card.querySelector("progress");
    this.state = card.querySelector(".state");
    this.start();
  }

  get signal() { return this.stopper.signal; }
  show(words) { this.state.textContent = words; }
  count(part, bytes) {
    this.sent.set(part, bytes);
    const sum = [...this.sent.values()].reduce((all, each) => all + each, 0);
    this.bar.value = 100 * sum / this.file.size;
    this.show(`${sizeOf(sum)} of ${sizeOf(this.file.size)}`);
  }

  start() {
    this.stopper = new AbortController();
    // Two tabs do not send one film twice. After a pause, the end of the paused attempt is awaited.
    alone(`upload ${this.key}`, { ifAvailable: !this.wasStarted }, (lock) => {
      if (!lock) return this.fail("Another tab is sending this film.");
      this.wasStarted = true;
      return this.send().catch((error) => {
        if (error.name === "AbortError") return;
        // What was refused is begun anew by another attempt.
        if (error instanceof Refusal) keep(this.key, null);
        this.fail(error instanceof Refusal ? error.message : `The film cannot be sent: ${error.message || error.name}.`);
      });
    });
  }

  async send() {
    this.show("Reading the film");
    const ids = stored()[this.key] || { session: uuid(), request: uuid(), player: playerOf(this.fields.player), fields: this.fields };
    keep(this.key, ids);
    const hash = crypto.subtle && this.file.size < WHOLE_HASH_BYTES ? await sha256(this.file) : "";
    const head = new Uint8Array(await this.file.slice(0, HEAD_BYTES).arrayBuffer());
    const order = { ...ids.fields, name: this.file.name, size: this.file.size, sha256: hash, head: btoa(String.fromCharCode(...head)), session_request: ids.session, request: ids.request, player_request: ids.player };
    let begun = await ask("/uploads", order, this);
    this.job = begun.job;
    for (;;) {
      try {
        if (begun.plan) await this.sendParts(begun.plan); else await deliver(begun.put, this.file, (bytes) => this.count(0, bytes), this);
        break;
      } catch (error) {
        if (!(error instanceof Expired || error instanceof PartsLost)) throw error;
        begun = await ask("/uploads", order, this);
      }
    }
    this.show("Checking the film");
    await ask(`/uploads/${this.job}/complete`, {}, this);
    keep(this.key, null);
    this.card.remove();
    offerAll();
    // Nothing else to say or to send: on to what the film shows, which appears there by itself.
    if (!list.querySelector(".film") && !document.hidden) location.assign(`/jobs/${this.job}`);
  }

  async sendParts(plan) {
    const arrived = await ask(`/uploads/${this.job}/parts`, undefined, this);
    const left = Array.from({ length: plan.count }, (_, index) => index + 1);
    const work = async () => {
      for (let number; (number = left.shift()); ) {
        const blob = this.file.slice((number - 1) * plan.bytes, number * plan.bytes), hash = await sha256(blob);
        while (arrived[number] !== hash) {
          const { puts } = await ask(`/uploads/${this.job}/parts`, { parts: [{ number, sha256: hash }] }, this);
          try {
            await deliver(puts[0], blob, (bytes) => this.count(number, bytes), this);
            break;
          } catch (error) { if (!(error instanceof Expired)) throw error; }
        }
        this.count(number, blob.size);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  }

  fail(words) {
    this.stopper.abort();
    this.show(words);
    this.state.classList.add("bad");
    this.card.querySelector(".pause").textContent = "Try again";
    this.isPaused = true;
  }

  toggle() {
    this.state.classList.remove("bad");
    this.isPaused = !this.isPaused;
    this.card.querySelector(".pause").textContent = this.isPaused ? "Continue" : "Pause";
    if (!this.isPaused) return this.start();
    this.stopper.abort();
    this.show("Paused");
  }

  async stop() {
    this.stopper.abort();
    keep(this.key, null);
    this.card.remove();
    offerAll();
    if (this.job) await fetch(`/uploads/${this.job}/abort`, { method: "POST" }).catch(() => {});
  }
}

const uploads = new Map();

// What the browser can know of a film before it is sent; nothing if it cannot play it.
function facts(file, video) {
  return new Promise((resolve) => {
    const done = () => resolve({ seconds: Number.isFinite(video.duration) ? video.duration : 0, width: video.videoWidth, height: video.videoHeight });
    video.addEventListener("loadedmetadata", () => { done(); video.currentTime = Math.min(0.5, video.duration / 2 || 0); }, { once: true });
    video.addEventListener("error", () => resolve({}), { once: true });
    setTimeout(() => resolve({}), 8000);
    video.src = URL.createObjectURL(file);
  });
}

// What an MP4 says of itself, also to a browser that cannot play it: its length, and whether it has pictures and an index.
async function index(file) {
  const read = async (at, length) => new DataView(await file.slice(at, at + length).arrayBuffer());
  const kindOf = (box) => String.fromCharCode(...new Uint8Array(box.buffer, 4, 4));
  if (file.size < 16 || !MP4.includes(kindOf(await read(0, 16)))) return {};
  for (let at = 0, count = 0; count < MOST_BOXES; count++) {
    if (at + 16 > file.size) return { has_index: false };
    const box = await read(at, 16);
    const length = box.getUint32(0) === 1 ? Number(box.getBigUint64(8)) : box.getUint32(0) || file.size - at;
    if (kindOf(box) === "moov") {
      const header = await read(at + 8, 40);
      if (header.byteLength < 40 || kindOf(header) !== "mvhd") return {};
      const isWide = header.getUint8(8) === 1, ticks = header.getUint32(isWide ? 28 : 20);
      const seconds = Number(isWide ? header.getBigUint64(32) : header.getUint32(24)) / ticks;
      // The type of a track of pictures. An old index may be compressed.
      const text = length < MOST_INDEX_BYTES ? new TextDecoder("latin1").decode(await read(at, length)) : "vide";
      const has_pictures = /vide|cmov/.test(text);
      return Number.isFinite(seconds) && seconds < MOST_SECONDS ? { seconds, has_pictures } : { has_pictures };
    }
    if (length < 8) return {};
    at += length;
  }
  return {};
}

function offer(file) {
  const key = `${file.name}/${file.size}/${file.lastModified}`;
  if (uploads.has(key)) return;
  const card = document.getElementById("film").content.firstElementChild.cloneNode(true);
  const form = card.querySelector("form"), sending = card.querySelector(".sending"), known = stored()[key];
  for (const name of card.querySelectorAll(".name strong")) name.textContent = file.name;
  form.querySelector(".name span").textContent = sizeOf(file.size);
  const learned = Promise.all([index(file).catch(() => ({})), facts(file, card.querySelector("video"))]);
  // Every film says what it is; the last answer is offered.
  const last = localStorage.getItem(LAST);
  for (const choice of form.elements.discipline) choice.checked = choice.value === last;
  const begin = async (fields) => {
    form.hidden = true;
    sending.hidden = false;
    const upload = new Upload(card, file, key, Object.assign({}, fields, ...await learned));
    uploads.set(key, upload);
    sending.querySelector(".pause").addEventListener("click", () => upload.toggle());
    sending.querySelector(".stop").addEventListener("click", () => { upload.stop(); uploads.delete(key); });
    offerAll();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(form));
    localStorage.setItem(LAST, fields.discipline);
    begin(fields);
  });
  form.querySelector(".remove").addEventListener("click", () => { card.remove(); uploads.delete(key); offerAll(); });
  uploads.set(key, null);
  list.append(card);
  if (known) {
    for (const waiting of list.querySelectorAll(".waiting")) if (waiting.dataset.key === key) waiting.remove();
    begin(known.fields);
  }
  offerAll();
}

function offerAll() {
  all.hidden = list.querySelectorAll("form:not([hidden])").length < 2;
}

function take(files) {
  say.hidden = true;
  for (const file of files) {
    if (file.size) offer(file);
    else { say.textContent = `${file.name} is empty.`; say.hidden = false; }
  }
}

all.querySelector("button").addEventListener("click", () => {
  for (const form of list.querySelectorAll("form:not([hidden])")) form.requestSubmit();
});
document.getElementById("choose").addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
for (const kind of ["dragenter", "dragover"]) addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const kind of ["dragleave", "drop"]) addEventListener(kind, (event) => { event.preventDefault(); drop.classList.remove("over"); });
addEventListener("drop", (event) => take(event.dataTransfer.files));
addEventListener("beforeunload", (event) => { if (list.querySelector(".sending:not([hidden])")) event.preventDefault(); });

// Uploads that a reload has interrupted: the browser gives a page no file that was not chosen again.
for (const [key, { session }] of Object.entries(stored())) {
  const waiting = document.createElement("li"), forget = document.createElement("button");
  waiting.className = "waiting notice";
  waiting.dataset.key = key;
  waiting.append(`The upload of ${key.replace(/\/\d+\/\d+$/, "")} was interrupted. Choose the same film again, and it continues. `);
  Object.assign(forget, { type: "button", className: "quiet", textContent: "Forget it" });
  forget.addEventListener("click", () => { keep(key, null); waiting.remove(); });
  waiting.append(forget);
  if (session) list.append(waiting);
}

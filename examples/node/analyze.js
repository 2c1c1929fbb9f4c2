// Sends a video to Crease and fetches the report: node analyze.js VIDEO REPORT

import { createHash, randomUUID } from "node:crypto";
import { open, readFile, stat, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { TRANSIENT, call, download, jobs, sessions, token, uploads } from "./crease.js";

// 412: an earlier PUT arrived, and its answer was lost.
async function put(url, headers, body) {
  for (let attempt = 1; ; attempt++) {
    try {
      const reply = await fetch(url, { method: "PUT", headers, body });
      if (reply.ok || reply.status === 412) return;
      if (attempt === 5 || (reply.status < 500 && reply.status !== 429)) throw new Error(`S3: ${reply.status} ${await reply.text()}`);
    } catch (error) {
      if (attempt === 5 || !(error instanceof TypeError)) throw error;
    }
    await sleep(1000 * 2 ** (attempt - 1));
  }
}

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

async function sendParts(path, jobId, plan, length) {
  const arrived = new Map((await call(uploads, "ListParts", { job_id: jobId })).parts.map((part) => [part.part_number, part.sha256]));
  const file = await open(path);
  const sent = [];
  for (let number = 1; number <= plan.part_count; number++) {
    const start = (number - 1) * plan.part_bytes;
    const bytes = Buffer.alloc(Math.min(plan.part_bytes, length - start));
    await file.read(bytes, 0, bytes.length, start);
    const part = { part_number: number, sha256: sha256(bytes) };
    sent.push(part);
    if (arrived.get(number) === part.sha256) continue;
    const { puts } = await call(uploads, "SignParts", { job_id: jobId, parts: [part] });
    await put(puts[0].url, puts[0].headers, bytes);
  }
  await file.close();
  return sent;
}

const FINAL = ["JOB_STATUS_DONE", "JOB_STATUS_FAILED", "JOB_STATUS_CANCELLED"];

// Opens the stream again until the job is final: the first message is the current state.
async function watch(jobId) {
  for (let since = Date.now(); ; ) {
    try {
      for await (const job of jobs.WatchJob({ job_id: jobId }, await token())) {
        since = Date.now();
        console.log(job.status, job.progress_pct);
        if (FINAL.includes(job.status)) return job;
      }
    } catch (error) {
      if (!TRANSIENT.includes(error.code) || Date.now() - since > 60_000) throw error;
    }
    await sleep(500);
  }
}

const [video, report] = process.argv.slice(2);
const { size } = await stat(video);
const session = await call(sessions, "CreateSession", { title: "Nets", discipline: "DISCIPLINE_BATTING", request_id: randomUUID() });
const request = {
  session_id: session.session_id, content_type: "video/mp4", content_length: size, sha256: sha256(await readFile(video)), request_id: randomUUID(),
};
const begun = await call(uploads, "InitiateUpload", request);
let parts = [];
if (begun.parts) parts = await sendParts(video, begun.job_id, begun.parts, size);
else await put(begun.presigned_url, begun.required_headers, await readFile(video));
await call(uploads, "CompleteUpload", { job_id: begun.job_id, parts });
const job = await watch(begun.job_id);
if (job.status !== "JOB_STATUS_DONE") throw new Error(`${job.error_message} (${job.failure_code})`);
await writeFile(report, await download(job.job_id, "report.html"));
for (const service of [jobs, sessions, uploads]) service.close();

// Fetches the report of each analysis of one owner, for an internal service: node follow.js OWNER FOLDER
//
// OWNER is coach:ID or org:ID. jobs keeps the position under the subscription's name: a program that starts again misses
// no report.

import { once } from "node:events";
import { access, mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { TRANSIENT, call, download, events, jobs, status, token } from "./crease.js";

const subscription = "example-reports-node";
const [owner, folder] = process.argv.slice(2);

// Once, although an event may arrive twice. A job may have been deleted since.
async function fetchReport(jobId) {
  const path = join(folder, `${jobId}.html`);
  if (await access(path).then(() => true, () => false)) return;
  try {
    await writeFile(`${path}.part`, await download(jobId, "report.html", owner));
    await rename(`${path}.part`, path);
    console.log(jobId);
  } catch (error) {
    if (error.code !== status.NOT_FOUND) throw error;
    console.log(jobId, error.details);
  }
}

async function fetchDone() {
  for (let page = { next_page_token: "" }, first = true; first || page.next_page_token; first = false) {
    page = await call(jobs, "ListJobs", { status: "JOB_STATUS_DONE", page_token: page.next_page_token }, owner);
    for (const job of page.jobs) await fetchReport(job.job_id);
  }
}

// Opens the stream again where it breaks. Where it fell behind, it begins a new subscription and then reads what it missed
// from the list of jobs: nothing is between the two.
async function follow() {
  for (let since = Date.now(), isBehind = false; ; await sleep(500)) {
    let isOpen = false;
    try {
      const stream = events.WatchEvents({ subscription, types: ["JobDone"] }, await token(owner));
      stream.on("error", () => {});
      // A stream that opens has a position, which arrives before any event.
      const [metadata] = await once(stream, "metadata");
      isOpen = metadata.get("crease-events-after").length > 0;
      if (isOpen && isBehind) await fetchDone();
      isBehind &&= !isOpen;
      for await (const event of stream) {
        await fetchReport(event.data.job_id);
        await call(events, "AcknowledgeEvents", { subscription, event_ids: [event.id] }, owner);
      }
    } catch (error) {
      if (isOpen) since = Date.now();
      if (error.code === status.OUT_OF_RANGE) {
        await call(events, "DeleteSubscription", { subscription }, owner);
        isBehind = true;
      } else if (![...TRANSIENT, status.UNAUTHENTICATED].includes(error.code) || Date.now() - since > 60_000) {
        throw error;
      }
    }
  }
}

await mkdir(folder, { recursive: true });
await follow();

// Calls of the example programs. CREASE_JOBS_ENDPOINT, CREASE_UPLOAD_ENDPOINT and CREASE_TOKEN_FILE say where, and as whom.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const protos = fileURLToPath(new URL("../../protos", import.meta.url));
const files = ["crease/jobs/v1/job.proto", "crease/jobs/v1/session.proto", "crease/upload/v1/upload.proto", "crease/events/v1/event.proto"];
const definition = loader.loadSync(files, { includeDirs: [protos], keepCase: true, longs: Number, enums: String, defaults: true });
const { crease } = grpc.loadPackageDefinition(definition);

// docs/clients.md: deadlines, and retries while a service is unavailable.
const retryPolicy = {
  maxAttempts: 5, initialBackoff: "0.5s", maxBackoff: "8s", backoffMultiplier: 2.5,
  retryableStatusCodes: ["UNAVAILABLE", "CANCELLED"],
};
const config = {
  loadBalancingConfig: [],
  methodConfig: [
    { name: [{}], timeout: { seconds: 20, nanos: 0 }, retryPolicy },
    { name: [{ service: "crease.upload.v1.UploadService", method: "CompleteUpload" }], timeout: { seconds: 150, nanos: 0 }, retryPolicy },
    { name: [{ service: "crease.jobs.v1.JobService", method: "WatchJob" }, { service: "crease.events.v1.EventService", method: "WatchEvents" }] },
  ],
};
const options = { "grpc.service_config": JSON.stringify(config), "grpc.keepalive_time_ms": 10000 };
const plain = grpc.credentials.createInsecure();
export const jobs = new crease.jobs.v1.JobService(process.env.CREASE_JOBS_ENDPOINT, plain, options);
export const sessions = new crease.jobs.v1.SessionService(process.env.CREASE_JOBS_ENDPOINT, plain, options);
export const uploads = new crease.upload.v1.UploadService(process.env.CREASE_UPLOAD_ENDPOINT, plain, options);
export const events = new crease.events.v1.EventService(process.env.CREASE_JOBS_ENDPOINT, plain, options);
export const { status } = grpc;
// The same call may succeed later. A server that stops answers CANCELLED.
export const TRANSIENT = [status.UNAVAILABLE, status.CANCELLED];

// The token is read for each call: it expires, and its file is renewed. `owner`: for whom a service calls.
export async function token(owner) {
  const metadata = new grpc.Metadata();
  if (owner) metadata.set("crease-on-behalf-of", owner);
  metadata.set("authorization", `Bearer ${(await readFile(process.env.CREASE_TOKEN_FILE, "utf8")).trim()}`);
  return metadata;
}

export async function call(service, method, request, owner) {
  const metadata = await token(owner);
  return new Promise((done, fail) => {
    service[method](request, metadata, (error, reply) => (error ? fail(error) : done(reply)));
  });
}

// Fetches an artifact of a job.
export async function download(jobId, name, owner) {
  const { get } = await call(uploads, "SignDownload", { job_id: jobId, name }, owner);
  const reply = await fetch(get.url, { headers: get.headers });
  if (!reply.ok) throw new Error(`S3: ${reply.status} ${await reply.text()}`);
  return Buffer.from(await reply.arrayBuffer());
}

package dev.crease.example;

import dev.crease.jobs.v1.CreateSessionRequest;
import dev.crease.jobs.v1.Discipline;
import dev.crease.jobs.v1.Job;
import dev.crease.jobs.v1.JobServiceGrpc;
import dev.crease.jobs.v1.JobStatus;
import dev.crease.jobs.v1.SessionServiceGrpc;
import dev.crease.jobs.v1.WatchJobRequest;
import dev.crease.upload.v1.CompleteUploadRequest;
import dev.crease.upload.v1.InitiateUploadRequest;
import dev.crease.upload.v1.ListPartsRequest;
import dev.crease.upload.v1.Part;
import dev.crease.upload.v1.SignDownloadRequest;
import dev.crease.upload.v1.SignPartsRequest;
import dev.crease.upload.v1.UploadServiceGrpc;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** Sends a video to Crease and fetches the report: Analyze VIDEO REPORT. */
public final class Analyze {
  private static final EnumSet<JobStatus> FINAL =
      EnumSet.of(JobStatus.JOB_STATUS_DONE, JobStatus.JOB_STATUS_FAILED, JobStatus.JOB_STATUS_CANCELLED);
  private static String sha256(byte[] body) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body));
  }

  /** Sends the parts that have not arrived before, and returns all. */
  private static List<Part> sendParts(
      UploadServiceGrpc.UploadServiceBlockingStub uploads, String jobId, int count, long partBytes, byte[] video)
      throws Exception {
    Map<Integer, String> arrived = new HashMap<>();
    for (Part part : uploads.listParts(ListPartsRequest.newBuilder().setJobId(jobId).build()).getPartsList()) {
      arrived.put(part.getPartNumber(), part.getSha256());
    }
    List<Part> parts = new ArrayList<>();
    for (int number = 1; number <= count; number++) {
      int start = (int) ((number - 1) * partBytes);
      byte[] body = Arrays.copyOfRange(video, start, (int) Math.min(start + partBytes, video.length));
      Part part = Part.newBuilder().setPartNumber(number).setSha256(sha256(body)).build();
      parts.add(part);
      if (part.getSha256().equals(arrived.get(number))) continue;
      var signed = uploads.signParts(SignPartsRequest.newBuilder().setJobId(jobId).addParts(part).build()).getPuts(0);
      Channels.transfer("PUT", signed.getUrl(), signed.getHeadersMap(), body);
    }
    return parts;
  }

  /** Opens the stream again until the job is final: the first message is the current state. */
  private static Job watch(JobServiceGrpc.JobServiceBlockingStub jobs, String jobId) throws InterruptedException {
    for (long since = System.nanoTime(); ; Thread.sleep(500)) {
      try {
        var stream = jobs.watchJob(WatchJobRequest.newBuilder().setJobId(jobId).build());
        while (stream.hasNext()) {
          Job job = stream.next();
          since = System.nanoTime();
          System.out.println(job.getStatus() + " " + job.getProgressPct());
          if (FINAL.contains(job.getStatus())) return job;
        }
      } catch (StatusRuntimeException error) {
        boolean isPatient = System.nanoTime() - since < TimeUnit.MINUTES.toNanos(1);
        if (!Channels.TRANSIENT.contains(error.getStatus().getCode()) || !isPatient) throw error;
      }
    }
  }

  public static void main(String[] arguments) throws Exception {
    byte[] video = Files.readAllBytes(Path.of(arguments[0]));
    ManagedChannel toJobs = Channels.connect("CREASE_JOBS_ENDPOINT");
    ManagedChannel toUpload = Channels.connect("CREASE_UPLOAD_ENDPOINT");
    var sessions = SessionServiceGrpc.newBlockingStub(toJobs).withCallCredentials(new Channels.Token());
    var uploads = UploadServiceGrpc.newBlockingStub(toUpload).withCallCredentials(new Channels.Token());
    var jobs = JobServiceGrpc.newBlockingStub(toJobs).withCallCredentials(new Channels.Token());
    var session = sessions.createSession(CreateSessionRequest.newBuilder()
        .setTitle("Nets")
        .setDiscipline(Discipline.DISCIPLINE_BATTING)
        .setRequestId(UUID.randomUUID().toString())
        .build());
    var begun = uploads.initiateUpload(InitiateUploadRequest.newBuilder()
        .setSessionId(session.getSessionId())
        .setContentType("video/mp4")
        .setContentLength(video.length)
        .setSha256(sha256(video))
        .setRequestId(UUID.randomUUID().toString())
        .build());
    List<Part> parts = List.of();
    if (begun.hasParts()) {
      parts = sendParts(uploads, begun.getJobId(), begun.getParts().getPartCount(), begun.getParts().getPartBytes(), video);
    } else {
      Channels.transfer("PUT", begun.getPresignedUrl(), begun.getRequiredHeadersMap(), video);
    }
    uploads.completeUpload(CompleteUploadRequest.newBuilder().setJobId(begun.getJobId()).addAllParts(parts).build());
    Job job = watch(jobs, begun.getJobId());
    if (job.getStatus() != JobStatus.JOB_STATUS_DONE) {
      throw new IllegalStateException(job.getErrorMessage() + " (" + job.getFailureCode() + ")");
    }
    var get = uploads.signDownload(
        SignDownloadRequest.newBuilder().setJobId(job.getJobId()).setName("report.html").build()).getGet();
    Files.write(Path.of(arguments[1]), Channels.transfer("GET", get.getUrl(), get.getHeadersMap(), new byte[0]));
    toJobs.shutdownNow();
    toUpload.shutdownNow();
  }
}

package dev.crease.example;

import com.google.gson.Gson;
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
import io.grpc.CallCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
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
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/**
 * Sends a video to Crease and fetches the report: Analyze VIDEO REPORT.
 *
 * <p>CREASE_JOBS_ENDPOINT, CREASE_UPLOAD_ENDPOINT and CREASE_TOKEN_FILE say where, and as whom.
 */
public final class Analyze {
  private static final EnumSet<JobStatus> FINAL =
      EnumSet.of(JobStatus.JOB_STATUS_DONE, JobStatus.JOB_STATUS_FAILED, JobStatus.JOB_STATUS_CANCELLED);
  // docs/clients.md: deadlines, and retries while a service is unavailable.
  private static final String RETRY =
      "\"retryPolicy\": {\"maxAttempts\": 5, \"initialBackoff\": \"0.5s\", \"maxBackoff\": \"8s\", "
          + "\"backoffMultiplier\": 2.5, \"retryableStatusCodes\": [\"UNAVAILABLE\"]}";
  private static final String CONFIG =
      "{\"methodConfig\": [{\"name\": [{}], \"timeout\": \"20s\", " + RETRY + "},"
          + "{\"name\": [{\"service\": \"crease.upload.v1.UploadService\", \"method\": \"CompleteUpload\"}],"
          + " \"timeout\": \"150s\", " + RETRY + "},"
          + "{\"name\": [{\"service\": \"crease.jobs.v1.JobService\", \"method\": \"WatchJob\"}]}]}";
  private static final HttpClient HTTP = HttpClient.newHttpClient();

  /** Reads the token for each call: it expires, and its file is renewed. */
  private static final class Token extends CallCredentials {
    @Override
    public void applyRequestMetadata(RequestInfo info, Executor executor, MetadataApplier applier) {
      try {
        Metadata metadata = new Metadata();
        metadata.put(
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER),
            "Bearer " + Files.readString(Path.of(System.getenv("CREASE_TOKEN_FILE"))).strip());
        applier.apply(metadata);
      } catch (IOException error) {
        applier.fail(Status.UNAUTHENTICATED.withCause(error));
      }
    }
  }

  @SuppressWarnings("unchecked")
  private static ManagedChannel connect(String variable) {
    return NettyChannelBuilder.forTarget(System.getenv(variable))
        .usePlaintext()
        .enableRetry()
        .defaultServiceConfig(new Gson().fromJson(CONFIG, Map.class))
        .keepAliveTime(10, TimeUnit.SECONDS)
        .build();
  }

  private static String sha256(byte[] body) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body));
  }

  /** Sends or fetches bytes by a presigned URL, again while S3 is unavailable. */
  private static byte[] transfer(String method, String url, Map<String, String> headers, byte[] body) throws Exception {
    for (int attempt = 0; ; attempt++) {
      HttpRequest.Builder request =
          HttpRequest.newBuilder(URI.create(url)).method(method, HttpRequest.BodyPublishers.ofByteArray(body));
      // Java's client writes these two by itself.
      headers.forEach((name, value) -> {
        if (!name.equalsIgnoreCase("content-length") && !name.equalsIgnoreCase("host")) request.header(name, value);
      });
      IOException failure;
      try {
        HttpResponse<byte[]> reply = HTTP.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
        // 412: an earlier PUT arrived, and its answer was lost.
        if (reply.statusCode() == 200 || (method.equals("PUT") && reply.statusCode() == 412)) return reply.body();
        failure = new IOException("S3: " + reply.statusCode() + " " + new String(reply.body()));
        if (reply.statusCode() < 500 && reply.statusCode() != 429) throw new IllegalStateException(failure);
      } catch (IOException error) {
        failure = error;
      }
      if (attempt == 4) throw failure;
      Thread.sleep(1000L << attempt);
    }
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
      transfer("PUT", signed.getUrl(), signed.getHeadersMap(), body);
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
        if (error.getStatus().getCode() != Status.Code.UNAVAILABLE || !isPatient) throw error;
      }
    }
  }

  public static void main(String[] arguments) throws Exception {
    byte[] video = Files.readAllBytes(Path.of(arguments[0]));
    ManagedChannel toJobs = connect("CREASE_JOBS_ENDPOINT");
    ManagedChannel toUpload = connect("CREASE_UPLOAD_ENDPOINT");
    var sessions = SessionServiceGrpc.newBlockingStub(toJobs).withCallCredentials(new Token());
    var uploads = UploadServiceGrpc.newBlockingStub(toUpload).withCallCredentials(new Token());
    var jobs = JobServiceGrpc.newBlockingStub(toJobs).withCallCredentials(new Token());
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
      transfer("PUT", begun.getPresignedUrl(), begun.getRequiredHeadersMap(), video);
    }
    uploads.completeUpload(CompleteUploadRequest.newBuilder().setJobId(begun.getJobId()).addAllParts(parts).build());
    Job job = watch(jobs, begun.getJobId());
    if (job.getStatus() != JobStatus.JOB_STATUS_DONE) {
      throw new IllegalStateException(job.getErrorMessage() + " (" + job.getFailureCode() + ")");
    }
    var get = uploads.signDownload(
        SignDownloadRequest.newBuilder().setJobId(job.getJobId()).setName("report.html").build()).getGet();
    Files.write(Path.of(arguments[1]), transfer("GET", get.getUrl(), get.getHeadersMap(), new byte[0]));
    toJobs.shutdownNow();
    toUpload.shutdownNow();
  }
}

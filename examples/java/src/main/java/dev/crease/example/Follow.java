package dev.crease.example;

import com.google.protobuf.Any;
import com.google.rpc.ErrorInfo;
import dev.crease.events.v1.AcknowledgeEventsRequest;
import dev.crease.events.v1.DeleteSubscriptionRequest;
import dev.crease.events.v1.EventServiceGrpc;
import dev.crease.events.v1.WatchEventsRequest;
import dev.crease.jobs.v1.Job;
import dev.crease.jobs.v1.JobServiceGrpc;
import dev.crease.jobs.v1.JobStatus;
import dev.crease.jobs.v1.ListJobsRequest;
import dev.crease.upload.v1.SignDownloadRequest;
import dev.crease.upload.v1.UploadServiceGrpc;
import io.grpc.ClientInterceptor;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/**
 * Fetches the report of each analysis of one owner, for an internal service: Follow OWNER FOLDER.
 *
 * <p>OWNER is coach:ID or org:ID. jobs keeps the position under the subscription's name: a program that starts again misses
 * no report.
 */
public final class Follow {
  private static final String SUBSCRIPTION = "example-reports-java";

  private final EventServiceGrpc.EventServiceBlockingStub events;
  private final JobServiceGrpc.JobServiceBlockingStub jobs;
  private final UploadServiceGrpc.UploadServiceBlockingStub uploads;
  private final Path folder;

  private Follow(ManagedChannel toJobs, ManagedChannel toUpload, String owner, Path folder) {
    Metadata metadata = new Metadata();
    metadata.put(Metadata.Key.of("crease-on-behalf-of", Metadata.ASCII_STRING_MARSHALLER), owner);
    ClientInterceptor onBehalf = MetadataUtils.newAttachHeadersInterceptor(metadata);
    var token = new Channels.Token();
    events = EventServiceGrpc.newBlockingStub(toJobs).withCallCredentials(token).withInterceptors(onBehalf);
    jobs = JobServiceGrpc.newBlockingStub(toJobs).withCallCredentials(token).withInterceptors(onBehalf);
    uploads = UploadServiceGrpc.newBlockingStub(toUpload).withCallCredentials(token).withInterceptors(onBehalf);
    this.folder = folder;
  }

  /** Opens the stream again where it breaks. Where it fell behind, it reads what it missed from the list of jobs. */
  private void follow() throws Exception {
    var request = WatchEventsRequest.newBuilder().setSubscription(SUBSCRIPTION).addTypes("JobDone");
    for (long since = System.nanoTime(); ; Thread.sleep(500)) {
      // The stream has these as soon as it is open.
      AtomicReference<Metadata> headers = new AtomicReference<>();
      var opening = MetadataUtils.newCaptureMetadataInterceptor(headers, new AtomicReference<>());
      try {
        var stream = events.withInterceptors(opening).watchEvents(request.build());
        while (stream.hasNext()) {
          var event = stream.next();
          fetch(event.getData().getJobId());
          events.acknowledgeEvents(AcknowledgeEventsRequest.newBuilder()
              .setSubscription(SUBSCRIPTION).addEventIds(event.getId()).build());
        }
      } catch (StatusRuntimeException error) {
        if (headers.get() != null) since = System.nanoTime();
        switch (error.getStatus().getCode()) {
          case OUT_OF_RANGE -> {
            events.deleteSubscription(DeleteSubscriptionRequest.newBuilder().setSubscription(SUBSCRIPTION).build());
            request.setAfter(after(error));
            fetchDone();
          }
          case UNAVAILABLE, CANCELLED, UNAUTHENTICATED -> {
            if (System.nanoTime() - since > TimeUnit.MINUTES.toNanos(1)) throw error;
          }
          default -> throw error;
        }
      }
    }
  }

  /** The position to start from, which the error names. */
  private static String after(StatusRuntimeException error) throws Exception {
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) return detail.unpack(ErrorInfo.class).getMetadataOrDefault("after", "");
    }
    return "";
  }

  /** Once, although an event may arrive twice. A job may have been deleted since. */
  private void fetch(String jobId) throws Exception {
    Path report = folder.resolve(jobId + ".html");
    if (Files.exists(report)) return;
    try {
      var get = uploads.signDownload(
          SignDownloadRequest.newBuilder().setJobId(jobId).setName("report.html").build()).getGet();
      Path part = folder.resolve(jobId + ".part");
      Files.write(part, Channels.transfer("GET", get.getUrl(), get.getHeadersMap(), new byte[0]));
      Files.move(part, report, StandardCopyOption.ATOMIC_MOVE);
      System.out.println(jobId);
    } catch (StatusRuntimeException error) {
      if (error.getStatus().getCode() != Status.Code.NOT_FOUND) throw error;
      System.out.println(jobId + " " + error.getMessage());
    }
  }

  private void fetchDone() throws Exception {
    var request = ListJobsRequest.newBuilder().setStatus(JobStatus.JOB_STATUS_DONE);
    do {
      var page = jobs.listJobs(request.build());
      for (Job job : page.getJobsList()) fetch(job.getJobId());
      request.setPageToken(page.getNextPageToken());
    } while (!request.getPageToken().isEmpty());
  }

  public static void main(String[] arguments) throws Exception {
    Path folder = Files.createDirectories(Path.of(arguments[1]));
    new Follow(Channels.connect("CREASE_JOBS_ENDPOINT"), Channels.connect("CREASE_UPLOAD_ENDPOINT"), arguments[0], folder)
        .follow();
  }
}

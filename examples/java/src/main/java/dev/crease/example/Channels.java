package dev.crease.example;

import com.google.gson.Gson;
import io.grpc.CallCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/**
 * The channels of the example programs, and their transfers with S3.
 *
 * <p>CREASE_JOBS_ENDPOINT, CREASE_UPLOAD_ENDPOINT and CREASE_TOKEN_FILE say where, and as whom.
 */
final class Channels {
  // docs/clients.md: deadlines, and retries while a service is unavailable.
  private static final String RETRY =
      "\"retryPolicy\": {\"maxAttempts\": 5, \"initialBackoff\": \"0.5s\", \"maxBackoff\": \"8s\", "
          + "\"backoffMultiplier\": 2.5, \"retryableStatusCodes\": [\"UNAVAILABLE\", \"CANCELLED\"]}";
  private static final String CONFIG =
      "{\"methodConfig\": [{\"name\": [{}], \"timeout\": \"20s\", " + RETRY + "},"
          + "{\"name\": [{\"service\": \"crease.upload.v1.UploadService\", \"method\": \"CompleteUpload\"}],"
          + " \"timeout\": \"150s\", " + RETRY + "},"
          + "{\"name\": [{\"service\": \"crease.jobs.v1.JobService\", \"method\": \"WatchJob\"},"
          + "{\"service\": \"crease.events.v1.EventService\", \"method\": \"WatchEvents\"}]}]}";
  /** The same call may succeed later. A server that stops answers CANCELLED. */
  static final Set<Status.Code> TRANSIENT = Set.of(Status.Code.UNAVAILABLE, Status.Code.CANCELLED);

  private static final HttpClient HTTP = HttpClient.newHttpClient();

  /** Reads the token for each call: it expires, and its file is renewed. */
  static final class Token extends CallCredentials {
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
  static ManagedChannel connect(String variable) {
    return NettyChannelBuilder.forTarget(System.getenv(variable))
        .usePlaintext()
        .enableRetry()
        .defaultServiceConfig(new Gson().fromJson(CONFIG, Map.class))
        .keepAliveTime(10, TimeUnit.SECONDS)
        .build();
  }

  /** Sends or fetches bytes by a presigned URL, again while S3 is unavailable. */
  static byte[] transfer(String method, String url, Map<String, String> headers, byte[] body) throws Exception {
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

  private Channels() {}
}

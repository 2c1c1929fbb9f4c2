// Calls of the two example programs: analyze VIDEO REPORT, and follow OWNER FOLDER.
//
// CREASE_JOBS_ENDPOINT, CREASE_UPLOAD_ENDPOINT and CREASE_TOKEN_FILE say where, and as whom.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	uploadv1 "crease.dev/api/crease/upload/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// docs/clients.md: deadlines, and retries while a service is unavailable.
const retry = `"retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.5s", "maxBackoff": "8s", "backoffMultiplier": 2.5,
	"retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]}`
const config = `{"methodConfig": [
	{"name": [{}], "timeout": "20s", ` + retry + `},
	{"name": [{"service": "crease.upload.v1.UploadService", "method": "CompleteUpload"}], "timeout": "150s", ` + retry + `},
	{"name": [{"service": "crease.jobs.v1.JobService", "method": "WatchJob"}, {"service": "crease.events.v1.EventService", "method": "WatchEvents"}]}]}`

// token reads the token for each call: it expires, and its file is renewed.
type token struct{ file string }

func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	text, err := os.ReadFile(t.file)
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(text))}, err
}

// RequireTransportSecurity is true wherever the endpoints have TLS.
func (t token) RequireTransportSecurity() bool { return false }

func connect(variable string) *grpc.ClientConn {
	connection, err := grpc.NewClient(os.Getenv(variable),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(token{os.Getenv("CREASE_TOKEN_FILE")}),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	return must(connection, err)
}

// isTransient tells whether the same call may succeed later. A server that stops answers Canceled.
func isTransient(err error) bool {
	return status.Code(err) == codes.Unavailable || status.Code(err) == codes.Canceled
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// transfer sends or fetches bytes by a presigned URL, again while S3 is unavailable.
func transfer(method, url string, headers map[string]string, body []byte) []byte {
	for attempt := 0; ; attempt++ {
		request := must(http.NewRequest(method, url, bytes.NewReader(body)))
		for name, value := range headers {
			request.Header.Set(name, value)
		}
		reply, err := http.DefaultClient.Do(request)
		if err == nil {
			content, failure := io.ReadAll(reply.Body)
			reply.Body.Close()
			// 412: an earlier PUT arrived, and its answer was lost.
			if failure == nil && (reply.StatusCode == 200 || method == "PUT" && reply.StatusCode == 412) {
				return content
			}
			if err = fmt.Errorf("S3: %s %s", reply.Status, content); reply.StatusCode < 500 && reply.StatusCode != 429 {
				log.Fatal(err)
			}
		}
		if attempt == 4 {
			log.Fatal(err)
		}
		time.Sleep(time.Second << attempt)
	}
}

func main() {
	toJobs, toUpload := connect("CREASE_JOBS_ENDPOINT"), connect("CREASE_UPLOAD_ENDPOINT")
	uploads := uploadv1.NewUploadServiceClient(toUpload)
	switch program, arguments := os.Args[1], os.Args[2:]; program {
	case "analyze":
		analyze(context.Background(), toJobs, uploads, arguments[0], arguments[1])
	case "follow":
		follow(context.Background(), toJobs, uploads, arguments[0], arguments[1])
	default:
		log.Fatal("usage: example analyze VIDEO REPORT | follow OWNER FOLDER")
	}
}

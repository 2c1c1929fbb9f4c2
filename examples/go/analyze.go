// Sends a video to Crease and fetches the report: analyze VIDEO REPORT
//
// CREASE_JOBS_ENDPOINT, CREASE_UPLOAD_ENDPOINT and CREASE_TOKEN_FILE say where, and as whom.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	jobsv1 "crease.dev/api/crease/jobs/v1"
	uploadv1 "crease.dev/api/crease/upload/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// docs/clients.md: deadlines, and retries while a service is unavailable.
const retry = `"retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.5s", "maxBackoff": "8s", "backoffMultiplier": 2.5,
	"retryableStatusCodes": ["UNAVAILABLE"]}`
const config = `{"methodConfig": [
	{"name": [{}], "timeout": "20s", ` + retry + `},
	{"name": [{"service": "crease.upload.v1.UploadService", "method": "CompleteUpload"}], "timeout": "150s", ` + retry + `},
	{"name": [{"service": "crease.jobs.v1.JobService", "method": "WatchJob"}]}]}`

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

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// requestID is a UUID: a repeated call with it creates nothing twice.
func requestID() string {
	b := make([]byte, 16)
	must(rand.Read(b))
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
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

// sendParts sends the parts that have not arrived before, and returns all.
func sendParts(ctx context.Context, uploads uploadv1.UploadServiceClient, jobID string, plan *uploadv1.PartPlan, video []byte) []*uploadv1.Part {
	arrived := map[int32]string{}
	for _, part := range must(uploads.ListParts(ctx, &uploadv1.ListPartsRequest{JobId: jobID})).Parts {
		arrived[part.PartNumber] = part.Sha256
	}
	var parts []*uploadv1.Part
	for number := int32(1); number <= plan.PartCount; number++ {
		start := int64(number-1) * plan.PartBytes
		body := video[start:min(start+plan.PartBytes, int64(len(video)))]
		part := &uploadv1.Part{PartNumber: number, Sha256: digest(body)}
		parts = append(parts, part)
		if arrived[number] != part.Sha256 {
			signed := must(uploads.SignParts(ctx, &uploadv1.SignPartsRequest{JobId: jobID, Parts: []*uploadv1.Part{part}})).Puts[0]
			transfer("PUT", signed.Url, signed.Headers, body)
		}
	}
	return parts
}

// watch opens the stream again until the job is final: the first message is the current state.
func watch(ctx context.Context, jobs jobsv1.JobServiceClient, jobID string) *jobsv1.Job {
	for since := time.Now(); ; time.Sleep(500 * time.Millisecond) {
		stream, err := jobs.WatchJob(ctx, &jobsv1.WatchJobRequest{JobId: jobID})
		for err == nil {
			var job *jobsv1.Job
			if job, err = stream.Recv(); err != nil {
				break
			}
			since = time.Now()
			fmt.Println(job.Status, job.ProgressPct)
			switch job.Status {
			case jobsv1.JobStatus_JOB_STATUS_DONE, jobsv1.JobStatus_JOB_STATUS_FAILED, jobsv1.JobStatus_JOB_STATUS_CANCELLED:
				return job
			}
		}
		if err != io.EOF && (status.Code(err) != codes.Unavailable || time.Since(since) > time.Minute) {
			log.Fatal(err)
		}
	}
}

func main() {
	ctx, video := context.Background(), must(os.ReadFile(os.Args[1]))
	toJobs, toUpload := connect("CREASE_JOBS_ENDPOINT"), connect("CREASE_UPLOAD_ENDPOINT")
	jobs, uploads := jobsv1.NewJobServiceClient(toJobs), uploadv1.NewUploadServiceClient(toUpload)
	session := must(jobsv1.NewSessionServiceClient(toJobs).CreateSession(ctx, &jobsv1.CreateSessionRequest{
		Title: "Nets", Discipline: jobsv1.Discipline_DISCIPLINE_BATTING, RequestId: requestID()}))
	begun := must(uploads.InitiateUpload(ctx, &uploadv1.InitiateUploadRequest{
		SessionId: session.SessionId, ContentType: "video/mp4", ContentLength: int64(len(video)), Sha256: digest(video),
		RequestId: requestID()}))
	var parts []*uploadv1.Part
	if begun.Parts != nil {
		parts = sendParts(ctx, uploads, begun.JobId, begun.Parts, video)
	} else {
		transfer("PUT", begun.PresignedUrl, begun.RequiredHeaders, video)
	}
	must(uploads.CompleteUpload(ctx, &uploadv1.CompleteUploadRequest{JobId: begun.JobId, Parts: parts}))
	job := watch(ctx, jobs, begun.JobId)
	if job.Status != jobsv1.JobStatus_JOB_STATUS_DONE {
		log.Fatalf("%s (%s)", job.ErrorMessage, job.FailureCode)
	}
	get := must(uploads.SignDownload(ctx, &uploadv1.SignDownloadRequest{JobId: job.JobId, Name: "report.html"})).Get
	if err := os.WriteFile(os.Args[2], transfer("GET", get.Url, get.Headers, nil), 0o644); err != nil {
		log.Fatal(err)
	}
}

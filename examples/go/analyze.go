// Sends a video to Crease and fetches the report.
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	jobsv1 "crease.dev/api/crease/jobs/v1"
	uploadv1 "crease.dev/api/crease/upload/v1"
	"google.golang.org/grpc"
)

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
		if err != io.EOF && (!isTransient(err) || time.Since(since) > time.Minute) {
			log.Fatal(err)
		}
	}
}

func analyze(ctx context.Context, toJobs *grpc.ClientConn, uploads uploadv1.UploadServiceClient, videoPath, report string) {
	video, jobs := must(os.ReadFile(videoPath)), jobsv1.NewJobServiceClient(toJobs)
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
	if err := os.WriteFile(report, transfer("GET", get.Url, get.Headers, nil), 0o644); err != nil {
		log.Fatal(err)
	}
}

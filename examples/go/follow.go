// Fetches the report of each analysis of one owner, coach:ID or org:ID, for an internal service. jobs keeps the position
// under the subscription's name: a program that starts again misses no report.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"time"

	eventsv1 "crease.dev/api/crease/events/v1"
	jobsv1 "crease.dev/api/crease/jobs/v1"
	uploadv1 "crease.dev/api/crease/upload/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const subscription = "example-reports-go"

// follow opens the stream again where it breaks. Where it fell behind, it reads what it missed from the list of jobs.
func follow(ctx context.Context, toJobs *grpc.ClientConn, uploads uploadv1.UploadServiceClient, owner, folder string) {
	ctx = metadata.AppendToOutgoingContext(ctx, "crease-on-behalf-of", owner)
	events, jobs := eventsv1.NewEventServiceClient(toJobs), jobsv1.NewJobServiceClient(toJobs)
	request := &eventsv1.WatchEventsRequest{Subscription: subscription, Types: []string{"JobDone"}}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		log.Fatal(err)
	}
	for since := time.Now(); ; time.Sleep(500 * time.Millisecond) {
		stream, err := events.WatchEvents(ctx, request)
		isOpen := err == nil && len(must(stream.Header()).Get("crease-events-after")) > 0
		for err == nil {
			var event *eventsv1.Event
			if event, err = stream.Recv(); err != nil {
				break
			}
			fetch(ctx, uploads, event.Data.JobId, folder)
			must(events.AcknowledgeEvents(ctx, &eventsv1.AcknowledgeEventsRequest{Subscription: subscription, EventIds: []string{event.Id}}))
		}
		if isOpen {
			since = time.Now()
		}
		switch {
		case err == io.EOF:
		case status.Code(err) == codes.OutOfRange:
			must(events.DeleteSubscription(ctx, &eventsv1.DeleteSubscriptionRequest{Subscription: subscription}))
			request.After = after(err)
			for _, jobID := range doneJobs(ctx, jobs) {
				fetch(ctx, uploads, jobID, folder)
			}
		case !isTransient(err) && status.Code(err) != codes.Unauthenticated || time.Since(since) > time.Minute:
			log.Fatal(err)
		}
	}
}

// after is the position to start from, which the error names.
func after(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Metadata["after"]
		}
	}
	return ""
}

// fetch fetches a report once, although an event may arrive twice. A job may have been deleted since.
func fetch(ctx context.Context, uploads uploadv1.UploadServiceClient, jobID, folder string) {
	path := filepath.Join(folder, jobID+".html")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	signed, err := uploads.SignDownload(ctx, &uploadv1.SignDownloadRequest{JobId: jobID, Name: "report.html"})
	if status.Code(err) == codes.NotFound {
		fmt.Println(jobID, err)
		return
	}
	get := must(signed, err).Get
	if err := os.WriteFile(path+".part", transfer("GET", get.Url, get.Headers, nil), 0o644); err != nil {
		log.Fatal(err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		log.Fatal(err)
	}
	fmt.Println(jobID)
}

func doneJobs(ctx context.Context, jobs jobsv1.JobServiceClient) []string {
	var found []string
	request := &jobsv1.ListJobsRequest{Status: jobsv1.JobStatus_JOB_STATUS_DONE}
	for {
		page := must(jobs.ListJobs(ctx, request))
		for _, job := range page.Jobs {
			found = append(found, job.JobId)
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			return found
		}
	}
}

"""The kinds of caller of each RPC of upload. jobs checks ownership, by the caller's own token."""

from services.authorization import READERS, WRITERS, Table

TABLE: Table = {
    "/crease.upload.v1.UploadService/GetUploadLimits": READERS,
    "/crease.upload.v1.UploadService/InitiateUpload": WRITERS,
    "/crease.upload.v1.UploadService/SignParts": WRITERS,
    "/crease.upload.v1.UploadService/ListParts": WRITERS,
    "/crease.upload.v1.UploadService/CompleteUpload": WRITERS,
    "/crease.upload.v1.UploadService/AbortUpload": WRITERS,
    "/crease.upload.v1.UploadService/SignDownload": READERS,
    "/crease.upload.v1.UploadService/SignLaunch": frozenset({"lease"}),
    "/crease.upload.v1.UploadService/ListOrphans": frozenset({"person"}),
    "/crease.upload.v1.OrphanService/ListOrphans": frozenset({"person"}),
    "/crease.upload.v1.SharedReportService/ReadShare": frozenset({"share"}),
}

"""The kinds of caller of each RPC of upload. jobs checks ownership, by the caller's own token."""

from services.authorization import Table

TABLE: Table = {
    "/crease.upload.v1.UploadService/GetUploadLimits": frozenset({"person"}),
    "/crease.upload.v1.UploadService/InitiateUpload": frozenset({"person"}),
    "/crease.upload.v1.UploadService/SignParts": frozenset({"person"}),
    "/crease.upload.v1.UploadService/ListParts": frozenset({"person"}),
    "/crease.upload.v1.UploadService/CompleteUpload": frozenset({"person"}),
    "/crease.upload.v1.UploadService/AbortUpload": frozenset({"person"}),
    "/crease.upload.v1.UploadService/SignDownload": frozenset({"person"}),
    "/crease.upload.v1.UploadService/SignLaunch": frozenset({"lease"}),
    "/crease.upload.v1.UploadService/ListOrphans": frozenset({"person"}),
    "/crease.upload.v1.SharedReportService/ReadShare": frozenset({"share"}),
}

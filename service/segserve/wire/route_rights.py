"""Who may call what: the right that each route of REST and of the frontends, and each method of gRPC, needs.

A route without a row here cannot be added: `wire.http.authentication.guard_routes` refuses it.
"""

from segserve.identity.rights import NO_RIGHTS, Right

# For everybody, without a key. Nothing of anybody is there.
OPEN = NO_RIGHTS
# Of tools that send the image with each prompt.
SEND_AND_SEGMENT = Right.UPLOAD | Right.SEGMENT
SEND_AND_TRACK = Right.UPLOAD | Right.SEGMENT | Right.JOBS

Rows = dict[tuple[str, str], Right]


def rows(right: Right, method: str, *paths: str) -> Rows:
    return {(method, path): right for path in paths}


OPERATION: Rows = {
    **rows(OPEN, "GET", "/livez", "/readyz"),
    **rows(Right.METRICS, "GET", "/metrics"),
    **rows(Right.READ, "GET", "/version"),
}
# The page and the reference are the same for all. What they show of a tenant, they fetch from the routes below.
PAGES: Rows = rows(
    OPEN,
    "GET",
    "/",
    "/clients/{digest}/{path:path}",
    "/docs",
    "/openapi.json",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
    "/docs/favicon-32x32.png",
)
IMAGE_OPERATIONS = ("segment", "segment.png", "automatic", "similar", "semantic", "instances")
API: Rows = {
    **rows(Right.UPLOAD, "POST", "/v1/images", "/v1/files", "/v1/uploads"),
    **rows(Right.UPLOAD, "POST", "/v1/uploads/{upload_id}/complete"),
    **rows(Right.UPLOAD, "DELETE", "/v1/uploads/{upload_id}"),
    **rows(
        Right.READ,
        "GET",
        "/v1/images/{image_id}",
        "/v1/images/{image_id}/preview",
        "/v1/images/{image_id}/embedding",
        "/v1/images/{image_id}/tiles/{level}/{x}/{y}",
        "/v1/files/{file_id}",
        "/v1/files/{file_id}/url",
        "/v1/files/{file_id}/frames/{frame}",
        "/v1/login",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/events",
        "/v1/jobs/{job_id}/results",
        "/v1/usage",  # of other tenants: operators only
        "/v1/models",
        "/v1/models/{model}",
        "/v1/models/{model}/decoder",
        "/v1/models/{model}/decoder.onnx",
        "/v1/models/{model}/decoder/{graph}",
    ),
    # Whoever sends a key there, or lets the browser forget a login, has none yet, or none any more.
    **rows(OPEN, "POST", "/v1/login"),
    **rows(OPEN, "DELETE", "/v1/login"),
    **rows(OPEN, "GET", "/v1/login/issuers", "/v1/login/issuers/{issuer}/callback"),
    **rows(OPEN, "POST", "/v1/login/issuers/{issuer}"),
    # A link may do no more than to read what its maker may read.
    **rows(Right.READ, "POST", "/v1/links"),
    **rows(Right.OPERATE, "GET", "/v1/tenants", "/v1/tenants/{tenant}"),
    **rows(Right.OPERATE, "DELETE", "/v1/tenants/{tenant}"),
    **rows(Right.DELETE, "DELETE", "/v1/images/{image_id}", "/v1/files/{file_id}"),
    **rows(
        Right.SEGMENT,
        "POST",
        *(f"/v1/{operation}" for operation in IMAGE_OPERATIONS),
        *(f"/v1/images/{{image_id}}/{operation}" for operation in IMAGE_OPERATIONS),
    ),
    **rows(Right.UPLOAD, "POST", "/v1/files/{file_id}/labels"),
    **rows(Right.JOBS, "POST", "/v1/jobs", "/v1/jobs/{job_id}/prompts", "/v1/jobs/{job_id}/retry"),
    **rows(Right.JOBS, "DELETE", "/v1/jobs/{job_id}"),
}

OPEN_INFERENCE_MODELS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
OPEN_INFERENCE: Rows = {
    **rows(OPEN, "GET", "/v2/health/live", "/v2/health/ready"),
    **rows(
        Right.READ,
        "GET",
        "/v2",
        "/v2/models/stats",
        *(
            f"{model}{path}"
            for model in OPEN_INFERENCE_MODELS
            for path in ("", "/ready", "/config", "/stats")
        ),
    ),
    **rows(Right.READ, "POST", "/v2/repository/index"),
    **rows(SEND_AND_SEGMENT, "POST", *(f"{model}/infer" for model in OPEN_INFERENCE_MODELS)),
}
X_ANYLABELING: Rows = {
    **rows(
        Right.READ,
        "GET",
        "/x-anylabeling/health",
        "/x-anylabeling/v1/models",
        "/x-anylabeling/v1/models/{model}/info",
    ),
    **rows(SEND_AND_SEGMENT, "POST", "/x-anylabeling/v1/predict"),
    **rows(
        SEND_AND_TRACK,
        "POST",
        "/x-anylabeling/v1/video/init",
        "/x-anylabeling/v1/video/prompt",
        "/x-anylabeling/v1/video/propagate/stream",
        "/x-anylabeling/v1/video/cleanup/{session_id}",
    ),
}
QUPATH: Rows = {
    **rows(Right.READ, "GET", "/sam/version/", "/sam/weights/", "/sam/weights/cancel/", "/sam/progress/"),
    **rows(Right.READ, "POST", "/sam/weights/"),  # answers that nothing is downloaded
    **rows(SEND_AND_SEGMENT, "POST", "/sam/", "/sam/automask/"),
    **rows(SEND_AND_TRACK, "POST", "/sam/upload/", "/sam/video/"),
}
LABEL_STUDIO: Rows = {
    key: right
    for prefix in ("/label-studio", "/label-studio/{model}")
    for key, right in {
        **rows(Right.READ, "GET", prefix, f"{prefix}/", f"{prefix}/health", f"{prefix}/versions"),
        **rows(
            SEND_AND_TRACK,
            "POST",
            f"{prefix}/setup",
            f"{prefix}/predict",
            f"{prefix}/webhook",
            f"{prefix}/delete",
        ),
    }.items()
}
CVAT: Rows = {
    **rows(Right.READ, "GET", "/cvat/api/functions", "/cvat/api/functions/{function_id}"),
    **rows(SEND_AND_SEGMENT, "POST", "/cvat/api/function_invocations", "/cvat/"),
}
ISAT: Rows = {
    **rows(Right.READ, "GET", "/isat/api/info"),
    **rows(SEND_AND_SEGMENT, "POST", "/isat/api/encode"),
}
NNINTERACTIVE: Rows = {
    **rows(OPEN, "GET", "/nninteractive/healthz"),
    **rows(Right.READ, "GET", "/nninteractive/capabilities", "/nninteractive/lease_status"),
    **rows(
        SEND_AND_TRACK,
        "POST",
        *(
            f"/nninteractive/{path}"
            for path in (
                "claim",
                "release",
                "heartbeat",
                "set_image",
                "set_target_buffer",
                "set_do_autozoom",
                "reset_interactions",
                "undo",
                "predict",
                "add_point_interaction",
                "add_bbox_interaction",
                "add_scribble_interaction",
                "add_lasso_interaction",
                "add_initial_seg_interaction",
            )
        ),
    ),
}
NNINTERACTIVE |= {
    (method, path.replace("/nninteractive/", "/nninteractive/models/{model}/")): right
    for (method, path), right in NNINTERACTIVE.items()
}


def with_and_without_slash(table: Rows) -> Rows:
    """Return rows for paths with and without a slash at their end: clients of MONAI Label send either."""
    return table | {(method, path.removesuffix("/")): right for (method, path), right in table.items()}


MONAI: Rows = with_and_without_slash(
    {
        # A client learns from the first that it has to log in, and gets its token, which is the key, by the second.
        **rows(OPEN, "GET", "/monai/auth/"),
        **rows(OPEN, "POST", "/monai/auth/token"),
        **rows(
            Right.READ,
            "GET",
            "/monai/auth/token/valid",
            "/monai/info/",
            "/monai/batch/infer",
            "/monai/session/{session_id}",
            "/monai/datastore/",
            "/monai/datastore/image",
            "/monai/datastore/image/info",
            "/monai/datastore/label",
            "/monai/datastore/label/info",
            "/monai/train/",
            "/monai/scoring/",
            "/monai/logs/",
        ),
        # The last two answer that nothing trains and nothing is scored.
        **rows(Right.READ, "POST", "/monai/activelearning/{strategy}"),
        **rows(Right.READ, "POST", "/monai/train/", "/monai/train/{model}"),
        **rows(Right.READ, "POST", "/monai/scoring/", "/monai/scoring/{method}"),
        **rows(Right.READ, "DELETE", "/monai/train/"),
        **rows(SEND_AND_TRACK, "POST", "/monai/infer/{model}", "/monai/batch/infer/{model}"),
        **rows(SEND_AND_TRACK, "DELETE", "/monai/batch/infer"),
        **rows(SEND_AND_TRACK, "PUT", "/monai/session/"),
        **rows(SEND_AND_TRACK, "DELETE", "/monai/session/{session_id}"),
        **rows(
            Right.UPLOAD,
            "PUT",
            "/monai/datastore/",
            "/monai/datastore/image",
            "/monai/datastore/image/info",
            "/monai/datastore/label",
            "/monai/datastore/label/info",
            "/monai/datastore/updatelabelinfo",
        ),
        **rows(
            Right.DELETE,
            "DELETE",
            "/monai/datastore/",
            "/monai/datastore/image",
            "/monai/datastore/label",
        ),
    }
)

ROUTE_RIGHTS: Rows = {
    **OPERATION,
    **PAGES,
    **API,
    **OPEN_INFERENCE,
    **X_ANYLABELING,
    **QUPATH,
    **LABEL_STUDIO,
    **CVAT,
    **ISAT,
    **NNINTERACTIVE,
    **MONAI,
}


def methods(right: Right, service: str, *names: str) -> dict[str, Right]:
    return {f"/{service}/{name}": right for name in names}


METHOD_RIGHTS: dict[str, Right] = {
    **methods(Right.UPLOAD, "segserve.v1.SegmentationService", "UploadImage"),
    **methods(Right.READ, "segserve.v1.SegmentationService", "GetImage", "GetEmbedding", "ListModels"),
    **methods(Right.DELETE, "segserve.v1.SegmentationService", "DeleteImage"),
    **methods(
        Right.SEGMENT,
        "segserve.v1.SegmentationService",
        "Segment",
        "Automatic",
        "Similar",
        "Semantic",
        "Instances",
    ),
    **methods(Right.UPLOAD, "segserve.v1.FileService", "UploadFile", "ReadLabels"),
    **methods(Right.READ, "segserve.v1.FileService", "GetFile"),
    **methods(Right.DELETE, "segserve.v1.FileService", "DeleteFile"),
    **methods(Right.READ, "segserve.v1.JobService", "GetJob", "ListJobs", "WatchJob", "ReadResults"),
    **methods(
        Right.JOBS, "segserve.v1.JobService", "SubmitJob", "CancelJob", "DeleteJob", "AddPrompts", "RetryJob"
    ),
    **methods(Right.READ, "segserve.v1.UsageService", "ReadUsage"),  # of other tenants: operators only
    # Of encoder workers, which API and job workers call for every tenant. Networks and mutual TLS say who reaches them.
    **methods(OPEN, "segserve.v1.EncoderService", "Encode"),
    **methods(OPEN, "inference.GRPCInferenceService", "ServerLive", "ServerReady"),
    **methods(
        Right.READ,
        "inference.GRPCInferenceService",
        "ServerMetadata",
        "ModelReady",
        "ModelMetadata",
        "ModelConfig",
        "ModelStatistics",
        "RepositoryIndex",
    ),
    **methods(SEND_AND_SEGMENT, "inference.GRPCInferenceService", "ModelInfer", "ModelStreamInfer"),
    # gRPC's own: what is asked before a call, by load balancers and by tools. Reflection is the reference, as /docs.
    **methods(OPEN, "grpc.health.v1.Health", "Check", "List", "Watch"),
    **methods(OPEN, "grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
}

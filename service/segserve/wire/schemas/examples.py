"""Examples of the JSON of requests and answers, by the name of their schema; the reference shows them.

The image_id is that of examples/nuclei.png: the requests work as they are once that picture is uploaded.
"""

from typing import Any

from segserve.wire.schemas.common import EXAMPLE_IMAGE_ID

FILE_ID = "ba789b7dd22c8f0c4e307f40914d0c30e815c5e369b6af5e321b607cc348a829"
JOB_ID = "DFygNIMLEDzOa6q3"
UPLOAD_ID = "q3Vn0c2bXk1mTzA9"
IMAGE = {
    "image_id": EXAMPLE_IMAGE_ID,
    "width": 696,
    "height": 520,
    "page": 0,
    "pages": 1,
    "hints": [],
    "tiles": {"size": 512, "levels": 2},
}
ANSWER = {"image_id": EXAMPLE_IMAGE_ID, "model": "starter", "width": 696, "height": 520}
COUNTS = (
    "leR6<k?4K5I5M3N2M3N1N3M3M3N1O1O2O0O1O101N001O100O10O010000O0100O100O010O101O0O100O1O2N1O1O2N2N1O2N2N2N1N3N2M4L3M5K"
    "5JdZR4"
)
MASK = {"size": [520, 696], "counts": COUNTS}
OBJECT = {"mask": MASK, "box": [383, 165, 439, 223], "area": 2323, "score": 0.933, "class": None}
COCO = {
    "images": [{"id": 1, "file_name": EXAMPLE_IMAGE_ID, "width": 696, "height": 520}],
    "categories": [{"id": 1, "name": "nucleus"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "segmentation": MASK,
            "bbox": [383, 165, 56, 58],
            "area": 2323,
            "iscrowd": 0,
        }
    ],
}
CLASSES = [{"value": 1, "class": "nucleus", "area": 61022, "fraction": 0.1686}]
MODEL = {
    "name": "starter",
    "kind": "sam",
    "architecture": "starter-conv",
    "input_size": 512,
    "low_res": 128,
    "automatic": ["ais", "amg"],
    "prompts": ["points", "boxes"],
    "engines": ["projection"],
    "classes": None,
    "suits": ["nuclei", "cells"],
    "description": "Small SAM-type model for nuclei, cells and blob-like objects; the example that ships with segserve",
    "licence": "Apache-2.0",
    "source": "trained from zero by training/train.py on CC0 nuclei and drawn scenes",
    "digest": "e3176c48ed87ec3be6a9973bbc05302b33c40626999e36f956fcfb8e00d0403e",
    "loaded": True,
    "default": True,
}
DECODER = {
    "model": "starter",
    "digest": MODEL["digest"],
    "kind": "sam",
    "input_size": 512,
    "resize": "pad",
    "low_res": 128,
    "masks": [0, 1, 2, 3],
    "mask_threshold": 0.0,
    "fold_below_points": 10,
    "graphs": [
        {
            "name": "prepare.onnx",
            "bytes": 330814,
            "sha256": "c489d84a082b231570b9301b09f5399bf12940565d5648b3b78acaf4e1cbebc0",
        }
    ],
}
JOB = {
    "job_id": JOB_ID,
    "kind": "batch",
    "model": "starter",
    "priority": "batch",
    "state": "running",
    "progress": {"done": 64, "total": 1000, "failed": 0, "rate_per_s": 8.2, "eta_s": 114.1},
    "object_ends": {"count": 0, "latest": []},
    "attempts": 1,
    "error": None,
    "created_at": "2026-11-28T09:00:00.302+00:00",
    "started_at": "2026-11-28T09:00:00.410+00:00",
    "ended_at": None,
}
CLICK = {"points": [[413, 190]]}
TRACKED = {"object_id": 1, "prompts": [{"frame": 5, "points": [[55, 57]]}]}
LABEL = {"object_id": 1, "name": "Liver", "mask": MASK, "box": OBJECT["box"], "area": OBJECT["area"]}
ORGAN = {"object_id": 1, "prompts": [{"slice": 41, "box": [100, 60, 180, 140]}]}
TENANT = {
    "tenant": "lab-a",
    "state": "active",
    "quota_bytes": 500_000_000_000,
    "max_images": 0,
    "max_jobs": 20,
    "retention_days": 90,
    "stored_bytes": 1_073_741_824,
    "active_jobs": 0,
}
USED = {
    "encoded_images": 120,
    "encode_seconds": 43.2,
    "clicks": 3410,
    "automatic_images": 12,
    "similar_images": 3,
    "semantic_images": 0,
    "instances_images": 0,
    "job_seconds": 1804.5,
}

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "FetchImageIn": [{"url": "https://example.org/cells.png"}],
    "FetchFileIn": [
        {"dicomweb": {"url": "https://pacs.example.org/dicom-web", "study": "1.2.840.113619.2.1"}}
    ],
    "BeginUploadIn": [{"size": 201_000_000, "sha256": FILE_ID}],
    "SegmentIn": [{"image_id": EXAMPLE_IMAGE_ID, "prompts": [CLICK]}],
    "AisIn": [{"image_id": EXAMPLE_IMAGE_ID, "method": "ais", "format": "rle"}],
    "ModelsMethodIn": [{"image_id": EXAMPLE_IMAGE_ID, "format": "rle"}],
    "AmgIn": [{"image_id": EXAMPLE_IMAGE_ID, "method": "amg", "params": {"points_per_side": 16}}],
    "SimilarIn": [{"image_id": EXAMPLE_IMAGE_ID, "examples": [CLICK]}],
    "SemanticIn": [{"image_id": EXAMPLE_IMAGE_ID, "format": "polygon"}],
    "InstancesIn": [{"image_id": EXAMPLE_IMAGE_ID, "classes": ["person"], "score_threshold": 0.7}],
    "BatchIn": [
        {
            "kind": "batch",
            "input": {"image_ids": [EXAMPLE_IMAGE_ID], "names": ["nuclei"]},
            "params": {"operation": "automatic", "options": {"method": "ais"}},
        }
    ],
    "VideoIn": [{"kind": "video", "input": {"file_id": FILE_ID}, "params": {"objects": [TRACKED]}}],
    "VolumeIn": [{"kind": "volume", "input": {"file_id": FILE_ID}, "params": {"objects": [ORGAN]}}],
    "TrackingIn": [{"kind": "tracking", "input": {"file_id": FILE_ID}}],
    "AddPromptsIn": [{"objects": [{"object_id": 1, "prompts": [{"frame": 9, "points": [[60, 61]]}]}]}],
    "ImageOut": [IMAGE],
    "SegmentOut": [
        {
            **ANSWER,
            "results": [
                {
                    "masks": [
                        {
                            "mask": MASK,
                            "score": 0.933,
                            "box": [383, 165, 439, 223],
                            "area": 2323,
                            "removed_parts": 0,
                            "filled_holes": 0,
                            "mask_id": "e3176c48ed87-a629ccc4d206dbf6aa27dafc",
                        }
                    ]
                }
            ],
        }
    ],
    "ObjectsOut": [{**ANSWER, "objects": [OBJECT]}],
    "CocoOut": [COCO],
    "SimilarOut": [{**ANSWER, "objects": [{**OBJECT, "likeness": 0.996, "example": False}]}],
    "SemanticOut": [
        {**ANSWER, "model": "starter-unet", "classes": CLASSES, "objects": [{**OBJECT, "class": "nucleus"}]}
    ],
    "SemanticCocoOut": [{**COCO, "classes": CLASSES}],
    "FileOut": [
        {
            "file_id": FILE_ID,
            "kind": "frames",
            "format": "tiff",
            "frames": 20,
            "width": 192,
            "height": 160,
            "fps": None,
            "spacing": None,
            "axes": [{"axis": 0, "frames": 20, "width": 192, "height": 160}],
            "contents": [],
            "left_out": {"count": 0, "files": []},
        }
    ],
    "UploadOut": [
        {
            "upload_id": UPLOAD_ID,
            "parts": [
                {
                    "offset": 0,
                    "size": 128_000_000,
                    "url": "https://bucket.s3.example.org/00001?X-Amz-Signature=1f",
                },
                {
                    "offset": 128_000_000,
                    "size": 73_000_000,
                    "url": "https://bucket.s3.example.org/00002?X-Amz-Signature=2e",
                },
            ],
            "headers": {},
            "expires_at": 1795885200.5,
        }
    ],
    "SignedUrlOut": [
        {"url": "https://bucket.s3.example.org/bytes?X-Amz-Signature=3d", "expires_at": 1795885200.5}
    ],
    "LabelsOut": [
        {
            "axis": 0,
            "width": 696,
            "height": 520,
            "slices": [{"slice": 41, "objects": [LABEL]}],
        }
    ],
    "JobOut": [JOB],
    "JobsOut": [{"jobs": [JOB]}],
    "ModelOut": [MODEL],
    "ModelsOut": [{"models": [MODEL]}],
    "DecoderOut": [DECODER],
    "LoginIn": [{"key": "segserve_3f9a1c0b7d2e_6b1f..."}],
    "IdentityOut": [
        {
            "tenant": "lab-a",
            "role": "annotator",
            "name": "anna",
            "asks_for_keys": True,
            "expires_at": 1795000000.0,
        }
    ],
    "SignInIssuersOut": [{"issuers": [{"name": "Keycloak"}]}],
    "SignInOut": [
        {"url": "https://login.example.org/realms/lab/protocol/openid-connect/auth?response_type=code&..."}
    ],
    "LinkIn": [{"path": f"/v1/images/{EXAMPLE_IMAGE_ID}", "expires_s": 600}],
    "LinkOut": [{"link": "eyJlIjox...", "expires_at": 1795000000.0}],
    "LiveOut": [{"status": "alive"}],
    "VersionOut": [{"version": "0.2.0"}],
    "ReadyOut": [{"status": "ready", "checks": {"models": "ok", "cache": "ok"}}],
    "TenantOut": [TENANT],
    "TenantsOut": [{"tenants": [TENANT]}],
    "UsageOut": [
        {
            "first_day": "2026-11-01",
            "last_day": "2026-11-30",
            "tenants": [
                {
                    "tenant": "lab-a",
                    "total": USED,
                    "days": [{"day": "2026-11-28", **USED, "stored_bytes": 1_073_741_824}],
                }
            ],
        }
    ],
    "ProblemOut": [
        {
            "type": "urn:segserve:problem:image_not_found",
            "title": "Image not found",
            "status": 404,
            "detail": "There is no image 'nope'.",
            "field": "image_id",
            "remedy": "Upload it with POST /v1/images and use the image_id of the answer.",
        }
    ],
}

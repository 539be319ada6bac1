"""A trained network for BoxMOT, whose trackers run ReID networks as ONNX files and normalise crops in their own way.

BoxMOT 25 does the following (`boxmot/reid` in its package):

- It cuts boxes out of a BGR frame as `crop_boxes` does, and resizes the crops to the height and width of the file's
  input with OpenCV's bilinear interpolation. It turns BGR into RGB, divides by 255, and normalises with ImageNet's mean
  and deviation.
- The file has one input, (B, 3, H, W) float32 with B free, of any name (`images` where OpenCV runs the file). Its first
  output is the feature (B, D), which BoxMOT divides by its length.
- The suffix `.onnx` selects ONNX Runtime. Nothing else in the name matters, since height and width are in the file.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svllreid.embedding.torch import TorchEmbedder
from svllreid.errors import OutputError
from svllreid.files import atomic_write, user_path

INPUT, OUTPUT = "images", "features"
OPSET = 18
MIN_COSINE = 0.9999
"""Below this cosine of an image's features with those of PyTorch, a file is not written."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BoxmotNetwork(nn.Module):
    """A network that takes images as BoxMOT normalises them, and returns the features that `Encoder` gives.

    BoxMOT knows no cameras, so no side information is added. Arithmetic is that of the input.

    Args:
        embedder: the trained network with its settings, on any device.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, embedder: TorchEmbedder) -> None:
        super().__init__()
        self.model, self.after_neck = embedder.model, embedder.neck == "after"
        self.normalize, self.flip = embedder.normalize, embedder.flip
        mean, std, theirs, deviation = (
            torch.tensor(values, dtype=torch.float64)[:, None, None]
            for values in (embedder.transform.mean, embedder.transform.std, IMAGENET_MEAN, IMAGENET_STD)
        )  # (3, 1, 1) each
        self.register_buffer("scale", (deviation / std).float().to(embedder.device))
        self.register_buffer("shift", ((theirs - mean) / std).float().to(embedder.device))

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, 3, H, W) in RGB, normalised with ImageNet's mean and deviation."""
        images = images * self.scale + self.shift
        return self.model.embed(images, after_neck=self.after_neck, normalize=self.normalize, flip=self.flip)


def boxmot_module(embedder: TorchEmbedder) -> BoxmotNetwork:
    """The network to export for BoxMOT, in eval mode.

    >>> import svllreid
    >>> from svllreid.data.transforms import TestTransform
    >>> config = svllreid.load_config("person/tiny_svllreid.yml")
    >>> model = svllreid.build_model(config, num_classes=2)  # instead of a trained one
    >>> transform = TestTransform((96, 48), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> network = boxmot_module(TorchEmbedder(model, transform, torch.device("cpu")))
    >>> with torch.inference_mode():
    ...     tuple(network(torch.zeros(2, 3, 96, 48)).shape)
    (2, 384)

    Args:
        embedder: the trained network with its settings; its neck is `before` or `after`.
    Raises: ValueError: the embedder gives the joint features of stage 1, which are not for comparing images.
    """
    if embedder.neck == "joint":
        raise ValueError("trackers compare the features before or after the neck, not the joint ones")
    return BoxmotNetwork(embedder).eval()


def check_boxmot_name(path: Path) -> None:
    """Checks that BoxMOT will run a file of this name with ONNX Runtime.

    Raises: OutputError: the suffix is not `.onnx`, by which alone BoxMOT knows what a file is.
    """
    if path.suffix.lower() != ".onnx":
        raise OutputError(f"{path}: BoxMOT knows an ONNX file by its suffix; name a file that ends in .onnx")


def write_boxmot(embedder: TorchEmbedder, file: str | Path) -> float:
    """Writes the ONNX file of a trained network for BoxMOT, if ONNX Runtime computes the same features with it.

    Args:
        embedder: the network with its settings, on the CPU, such as `Encoder.load(path, device="cpu").embedder`.
        file: what is written, atomically; its name ends in `.onnx`.
    Returns: the smallest cosine between features by ONNX Runtime and by PyTorch, of random images.
    Raises: OutputError: another suffix, a library is missing, the features differ, or the file cannot be written.
    """
    path = user_path(file)
    check_boxmot_name(path)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - which torch.onnx imports
    except ImportError as error:
        raise OutputError(
            f"{path} cannot be written without {error.name}; install onnx, onnxscript and onnxruntime"
        ) from None
    network, (height, width) = boxmot_module(embedder), embedder.spec.image_size
    images = torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(0))
    content = _onnx_file(network, images, path)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    features = torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])
    with torch.inference_mode():
        cosine = float(F.cosine_similarity(features, network(images)).min())
    if not cosine >= MIN_COSINE:
        raise OutputError(
            f"{path} is not written: the cosine of its features with those of PyTorch is {cosine:.6f}, less than "
            f"{MIN_COSINE}; try another version of PyTorch or ONNX Runtime"
        )
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return cosine


def _onnx_file(network: nn.Module, images: Tensor, path: Path) -> bytes:
    """The content of an ONNX file that takes any number of images like those given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own use of its functions
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: "batch"},),
            verbose=False,
        )
    if program is None:
        raise OutputError(f"{path}: PyTorch returned no ONNX model; export it with another version of PyTorch")
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        del part.metadata_props[:]  # names of source files on this machine
    return model.SerializeToString()

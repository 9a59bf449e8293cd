"""A spiking network as a file: tensors in safetensors, its graph as JSON in the header. Nothing in it is ever run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from .errors import FileError, InputError
from .files import write
from .graph import Graph
from .inputs import tensors
from .network import SpikingNet
from .spec import from_json, to_json

FORMAT = 1


def save(path: str | Path, net: SpikingNet) -> None:
    """Write a network to one safetensors file: tensors, and its graph as JSON in the header.

    The file is complete or not there: it is written under a temporary name and renamed.

    Raises InputError for what is no `SpikingNet`: of a compiled one, whose kernels belong to this machine, save `net`.
    """
    if not isinstance(net, SpikingNet):
        behind = isinstance(getattr(net, "net", None), SpikingNet)
        fast = "rheobase.save(path, fast.net), and rheobase.compile after loading"
        made = "rheobase.save(path, net), with a net of rheobase.convert or rheobase.spiking"
        raise InputError(
            f"a {type(net).__name__} is not saved",
            why="a file holds a spiking network, whatever machine will run it",
            instead=fast if behind else made,
        )
    graph = {
        "format": FORMAT,
        "nodes": to_json(net.graph_nodes),
        "output": net.output,
        "inputs": {name: list(shape) for name, shape in net.inputs.items()},
        "provenance": net.provenance,
    }
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in net.state_dict().items()}
    write(path, serialise(tensors, metadata={"rheobase": json.dumps(graph)}))


def load(path: str | Path) -> SpikingNet:
    """Read a network that `save` wrote. Nothing in the file is ever run: it holds tensors and JSON.

    Raises FileError if the file is missing, damaged, no network of this library or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"there is no file {str(path)!r}", instead="check the path")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FileError(
            f"{str(path)!r} is not a safetensors file: {error}",
            why="it is damaged, truncated, or a pickle, which can run code and is never loaded",
            instead="rheobase.save(path, net) writes files that load",
        ) from error
    if "rheobase" not in metadata:
        raise FileError(
            f"{str(path)!r} holds tensors but no spiking network",
            instead="rheobase.convert(...), then rheobase.save(...)",
        )
    data = _parsed(metadata["rheobase"], path)
    nodes: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        owner, key = name.removeprefix("nodes.").rsplit(".", 1)
        nodes.setdefault(owner, {})[key] = tensor
    inputs = {name: tuple(shape) for name, shape in data["inputs"].items()}
    graph = Graph(nodes=data["nodes"], output=_tupled(data["output"]), inputs=inputs, tensors=nodes)
    known = set(inputs)
    for node in graph.nodes:
        if not known.issuperset(node.inputs):
            raise FileError(f"{str(path)!r} is damaged: node {node.name!r} reads what no node before it makes")
        known.add(node.name)
    if not known.issuperset(tensors(graph.output)):
        raise FileError(f"{str(path)!r} is damaged: its output {graph.output!r} is no node")
    return SpikingNet(graph, data["provenance"]).eval()


def _tupled(output: Any) -> Any:
    """The structure of the answers, with tuples where JSON has lists."""
    return tuple(map(_tupled, output)) if isinstance(output, list) else output


def _parsed(text: str, path: Path) -> dict[str, Any]:
    """The header of a saved network, its nodes as specs."""
    try:
        data = json.loads(text)
        if data["format"] == FORMAT:
            parts = {name: data[name] for name in ("output", "inputs", "provenance")}
            return parts | {"nodes": tuple(from_json(node) for node in data["nodes"])}
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{str(path)!r} has a damaged header: {error!r}", instead="rheobase.save(path, net) writes files that load"
        ) from error
    raise FileError(f"{str(path)!r} has format {data['format']}, this version reads {FORMAT}")

"""A network as data: nodes of the closed vocabulary in order, and their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .inputs import each, named, tensors
from .spec import spec

INPUT = "input"
"""The name of the input of a network that has one."""


@spec
class Node:
    """One operation at one call site.

    name: the module path of the model, or the path of the module that calls a function; keys of `state_dict`.
    inputs: names of the nodes it reads. shape: of its output, without batch. source: the line of the model's code.
    """

    name: str
    op: Any
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    source: str = ""


@dataclass(frozen=True)
class Graph:
    """Nodes in the order they run, and `tensors[name]`, the weights of a node.

    output: the name of the node whose value is the answer, or a tuple or dict of names as the model answers. inputs:
    the shape of one sample of each input by its name.
    """

    nodes: tuple[Node, ...]
    output: Any
    inputs: dict[str, tuple[int, ...]]
    tensors: dict[str, dict[str, Tensor]]

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one sample of every value."""
        return self.inputs | {node.name: node.shape for node in self.nodes}

    def of(self, kind: type | tuple[type, ...]) -> Iterator[Node]:
        """The nodes whose op is of a kind, in order."""
        return (node for node in self.nodes if isinstance(node.op, kind))

    def readers(self, name: str) -> list[Node]:
        """The nodes that read `name`."""
        return [node for node in self.nodes if name in node.inputs]

    def __call__(self, x: Any, visit: Callable[[Node, list[Tensor], Tensor], None] | None = None) -> Any:
        """Run the source network on `[N, ...]`; `visit(node, inputs, output)` sees every node."""
        values = named(x, list(self.inputs))
        for node, done in zip(self.nodes, self.spent(), strict=True):
            xs = [values[name] for name in node.inputs]
            values[node.name] = node.op(self.tensors.get(node.name, {}), *xs)
            if visit:
                visit(node, xs, values[node.name])
            for name in done:
                del values[name]
        return each(values.__getitem__, self.output)

    def spent(self) -> list[list[str]]:
        """For each node the values that nothing needs any more once it has run."""
        last = {name: index for index, node in enumerate(self.nodes) for name in (*node.inputs, node.name)}
        for name in tensors(self.output):
            last.pop(name, None)
        return [[name for name, at in last.items() if at == index] for index in range(len(self.nodes))]

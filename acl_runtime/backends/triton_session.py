"""Run a bundle's network on a Triton server: the box prepares images and judges, the server computes.

A server is trusted once it has been seen to serve the bundle's own network, and to compute what was trained: the golden
images run through it, one at a time and as many as it takes. What the model is of stands in its configuration, which
`acl triton` wrote; its version is a number made of the network's hash, so that a server whose model is replaced by
another bundle's refuses the next call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np

from acl_runtime.backends.parity import check_parity
from acl_runtime.backends.triton_address import parse_address
from acl_runtime.backends.triton_client import SERVE_HINT, RefusedError, ServerGoneError, TritonClient
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.bundle.identity import network_sha256
from acl_runtime.files.errors import BackendError, InputError

NETWORK, COMPUTES, BUNDLE = "acl.network_sha256", "acl.computes", "acl.bundle_sha256"  # parameters of a model
TIME_LIMIT_S = 60.0  # of a call, where none is given
_VERSION_DIGITS = 7  # hexadecimal; versions are positive numbers


@dataclass(frozen=True)
class Served:
    """A model of the server.

    Attributes:
        name: As the server calls it.
        max_batch: Most images that it takes at once, and the bundle too.
        computes: What runs it there, as `acl triton` wrote, such as "onnxruntime on gpu, fp16".
    """

    name: str
    max_batch: int
    computes: str


class TritonSession:
    """A bundle's network on a Triton server: images in, arrays out; threads may share it.

    When the server was away, the next call looks at it again as if for the first time.

    Attributes:
        backend: "triton".
        provider: What computes there, as `acl triton` wrote, such as "acl on gpu, fp16".
    """

    def __init__(self, bundle: Bundle, address: str, *, time_limit_s: float | None = None) -> None:
        """Connect, and see that the network is the bundle's.

        Args:
            bundle: A checked bundle.
            address: `HOST[:PORT][/MODEL]` of the server's HTTP service.
            time_limit_s: Longest that the server may be silent in a call, in seconds; None for a minute.

        Raises:
            InputError: It is no address, or several models fit.
            BackendError: There is no server, it serves another network, or it does not compute what was trained.
        """
        self.backend = "triton"
        self._bundle, graph = bundle, bundle.manifest.graph
        self._network = network_sha256(bundle)
        self._input, self._outputs = graph.inputs[0].name, [output.name for output in graph.outputs]
        limit_s = TIME_LIMIT_S if time_limit_s is None else time_limit_s
        self._client = TritonClient(parse_address(address), time_limit_s=limit_s)
        self._served: Served | None = None
        try:
            self.provider = self._connect().computes
        except BaseException:
            self.close()
            raise

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on `images`, (B, S, S, 3) uint8 RGB."""
        try:
            return self._run(self._served or self._connect(), images)
        except ServerGoneError as error:
            self._served = None
            if not error.was_idle:
                raise
        except RefusedError:
            self._served = None
            self._connect()  # which says so if the model was exchanged
            raise
        return self._run(self._connect(), images)  # a connection may be closed because nobody used it

    def close(self) -> None:
        """Close the connections; a second time does nothing."""
        self._client.close()

    def _run(self, served: Served, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run it, as many images at once as the server takes."""
        version, name = str(version_of(self._network)), served.name
        starts = range(0, len(images), served.max_batch)
        batches = [images[start : start + served.max_batch] for start in starts]
        parts = [
            self._checked(self._client.infer(name, version, {self._input: batch}, self._outputs), len(batch))
            for batch in batches
        ]
        if len(parts) == 1:
            return parts[0]
        return {output: np.concatenate([part[output] for part in parts]) for output in self._outputs}

    def _checked(self, outputs: dict[str, np.ndarray], images: int) -> dict[str, np.ndarray]:
        for tensor in self._bundle.manifest.graph.outputs:
            found, wanted = outputs.get(tensor.name), (images, *tensor.shape[1:])
            if found is not None and found.shape == (*wanted, 1):  # Triton has no arrays of the batch alone
                found = outputs[tensor.name] = found.reshape(wanted)
            if found is None or found.dtype != np.float32 or found.shape != wanted:
                got = "none" if found is None else f"{found.shape} {found.dtype}"
                raise BackendError(
                    f"{self._client.address}: {tensor.name} must be {wanted} float32, got {got}; {_WRITE_AGAIN}"
                )
        return outputs

    def _connect(self) -> Served:
        """Find the bundle's network on the server, and see that it computes what was trained."""
        served = self._find()
        check_parity(
            partial(self._run, served),
            self._bundle,
            batches=sorted({1, served.max_batch}),
            who=f"{self._client.address}: model {served.name}",
        )
        self._served = served
        return served

    def _find(self) -> Served:
        address = self._client.address
        if address.model:
            return self._look_at(address.model)
        version = str(version_of(self._network))
        models = self._client.ask("v2/repository/index", {"ready": True})
        try:
            served = {(str(model["name"]), str(model.get("version"))) for model in models}
        except (KeyError, TypeError, AttributeError) as error:
            raise self._is_no_triton() from error
        names = sorted(name for name, theirs in served if theirs == version)
        found = [self._look_at(name) for name in names]
        if not found:
            others = ", ".join(sorted({name for name, _ in served})) or "nothing"
            raise BackendError(
                f"{address}: does not serve the network of {self._bundle.path}; it serves {others}; {_WRITE_AGAIN}"
            )
        if len(found) > 1:
            raise InputError(
                f"{address}: several models are of {self._bundle.path}: {', '.join(names)}; name one, as in "
                f"{address}/{names[0]}"
            )
        return found[0]

    def _look_at(self, name: str) -> Served:
        """A model of the server; BackendError unless its network is the bundle's."""
        address, version = self._client.address, version_of(self._network)
        try:
            config = self._client.ask(f"v2/models/{quote(name)}/versions/{version}/config")
        except RefusedError as error:
            try:
                self._client.ask(f"v2/models/{quote(name)}/config")
            except RefusedError:
                raise BackendError(f"{error}; name a model that the server has ready") from error
            raise self._is_anothers(name) from error
        try:
            network, computes = _parameter(config, NETWORK), _parameter(config, COMPUTES)
            max_batch = int(config.get("max_batch_size", 0))
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise self._is_no_triton() from error
        if network != self._network:
            raise self._is_anothers(name)
        if max_batch < 1:
            raise BackendError(f"{address}: model {name} takes no batches; {_WRITE_AGAIN}")
        return Served(name, min(max_batch, self._bundle.manifest.max_batch), computes)

    def _is_no_triton(self) -> BackendError:
        return BackendError(f"{self._client.address}: answers, but not as Triton does; {SERVE_HINT}")

    def _is_anothers(self, name: str) -> BackendError:
        return BackendError(
            f"{self._client.address}: model {name} is not the network of {self._bundle.path} but another bundle's; "
            f"{_WRITE_AGAIN}"
        )


_WRITE_AGAIN = "serve what acl triton writes of this bundle, or run the bundle that is served"


def version_of(digest: str) -> int:
    """The version that a model of a hash has on the server: a number from 1 on.

    >>> version_of("00000ff" + 57 * "0")
    256
    """
    return int(digest[:_VERSION_DIGITS], 16) + 1


def _parameter(config: Any, name: str) -> str:
    """A parameter of a model's configuration, as the server tells it; empty if it has none."""
    return str(config.get("parameters", {}).get(name, {}).get("string_value", ""))

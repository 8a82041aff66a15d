"""What is uploaded for a container: mounts, images and secrets.

Nothing is built: an image is its Dockerfile's lines, of which containers use ENV and copied mounts.
"""

# ruff: noqa: N802 - the methods bear the names of Modal's calls

from __future__ import annotations

import hashlib
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from grpclib import Status
from modal_proto import api_pb2
from tests.modal_double.apps import IMAGE_BUILDER_VERSION
from tests.modal_double.blobs import Blobs
from tests.modal_double.rpc import Caller, refused


@dataclass(frozen=True)
class Image:
    """What a container gets of an image, base images' lines first. `copied`: (mount id, target)."""

    commands: tuple[str, ...]
    copied: tuple[tuple[str, str], ...]

    @property
    def env(self) -> dict[str, str]:
        """What its ENV lines set, as far as they are of the form that Image.env() writes."""
        words = [shlex.split(line)[1:] for line in self.commands if line.startswith("ENV ")]
        pairs = [word.partition("=") for line in words for word in line if "$" not in word]
        return {name: value for name, _, value in pairs}


class UploadService:
    """Mounts (`mounts`: path → SHA-256, by id), images and secrets, by id."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        # By SHA-256: ids of blobs with the files' contents.
        self.contents: dict[str, str] = {}
        self.mounts: dict[str, dict[str, str]] = {}
        self.images: dict[str, Image] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self._named_secrets: dict[str, str] = {}

    def content(self, sha256: str) -> bytes:
        """A mounted file's bytes."""
        return self._blobs.blob(self.contents[sha256])

    # ------------------------------------------------------------ mounts

    async def MountBatchedCheckExistence(
        self, request: Any, _: Caller
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        missing = [one for one in request.sha256_hex_hashes if one not in self.contents]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def MountPutFile(self, request: Any, _: Caller) -> api_pb2.MountPutFileResponse:
        name = request.sha256_hex
        kind = request.WhichOneof("data_oneof")
        if kind is not None and name not in self.contents:
            blob_id = request.data_blob_id or self._blobs.keep(request.data)
            if hashlib.sha256(self._blobs.blob(blob_id)).hexdigest() != name:
                raise refused(Status.INVALID_ARGUMENT, "not the file that was announced")
            self.contents[name] = blob_id
        return api_pb2.MountPutFileResponse(exists=name in self.contents)

    async def MountGetOrCreate(self, request: Any, _: Caller) -> api_pb2.MountGetOrCreateResponse:
        # A mount by name is one of Modal's own, the client's code for instance.
        mount_id = f"mo-{uuid4().hex[:22]}"
        self.mounts[mount_id] = {file.filename: file.sha256_hex for file in request.files}
        listing = repr(sorted(self.mounts[mount_id].items())).encode()
        checksum = hashlib.sha256(listing).hexdigest()
        return api_pb2.MountGetOrCreateResponse(
            mount_id=mount_id,
            handle_metadata=api_pb2.MountHandleMetadata(content_checksum_sha256_hex=checksum),
        )

    # ------------------------------------------------------------ images

    async def ImageGetOrCreate(self, request: Any, _: Caller) -> api_pb2.ImageGetOrCreateResponse:
        definition = request.image
        below = [self.images[base.image_id] for base in definition.base_images]
        commands = [line for image in below for line in image.commands]
        copied = [pair for image in below for pair in image.copied]
        if definition.context_mount_id:
            copied += [
                (definition.context_mount_id, line.split()[2])
                for line in definition.dockerfile_commands
                if line.startswith("COPY . ")
            ]
        image = Image((*commands, *definition.dockerfile_commands), tuple(copied))
        known = hashlib.sha256(definition.SerializeToString(deterministic=True)).hexdigest()
        image_id = f"im-{known[:22]}"
        self.images[image_id] = image
        return api_pb2.ImageGetOrCreateResponse(image_id=image_id)

    async def ImageJoinStreaming(
        self, request: Any, _: Caller
    ) -> AsyncIterator[api_pb2.ImageJoinStreamingResponse]:
        if request.image_id not in self.images:
            raise refused(Status.NOT_FOUND, f"Image {request.image_id} not found")
        success = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
        metadata = api_pb2.ImageMetadata(image_builder_version=IMAGE_BUILDER_VERSION)
        yield api_pb2.ImageJoinStreamingResponse(
            result=success, metadata=metadata, eof=True, entry_id="1"
        )

    # ------------------------------------------------------------ secrets

    async def SecretGetOrCreate(self, request: Any, _: Caller) -> api_pb2.SecretGetOrCreateResponse:
        name = request.deployment_name
        secret_id = self._named_secrets.get(name, "")
        if not secret_id:
            if request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise refused(Status.NOT_FOUND, f"Secret '{name}' not found")
            secret_id = f"st-{uuid4().hex[:22]}"
            self.secrets[secret_id] = dict(request.env_dict)
            if name:
                self._named_secrets[name] = secret_id
        keys = sorted(self.secrets[secret_id])
        if absent := [key for key in request.required_keys if key not in keys]:
            raise refused(Status.NOT_FOUND, f"Secret is missing key(s): {', '.join(absent)}")
        return api_pb2.SecretGetOrCreateResponse(
            secret_id=secret_id, metadata=api_pb2.SecretMetadata(name=name, keys=keys)
        )

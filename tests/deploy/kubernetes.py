"""Kubernetes' own schemas, three versions of them, without a network."""

import json
from functools import cache

import kubernetes_validate

#: The newest Kubernetes whose schemas the package holds, and the two before.
VERSIONS = kubernetes_validate.utils.all_versions()[-3:]


@cache  # scenarios share most of their manifests
def validate(manifest: str) -> None:
    """Raises kubernetes_validate.ValidationError where a manifest, as JSON, is not valid in all of them."""
    for version in VERSIONS:
        assert kubernetes_validate.validate(json.loads(manifest), version, strict=True)

#!/bin/sh
# docker/sbom.sh TARGET FILE: the packages of an installed Jobcast as a CycloneDX document, by a tool of its own
# environment that is gone afterwards.
set -eu
target=$1
file=$2
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/python" -m pip --disable-pip-version-check --no-cache-dir --quiet install \
    --constraint constraints.txt cyclonedx-bom
"$tools/bin/cyclonedx-py" environment --output-reproducible --output-file "$file" "$target/bin/python"

#!/bin/sh
# docker/install.sh cpu|gpu TARGET: Jobcast in a virtual environment at TARGET, with nothing that only a build needs.
# Run where pyproject.toml lies. The Dockerfile runs it, and so does docker/check.sh without Docker.
# TORCH_INDEX: beside pip's own index, the one with torch's builds for CPUs.
set -eu
flavour=$1
target=$2
python=${PYTHON:-python3}

"$python" -m venv "$target"
pip() { "$target/bin/python" -m pip --disable-pip-version-check --no-cache-dir --quiet "$@"; }
packages=$("$target/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

case $flavour in
cpu)
    # torch first and alone: a range would let the resolver take a build with gigabytes of CUDA.
    torch=$(sed -n 's/^ *"\(torch==[^"]*\)",$/\1/p' pyproject.toml)
    pip install --no-compile --no-deps ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$torch"
    if grep -qs '^Requires-Dist: nvidia' "$packages"/torch-*.dist-info/METADATA; then
        echo "this build of $torch wants CUDA: say in TORCH_INDEX where its builds for CPUs are" >&2
        exit 1
    fi
    pip install --no-compile --constraint constraints.txt '.[remote,traces]'
    ;;
gpu)
    # vLLM pins what it needs, CUDA's libraries with it; constraints-vllm.txt is of its CPU build.
    pip install '.[vllm,traces]'
    ;;
*)
    echo "docker/install.sh: cpu or gpu, not $flavour" >&2
    exit 2
    ;;
esac

if [ "$flavour" = cpu ]; then
    # Headers, static libraries and tools to build against torch, and its test programs; it starts with one program alone.
    # Other packages have headers beside site-packages.
    rm -rf "$packages"/torch/include "$packages"/torch/share "$packages"/torch/test "$target"/include
    find "$packages"/torch/bin -mindepth 1 ! -name torch_shm_manager -delete
    find "$packages" -type f \( -name '*.a' -o -name '*.h' -o -name '*.hpp' \) -delete
fi
# The tests of packages; torch/testing and numpy/testing, which are imported, are not called so.
find "$packages" -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +
pip uninstall --yes setuptools
rm -rf "$packages"/pip "$packages"/pip-*.dist-info
# Of the commands that packages bring along, ours alone.
find "$target"/bin -mindepth 1 ! -name 'python*' ! -name jobcast -delete

if [ "$flavour" = cpu ]; then
    # Does it answer? Whatever that and the service import has its bytecode now, which the image's user cannot write;
    # bytecode of all packages would be 200 MB.
    cd /
    unset PYTHONDONTWRITEBYTECODE
    echo 'make test' | "$target/bin/jobcast" predict - --kind text --json >/dev/null
    "$target/bin/python" -c 'import app.main, app.supervisor, app.worker, app.cache.redis_store, model.engines.vllm.server'
    "$target/bin/python" -c 'import app.outcomes.book, aiosqlite, sqlalchemy.dialects.postgresql.psycopg, psycopg'
    "$target/bin/python" -c 'import opentelemetry.exporter.otlp.proto.http.trace_exporter, redis.asyncio, uvloop, httptools'
fi

#!/bin/sh
# docker/check.sh [DIRECTORY]: what the Dockerfile does, without Docker. Copies what its build may see, runs its own install
# script in an empty environment, starts the service from there, lists its packages, and says how large the image will be.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
directory=${1:-$(mktemp -d)}
service=
clean() {
    [ -z "$service" ] || kill "$service" 2>/dev/null || true
    [ "$kept" = yes ] || rm -rf "$directory"
}
kept=${1:+yes}
trap clean EXIT
port=$("${PYTHON:-python3}" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
# The largest that the image may be, and what its base takes on disk (docker-library/repo-info, python:3.11-slim-bookworm).
most=1200
base=130

mkdir -p "$directory/src"
directory=$(cd "$directory" && pwd)
cd "$root"
git ls-files -z app model docker/install.sh docker/sbom.sh pyproject.toml constraints.txt README.md |
    xargs -0 cp --parents --target-directory "$directory/src"
cd "$directory/src"
docker/install.sh cpu "$directory/jobcast"
docker/sbom.sh "$directory/jobcast" "$directory/sbom.json"
grep -q '"name": "torch"' "$directory/sbom.json"

if find "$directory/jobcast" -name pip -o -name setuptools -o -name '*.a' -o -name '*.h' | grep .; then
    echo "these are of use to builds only" >&2
    exit 1
fi

# As the image starts it: elsewhere than in the sources, with the same environment, and by a user who can write to /tmp
# alone, where that can be had.
cd /
chmod a+rx "$directory"
mkdir --mode=1777 "$directory/outcomes"
user=
as_user="setpriv --reuid 10001 --regid 10001 --clear-groups"
# By way of env, as below: setpriv itself may still open what the user cannot, such as a Python in the home of root.
if [ "$(id -u)" = 0 ] && $as_user env "$directory/jobcast/bin/python" -c '' 2>/dev/null; then
    user=$as_user
fi
$user env -i PATH="$directory/jobcast/bin" HOME=/tmp PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 \
    JOBCAST_DATABASE_URL="sqlite:///$directory/outcomes/outcomes.db" \
    "$directory/jobcast/bin/jobcast" serve --port "$port" >"$directory/log" 2>&1 &
service=$!
tries=0
until "$directory/jobcast/bin/python" -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$port/health/ready')" 2>/dev/null; do
    tries=$((tries + 1))
    if [ $tries -gt 120 ] || ! kill -0 $service; then
        cat "$directory/log" >&2
        exit 1
    fi
    sleep 1
done
"$directory/jobcast/bin/python" -c "import urllib.request as r; assert b'jobcast_database_up 1.0' in r.urlopen('http://127.0.0.1:$port/metrics').read()"
kill $service
# It ends by the signal once it has drained.
wait $service || [ $? = 143 ]
service=

size=$(du --summarize --apparent-size --block-size=1MB "$directory/jobcast" | cut -f1)
echo "started${user:+ as user 10001}"
echo "image: $((size + base)) MB, of which $base MB are its base; at most $most"
[ $((size + base)) -le $most ]

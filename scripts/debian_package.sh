#!/bin/sh
# scripts/debian_package.sh COMMAND PACKAGE: make sure that a command is there. Where it cannot be installed, the tests
# that need it are skipped and say so.
command -v "$1" >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install -qq -y --no-install-recommends "$2" >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$2"; } >/dev/null 2>&1
fi
command -v "$1" >/dev/null || echo "$1 is not here: install the package $2 to run the tests that need it"

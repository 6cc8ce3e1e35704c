#!/usr/bin/env bash
# Unpacks ONNX Runtime's C and C++ headers under DIR on Debian 12, which has no package of them. They are Debian 13's,
# from the mirror that apt uses. The script installs nothing and leaves apt's own lists as they are. The headers may be
# older than the library, since ONNX Runtime keeps its interface.
set -euo pipefail
test $# -eq 1 || { echo "usage: headers.sh DIR" >&2; exit 2; }
mkdir -p "$1/apt/lists/partial" "$1/apt/archives/partial"
dir=$(cd "$1" && pwd)
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 'Component: main' | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?apt knows no Debian mirror: run apt-get update} trixie main" \
  > "$dir/apt/sources.list"
apt() {
  apt-get -q -o Dir::Etc::SourceList="$dir/apt/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$dir/apt/lists" \
    -o Dir::Cache="$dir/apt" -o APT::Sandbox::User=root "$@"
}
apt update
(cd "$dir/apt" && apt download libonnxruntime-dev && dpkg-deb -x libonnxruntime-dev_*.deb "$dir")
rm -r "$dir/apt"
test -f "$dir/usr/include/onnxruntime/onnxruntime_cxx_api.h"

#!/usr/bin/env bash
# Runs run_onnxruntime.py on Debian x86-64 as on a 64-bit ARM device, to check the answers and not the speed.
# export/edge/arm64.sh ARTIFACT.onnx PHOTO [further options]
# The fetched packages stay in $ARM64_ROOT, by default ~/.cache/explainable-arm64.
set -euo pipefail
kit=$(cd "$(dirname "$0")" && pwd)
root=${ARM64_ROOT:-$HOME/.cache/explainable-arm64}
packages=(libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libuuid1
  python3.11-minimal libpython3.11-minimal libpython3.11-stdlib)

if [ ! -e "$root/complete" ]; then
  mkdir -p "$root"/{apt/lists/partial,debs,wheels}
  : > "$root/apt/status"
  foreign=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
    -o "Dir::State::Lists=$root/apt/lists" -o "Dir::State::status=$root/apt/status" -o "Dir::Cache=$root/apt")
  apt-get -qq "${foreign[@]}" update
  (cd "$root/debs" && apt-get -qq "${foreign[@]}" download "${packages[@]}" && apt-get -qq -o APT::Sandbox::User=root download qemu-user-static)
  for package in "$root"/debs/*.deb; do dpkg-deb -x "$package" "$root"; done
  pip download -q --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 -d "$root/wheels" numpy pillow onnxruntime
  for wheel in "$root"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$root/site"; done
  # ONNX Runtime reads the system's description of the processor when it is imported, and crashes on an x86-64 one
  cpu=$root/sys/devices/system/cpu
  mkdir -p "$root/proc" "$cpu/cpu0/topology"
  for file in possible present online kernel_max cpu0/topology/{core_id,physical_package_id,core_siblings_list}; do
    echo 0 > "$cpu/$file"
  done
  printf '%s\t: %s\n' processor 0 Features 'fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid' 'CPU implementer' 0x41 \
    'CPU architecture' 8 'CPU variant' 0x0 'CPU part' 0xd08 'CPU revision' 3 > "$root/proc/cpuinfo"
  touch "$root/complete"
fi
PYTHONPATH="$root/site" exec "$root/usr/bin/qemu-aarch64-static" -cpu cortex-a72 -L "$root" "$root/usr/bin/python3.11" \
  "$kit/run_onnxruntime.py" "$@" --emulated

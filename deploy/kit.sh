#!/bin/sh
# Makes an installation kit: one folder with install.sh, units, samples and every wheel, so that a device needs no network.
#
#   deploy/kit.sh [--arch amd64|arm64] [--python 3.11] [--out DIR]
#
# For another architecture or Python than this machine's nothing is compiled: all wheels are downloaded.
# The wheels are those of requirements.lock. OpenCV comes without its windows ("headless"): the agent opens none, and a
# device needs no libGL then.
set -eu
cd "$(dirname "$0")/.."

arch=$(dpkg --print-architecture 2>/dev/null || uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
python=3.11
out=
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
case $arch in
  amd64) machine=x86_64 ;;
  arm64) machine=aarch64 ;;
  *) echo "kit: no such architecture: $arch; amd64 or arm64" >&2; exit 2 ;;
esac
bin=.venv/bin
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' agent/__init__.py)
out=${out:-dist/tailkeeper-$version-$arch-py$python}

rm -rf "$out"
mkdir -p "$out/wheels" "$out/drop-ins"
pins=$out/requirements.txt
$bin/uv pip compile pyproject.toml --constraint requirements.lock --python-version "$python" \
  --python-platform "$machine-manylinux_2_28" --only-binary :all: --no-header --no-annotate --no-emit-index-url --quiet > "$pins"
tags=
for glibc in 17 24 26 27 28; do tags="$tags --platform manylinux_2_${glibc}_$machine"; done
# shellcheck disable=SC2086 # the tags are words
$bin/python -m pip download --quiet --no-deps --only-binary :all: --dest "$out/wheels" --requirement "$pins" \
  --python-version "$python" --implementation cp $tags --platform "manylinux2014_$machine" --platform any
$bin/python -m pip wheel --quiet --no-deps --wheel-dir "$out/wheels" .

cp deploy/install.sh deploy/agent.toml deploy/collector.toml deploy/*.service LICENSE "$out"
cp deploy/drop-ins/*.conf "$out/drop-ins"
echo "$out"

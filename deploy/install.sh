#!/bin/sh
# Installs Tailkeeper from a kit (see kit.sh) on a device; again: repairs or upgrades. Needs root, Python and no network.
#
#   ./install.sh [--wheels DIR] [--python PYTHON] [--jetson] [--drop-in NAME]...
#   ./install.sh --rollback      go back to the version that was there before
#   ./install.sh --uninstall     keeps configuration and spool; --purge removes them too
#
# Each version has an environment of its own in /opt/tailkeeper/releases; `current` and `previous` point at two of them.
# --jetson keeps the vendor's OpenCV, ONNX Runtime and NumPy, which know the GPU and the CSI cameras.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
opt=/opt/tailkeeper
units=/etc/systemd/system
wheels=$here/wheels python=python3 jetson= dropins= action=install

say() { echo "install: $*" >&2; }
die() { say "$*"; exit 1; }
systemd() { [ ! -d /run/systemd/system ] || systemctl "$@"; }

while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=$(cd "$2" && pwd) || die "no such folder: $2"; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --jetson) jetson=yes dropins="$dropins jetson"; shift ;;
    --drop-in) dropins="$dropins $2"; shift 2 ;;
    --rollback) action=rollback; shift ;;
    --uninstall) action=uninstall; shift ;;
    --purge) action=purge; shift ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
[ "$(id -u)" = 0 ] || die "root is needed: sudo $0"

# Point a link at a release in one step, so that a power cut leaves the old one or the new one.
point() { ln -sfn "$2" "$opt/.$1.new" && mv -T "$opt/.$1.new" "$opt/$1"; }

restart() {
  systemd daemon-reload
  systemd try-restart tailkeeper.service tailkeeper-collector.service
}

install_release() {
  wheel=$(ls "$wheels"/tailkeeper-*.whl 2>/dev/null | tail -n 1)
  [ -n "$wheel" ] || die "no tailkeeper wheel in $wheels; make a kit with deploy/kit.sh, or name one with --wheels"
  version=$(basename "$wheel" | cut -d- -f2)
  for name in $dropins; do
    [ -f "$here/drop-ins/$name.conf" ] || die "no such drop-in: $name; there are: $(ls "$here/drop-ins" | tr '\n' ' ')"
  done
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "Python 3.10 or newer is needed; see --python"
  "$python" -c 'import venv, ensurepip' 2>/dev/null || die "Python's venv is missing; apt-get install python3-venv"

  release=$opt/releases/$version
  old=$(readlink "$opt/current" 2>/dev/null || true)
  kit=$(cat "$wheels"/*.whl | sha256sum | cut -c1-64)
  mkdir -p "$opt/releases"
  if [ "$(cat "$release/kit" 2>/dev/null)" != "$kit" ] || ! "$release/bin/tailkeeper" --version >/dev/null 2>&1; then
    build "$release"
    echo "$kit" > "$release/kit"
  fi
  mkdir -p "$release/share/tailkeeper"
  cp "$here/agent.toml" "$here/collector.toml" "$here"/tailkeeper*.service "$release/share/tailkeeper"
  [ -z "$old" ] || [ "$old" = "releases/$version" ] || point previous "$old"
  point current "releases/$version"
  use_units
  for name in $dropins; do
    install -D -m 644 "$here/drop-ins/$name.conf" "$units/tailkeeper.service.d/$name.conf"
  done
  install -d -m 755 /etc/tailkeeper
  ln -sfn "$opt/current/bin/tailkeeper" /usr/local/bin/tailkeeper
  drop_old_releases
  restart
  say "tailkeeper $version is installed"
  [ -f /etc/tailkeeper/agent.toml ] || say "next: tailkeeper provision --broker HOST --camera NAME=SOURCE"
}

# Built where it will stay, since its scripts hold the path; `current` points at it only when it is whole.
build() {
  rm -rf "$1"
  options= files=
  for file in "$wheels"/*.whl; do
    case $jetson:$(basename "$file") in
      yes:opencv*|yes:onnxruntime*|yes:numpy*) ;;
      *) files="$files $file" ;;
    esac
  done
  [ -z "$jetson" ] || options=--system-site-packages
  # shellcheck disable=SC2086 # options and files are words; wheel names hold no spaces
  "$python" -m venv $options "$1" &&
    "$1/bin/python" -m pip install --quiet --no-index --no-deps --disable-pip-version-check $files &&
    "$1/bin/python" -c 'import cv2, onnxruntime, agent.cli' ||
    { rm -rf "$1"; die "the wheels in $wheels do not fit this machine ($("$python" -V), $(uname -m))${jetson:+, or the vendor's OpenCV or ONNX Runtime is missing}"; }
}

use_units() {
  install -m 644 -t "$units" "$opt"/current/share/tailkeeper/*.service
}

drop_old_releases() {
  for release in "$opt"/releases/*; do
    case releases/$(basename "$release") in
      "$(readlink "$opt/current")"|"$(readlink "$opt/previous" 2>/dev/null || echo -)") ;;
      *) rm -rf "$release" ;;
    esac
  done
}

rollback() {
  old=$(readlink "$opt/current") && new=$(readlink "$opt/previous") || die "there is no version to go back to"
  [ -x "$opt/$new/bin/tailkeeper" ] || die "there is no version to go back to"
  point current "$new"
  point previous "$old"
  use_units
  restart
  say "back to $("$opt/current/bin/tailkeeper" --version)"
}

uninstall() {
  systemd disable --quiet --now tailkeeper.service tailkeeper-clock.service tailkeeper-collector.service 2>/dev/null || true
  rm -rf "$opt" "$units/tailkeeper.service" "$units/tailkeeper-clock.service" "$units/tailkeeper-collector.service"
  [ "$(readlink /usr/local/bin/tailkeeper 2>/dev/null)" != "$opt/current/bin/tailkeeper" ] || rm /usr/local/bin/tailkeeper
  systemd daemon-reload
  if [ "$1" = purge ]; then
    rm -rf /etc/tailkeeper "$units/tailkeeper.service.d" "$units/tailkeeper-collector.service.d" \
      /var/lib/tailkeeper /var/lib/tailkeeper-collector /var/lib/private/tailkeeper /var/lib/private/tailkeeper-collector
    say "removed, with configuration and spool"
  else
    say "removed; configuration is in /etc/tailkeeper, spool and state in /var/lib/tailkeeper"
  fi
}

case $action in
  install) install_release ;;
  rollback) rollback ;;
  *) uninstall "$action" ;;
esac

#!/bin/sh
# Makes a Debian package from a kit: dist/tailkeeper_VERSION_ARCH.deb, with everything in it, for one Python version.
#
#   deploy/deb.sh [--arch amd64|arm64] [--python 3.11] [--kit DIR] [--out DIR]
#
# Python 3.11 is that of Debian 12 and its Raspberry Pi OS, 3.13 that of Debian 13. Without --kit one is made.
#
# It installs without network, pip or compiler: /opt/tailkeeper/current is an environment of the system's own Python.
set -eu
cd "$(dirname "$0")/.."

arch=$(dpkg --print-architecture) python=3.11 kit= out=dist
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --kit) kit=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
[ -n "$kit" ] || kit=$(deploy/kit.sh --arch "$arch" --python "$python" | tail -n 1)
version=$(basename "$kit"/wheels/tailkeeper-*.whl | cut -d- -f2)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

env=$root/opt/tailkeeper/current
packages=$env/lib/python$python/site-packages
case $arch in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; esac
mkdir -p "$env/bin" "$env/share" "$packages" "$root/usr/bin" "$root/lib/systemd/system" "$root/DEBIAN"
.venv/bin/uv pip install --quiet --no-index --no-deps --find-links "$kit/wheels" --target "$packages" \
  --python-platform "$machine-manylinux_2_28" --python-version "$python" --link-mode copy "$kit"/wheels/*.whl
rm -rf "$packages/bin" "$packages/.lock"

ln -s "/usr/bin/python$python" "$env/bin/python3"
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' "$python" > "$env/pyvenv.cfg"
cat > "$env/bin/tailkeeper" <<END
#!/opt/tailkeeper/current/bin/python3
import sys

from agent.__main__ import main

sys.exit(main())
END
chmod 755 "$env/bin/tailkeeper"
ln -s /opt/tailkeeper/current/bin/tailkeeper "$root/usr/bin/tailkeeper"
install -D -m 644 -t "$env/share/tailkeeper" "$kit/agent.toml" "$kit/collector.toml"
install -D -m 644 -t "$env/share/tailkeeper/drop-ins" "$kit"/drop-ins/*.conf
install -m 644 -t "$root/lib/systemd/system" "$kit"/*.service
install -D -m 644 LICENSE "$root/usr/share/doc/tailkeeper/copyright"

cat > "$root/DEBIAN/control" <<END
Package: tailkeeper
Version: $version
Architecture: $arch
Maintainer: The Tailkeeper authors <tailkeeper@localhost>
Section: misc
Priority: optional
Installed-Size: $(du -sk "$root" | cut -f1)
Depends: python$python, libstdc++6, ca-certificates
Description: keeps a detector's training set fed with the real frames it is worst at
 An agent for cameras that runs a YOLO model, picks the frames worth a label and
 delivers them over MQTT, and the collector that stores them.
END
cat > "$root/DEBIAN/preinst" <<'END'
#!/bin/sh
set -e
if [ -L /opt/tailkeeper/current ]; then
  echo "tailkeeper was installed with install.sh; remove that first: install.sh --uninstall (configuration and spool stay)" >&2
  exit 1
fi
END
cat > "$root/DEBIAN/postinst" <<END
#!/bin/sh
set -e
[ "\$1" = configure ] || exit 0
install -d -m 755 /etc/tailkeeper
python$python -m compileall -q /opt/tailkeeper/current/lib || true
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart tailkeeper.service tailkeeper-collector.service
fi
[ -f /etc/tailkeeper/agent.toml ] || echo "next: tailkeeper provision --broker HOST --camera NAME=SOURCE"
END
cat > "$root/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  systemctl disable --quiet --now tailkeeper.service tailkeeper-clock.service tailkeeper-collector.service || true
fi
find /opt/tailkeeper/current/lib -name __pycache__ -type d -prune -exec rm -rf {} +
END
cat > "$root/DEBIAN/postrm" <<'END'
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
if [ "$1" = purge ]; then
  rm -rf /etc/tailkeeper /etc/systemd/system/tailkeeper.service.d /etc/systemd/system/tailkeeper-collector.service.d \
    /var/lib/tailkeeper /var/lib/tailkeeper-collector /var/lib/private/tailkeeper /var/lib/private/tailkeeper-collector
fi
END
chmod 755 "$root"/DEBIAN/p*
deb=$out/tailkeeper_${version}_$arch-py$python.deb
dpkg-deb --root-owner-group -Zzstd --build "$root" "$deb" >&2
echo "$deb"
